"""SigLIP2's NaFlex tower: a budget of patches in an image's own shape (arXiv 2502.14786)."""

from typing import Any

import numpy as np
import torch

from .native import NativeEncoder, config_of, whole
from .resize import settings_of
from .sizes import Sizes, budget_sizes


class NaflexEncoder(NativeEncoder):
    """Images of as many patches are run together, so none is padded."""

    options = ("model_config", "max_patches")
    model_type = "siglip2_vision_model"
    prefixes = ("vision_model.", "vision_model.vision_model.", "")
    unused = ("head.",)

    def __init__(self, model_config: dict[str, Any], processor: dict[str, Any]):
        super().__init__(model_config, processor)
        from transformers import Siglip2VisionModel

        config = config_of({**model_config, "vision_use_head": False})
        self.width = config.hidden_size
        self.model = Siglip2VisionModel(config)

    @staticmethod
    def used(config: dict[str, Any], height: np.ndarray, width: np.ndarray) -> Sizes:
        most = config["processor"]["max_num_patches"]
        return budget_sizes(height, width, config["model_config"]["patch_size"], most)

    @staticmethod
    def rows(config: dict[str, Any], found: Any, grid: tuple[int, int]) -> torch.Tensor:
        """Drop the processor's padding."""
        [shape] = found["spatial_shapes"].tolist()
        if tuple(shape) != grid:
            raise ValueError(f"it makes {shape[0]} x {shape[1]}")
        return found["pixel_values"][0, : grid[0] * grid[1]]

    @classmethod
    def settings(cls, config: Any, stored: dict[str, Any] | None, **spec: Any) -> dict[str, Any]:
        from transformers import Siglip2ImageProcessor as Processor

        settings = stored or settings_of(Processor(patch_size=config.patch_size))
        usual = settings.get("max_num_patches") or Processor.max_num_patches
        return settings | {"max_num_patches": whole(spec, "max_patches", usual)}

    def encode(self, patches: torch.Tensor, grids: np.ndarray) -> torch.Tensor:
        model: Any = self.model
        embedded = model.embeddings.patch_embedding(patches) + self._positions(grids)
        cells = grids.prod(axis=1)
        items = embedded.split(cells.tolist())
        found: list[Any] = [None] * len(items)
        for count in np.unique(cells):
            alike = np.flatnonzero(cells == count).tolist()
            hidden = model.encoder(torch.stack([items[i] for i in alike])).last_hidden_state
            for i, item in zip(alike, model.post_layernorm(hidden), strict=True):
                found[i] = item
        return torch.cat(found)

    def _positions(self, grids: np.ndarray) -> torch.Tensor:
        """Resize the table of positions to each image's grid, once for a grid: (cells, D)."""
        embeddings: Any = self.model.embeddings
        side = embeddings.position_embedding_size
        table = embeddings.position_embedding.weight.view(side, side, -1)
        resized = {}
        for grid in {tuple(grid) for grid in grids.tolist()}:
            shape = torch.tensor([grid], device="cpu")
            [resized[grid]] = embeddings.resize_positional_embeddings(
                table, shape, grid[0] * grid[1]
            )
        return torch.cat([resized[tuple(grid)] for grid in grids.tolist()])
