"""Qwen2-VL's vision tower: native resolution, 2D rotary positions (arXiv 2409.12191)."""

from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from ..entry import EntryError
from .native import NativeEncoder, config_of, whole
from .resize import settings_of
from .sizes import Sizes, smart_sizes


class Qwen2VlEncoder(NativeEncoder):
    """Its patches before the merger: `patch_concat_mlp` merges 2 x 2 of them, as that does.

    A frame of a video is a still of its own.
    """

    options = ("model_config", "min_pixels", "max_pixels")
    model_type = "qwen2_vl_vision"
    prefixes = ("model.visual.", "visual.", "")
    unused = ("merger.",)

    def __init__(self, model_config: dict[str, Any], processor: dict[str, Any]):
        super().__init__(model_config, processor)
        from transformers.models.qwen2_vl.modeling_qwen2_vl import (
            Qwen2VisionTransformerPretrainedModel as Tower,
        )

        config = config_of(model_config)
        self.width = config.embed_dim
        self.model = Tower(config)
        del self.model.merger
        # no buffer of the module: half precision would lose positions
        rotary: Any = self.model.rotary_pos_emb
        frequencies = rotary.inv_freq.detach().clone()
        del rotary.inv_freq, rotary.original_inv_freq
        rotary.inv_freq = frequencies

    @staticmethod
    def used(config: dict[str, Any], height: np.ndarray, width: np.ndarray) -> Sizes:
        tower, size = config["model_config"], config["processor"]["size"]
        factor = tower["patch_size"] * tower["spatial_merge_size"]
        return smart_sizes(height, width, factor, size["shortest_edge"], size["longest_edge"])

    @staticmethod
    def rows(config: dict[str, Any], found: Any, grid: tuple[int, int]) -> torch.Tensor:
        """Undo the processor's order by blocks, and its copies of a still along time."""
        tower = config["model_config"]
        block, patch = tower["spatial_merge_size"], tower["patch_size"]
        rows, columns = (side // block for side in grid)
        cells = found["pixel_values"].view(
            rows, columns, block, block, tower["in_channels"], tower["temporal_patch_size"],
            patch, patch,
        )[..., 0, :, :]  # fmt: skip
        return cells.transpose(1, 2).flatten(0, 3).flatten(1)

    @classmethod
    def settings(cls, config: Any, stored: dict[str, Any] | None, **spec: Any) -> dict[str, Any]:
        from transformers import Qwen2VLImageProcessor

        settings = stored or settings_of(Qwen2VLImageProcessor(
            patch_size=config.patch_size, merge_size=config.spatial_merge_size,
            temporal_patch_size=config.temporal_patch_size,
        ))  # fmt: skip
        size = settings.get("size") or {}
        usual = Qwen2VLImageProcessor.size
        sides = {
            edge: whole(spec, option, size.get(edge) or usual[edge])
            for edge, option in (("shortest_edge", "min_pixels"), ("longest_edge", "max_pixels"))
        }
        if sides["shortest_edge"] > sides["longest_edge"]:
            raise EntryError(
                f"min_pixels is {sides['shortest_edge']}, more than max_pixels, "
                f"{sides['longest_edge']}", "encoder", "min_pixels",
            )  # fmt: skip
        return settings | {"size": sides}

    def encode(self, patches: torch.Tensor, grids: np.ndarray) -> torch.Tensor:
        model: Any = self.model
        kernel = model.patch_embed.proj.weight.sum(2)  # a still is the same at all times
        hidden = F.linear(patches.to(kernel.dtype), kernel.flatten(1))
        cells = grids.prod(axis=1)
        at = np.arange(cells.sum()) - np.repeat(np.cumsum(cells) - cells, cells)
        places = np.stack(np.divmod(at, np.repeat(grids[:, 1], cells)), axis=1)  # (cells, 2)
        places = torch.from_numpy(places).to(hidden.device, non_blocking=True)
        rotary = model.rotary_pos_emb(hidden, places)
        bounds = torch.from_numpy(np.concatenate([[0], np.cumsum(cells)]))  # the host reads them
        for block in model.blocks:
            hidden = block(hidden, cu_seqlens=bounds, position_embeddings=rotary)
        return hidden
