"""Image encoders of open_clip."""

import copy
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from ..entry import EntryError
from ..nearest import nearest
from ..weights.stored import stored_tensors
from .image import ImageEncoder, square, to_grid
from .layers import check_layer, of_layers
from .resize import AUTHOR, LETTERBOX, check_square, choose

PREFIX = "visual."


class OpenClipEncoder(ImageEncoder):
    """The vision tower of an open_clip transformer model."""

    options = ("architecture", "image_size", "resize", "layer")

    def __init__(
        self,
        vision_cfg: dict[str, Any],
        embed_dim: int,
        image_size: int,
        mean: list[float],
        std: list[float],
        grid: list[int],
        width: int,
        quick_gelu: bool = False,
        resize: str | dict[str, Any] = LETTERBOX,
        layer: Sequence[int] = (),
    ):
        super().__init__(image_size, mean, std, grid, resize)
        self.layer = layer
        from open_clip.model import _build_vision_tower

        self.width = width
        self.model: Any = _build_vision_tower(embed_dim, copy.deepcopy(vision_cfg), quick_gelu)  # type: ignore[arg-type]
        self.model.output_tokens = True  # forward returns (pooled, patch tokens)

    @classmethod
    def describe(cls, folder: Path | None, **spec: Any) -> dict[str, Any]:
        """Complete a recipe's entry from the folder's open_clip_config.json or a model name.

        Raises:
            ValueError: the tower has no square of patch features, or not at this image size.
        """
        import open_clip

        if folder:
            stored = json.loads((folder / "open_clip_config.json").read_text())
            model, preprocess = stored["model_cfg"], stored.get("preprocess_cfg")
            who = f"encoder open_clip {str(folder)!r}"
        else:
            model, preprocess = open_clip.get_model_config(spec["architecture"]), None
            who = f"encoder open_clip {spec['architecture']!r}"
            if model is None:
                hint = nearest(spec["architecture"], open_clip.list_models())
                raise EntryError(f"{who} is unknown; {hint}", "encoder", "architecture")
        vision = {**model["vision_cfg"], "patch_dropout": 0.0}  # in training, too, all are needed
        tower = _tower(vision, who)
        size = square(spec.get("image_size") or tower.image_size, f"{who}: image_size")
        patch = square(tower.patch_size, f"{who}: patch_size")
        if size < patch:
            raise ValueError(f"{who}: image_size {size} is less than a patch of {patch} pixels")
        vision["image_size"] = size
        author, mean, std = _author(preprocess, size, spec.get("resize") == AUTHOR)
        config = {
            "vision_cfg": vision, "embed_dim": model["embed_dim"], "image_size": size,
            "mean": list(mean), "std": list(std), "grid": [size // patch] * 2,
            "width": tower.width, "quick_gelu": model.get("quick_gelu", False),
            "resize": choose(spec.get("resize"), author, who),
            **check_layer(spec.get("layer"), who),
        }  # fmt: skip
        if layers := config.get("layer"):
            if (deepest := min(layers)) < -tower.layers:
                raise EntryError(f"{who}: there is no layer {deepest}: it has {tower.layers}",
                                 "encoder", "layer")  # fmt: skip
            config["width"] *= len(layers)
        check_square(config, who)
        return config

    def load_pretrained(self, folder: Path) -> None:
        """Load the tower of open_clip_model.safetensors; positions are resized as open_clip does.

        Raises:
            ValueError: the folder's tensors are not those of the tower.
        """
        from open_clip.model import resize_pos_embed

        state = stored_tensors(folder / "open_clip_model.safetensors", self)
        state = {name: tensor for name, tensor in state.items() if name.startswith(PREFIX)}
        resize_pos_embed(state, SimpleNamespace(visual=self.model))
        try:
            self.model.load_state_dict({n.removeprefix(PREFIX): t for n, t in state.items()})
        except RuntimeError as error:
            own = {PREFIX + name for name in self.model.state_dict()}
            odd = sorted(own ^ set(state))
            named = f"{len(odd)} tensors are missing or foreign, first {odd[0]}: " if odd else ""
            reason = " ".join(str(error).split())[:500]
            raise ValueError(f"{folder}: {named}{reason}") from None

    def features(self, pixel_values: torch.Tensor) -> torch.Tensor:
        def earlier(layers: list[int]) -> list[torch.Tensor]:
            found = self.model.forward_intermediates(
                pixel_values, indices=layers, intermediates_only=True
            )
            return [state.permute(0, 2, 3, 1) for state in found["image_intermediates"]]

        return of_layers(self.layer, lambda: to_grid(self.model(pixel_values)[1], 0), earlier)


def _tower(vision: dict[str, Any], who: str) -> Any:
    """Return what open_clip reads in a vision_cfg; raises ValueError if no patches come out."""
    from open_clip.model import CLIPVisionCfg

    try:
        tower = CLIPVisionCfg(**vision)
    except TypeError as error:
        raise ValueError(f"{who}: open_clip does not know its vision_cfg: {error}") from None
    if tower.timm_model_name or not isinstance(tower.layers, int):
        raise ValueError(f"{who}: this tower is not a transformer: use encoder kind timm")
    if tower.attentional_pool or tower.pool_type not in ("tok", "avg"):
        raise ValueError(
            f"{who}: what this tower returns (attentional_pool: {tower.attentional_pool}, "
            f"pool_type: {tower.pool_type}) is not one feature for each patch"
        )
    return tower


def _author(preprocess: dict[str, Any] | None, size: int, asked: bool) -> tuple[Any, Any, Any]:
    """Return the author's way of resizing, None where there is none, and mean and std."""
    from open_clip.transform import PreprocessCfg, merge_preprocess_dict

    merged = merge_preprocess_dict(PreprocessCfg(), {**(preprocess or {}), "size": size})
    cfg = asdict(PreprocessCfg(**merged))
    mean, std = cfg.pop("mean"), cfg.pop("std")
    return {"by": "open_clip", **cfg} if preprocess or asked else None, mean, std
