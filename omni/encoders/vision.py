"""Image encoders: pixels (N, 3, S, S) -> patch features (N, H, W, D)."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from safetensors.torch import load_file
from torch import nn
from torchvision.transforms.v2 import functional as tv

from ..imports import without
from ..media import load_image

IMAGENET = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}

CPU_BATCH = 8


class ImageEncoder(nn.Module):
    """What all image encoders share: square input, letterboxed on white, normalised."""

    media = "image"
    inputs = ("pixel_values",)

    def __init__(self, image_size: int, mean: list[float], std: list[float], grid: list[int]):
        super().__init__()
        self.image_size, self.mean, self.std, self.grid = image_size, mean, std, grid

    @staticmethod
    def preprocess(config: dict[str, Any], ref: Any) -> dict[str, torch.Tensor]:
        """Decode one image to `{"pixel_values": (1, 3, S, S)}`; raises MediaError."""
        size = config["image_size"]
        square = ImageOps.pad(
            load_image(ref), (size, size), Image.Resampling.BICUBIC, color=(255, 255, 255)
        )
        pixels = tv.normalize(
            tv.to_dtype(tv.pil_to_tensor(square), torch.float32, scale=True),
            config["mean"], config["std"],
        )  # fmt: skip
        return {"pixel_values": pixels[None]}

    @staticmethod
    def collate(items: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
        """Stack the preprocessed images of a batch."""
        return {"pixel_values": torch.cat([item["pixel_values"] for item in items])}

    @staticmethod
    def grids(config: dict[str, Any], item: dict[str, torch.Tensor]) -> list[tuple[int, ...]]:
        """Tell the feature grid (rows, columns) of each image in `item`."""
        return [tuple(config["grid"])] * len(item["pixel_values"])

    @staticmethod
    def grids_of(config: dict[str, Any], facts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Tell the grids of images from their facts; see `omni.encoders`."""
        return np.arange(len(facts)), np.tile(np.array([config["grid"]]), (len(facts), 1))

    @staticmethod
    def split(config: dict[str, Any], pixel_values: torch.Tensor) -> list[tuple[torch.Tensor, ...]]:
        """Undo `collate`: the inputs of each image alone."""
        return [(pixels,) for pixels in pixel_values.split(1)]

    def _to_grid(self, tokens: torch.Tensor) -> torch.Tensor:
        """Drop class and register tokens, which come first: (N, P + H * W, D) -> (N, H, W, D)."""
        h, w = self.grid
        return tokens[:, -h * w :].unflatten(1, (h, w))


def _timm() -> Any:
    """Import timm without wandb, which it would log to: two seconds of every start."""
    with without("wandb"):
        import timm
    return timm


class TimmEncoder(ImageEncoder):
    """Any timm model with spatial features, convolutional or transformer."""

    options = ("architecture", "image_size", "model_args")

    def __init__(
        self,
        architecture: str,
        image_size: int,
        mean: list[float],
        std: list[float],
        grid: list[int],
        width: int,
        model_args: dict[str, Any] | None = None,
    ):
        super().__init__(image_size, mean, std, grid)
        self.width = width
        self.model = _timm().create_model(architecture, num_classes=0, **(model_args or {}))

    @classmethod
    def describe(cls, folder: Path | None, **spec: Any) -> dict[str, Any]:
        """Complete a recipe's entry to a full config, from the folder's config.json or timm."""
        timm = _timm()
        stored = json.loads((folder / "config.json").read_text()) if folder else spec
        architecture = stored["architecture"]
        model_args = spec.get("model_args") or stored.get("model_args") or {}
        model: Any = timm.create_model(architecture, num_classes=0, **model_args)
        cfg = {**model.pretrained_cfg, **stored.get("pretrained_cfg", {})}
        size = spec.get("image_size", cfg["input_size"][-1])
        with torch.no_grad():
            grid = _channels_last(model.eval(), torch.zeros(1, 3, size, size))
        return {
            "architecture": architecture, "image_size": size, "mean": list(cfg["mean"]),
            "std": list(cfg["std"]), "grid": list(grid.shape[1:3]), "width": grid.shape[3],
            "model_args": model_args,
        }  # fmt: skip

    def load_pretrained(self, folder: Path) -> None:
        state = load_file(folder / "model.safetensors")
        missing, _ = self.model.load_state_dict(state, strict=False)  # the classifier is left out
        if missing:
            raise ValueError(f"{folder}: lacks {len(missing)} tensors, first {missing[0]}")

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        # convolutions on a CPU are twice as fast with channels last, and in small batches that
        # stay in the cache; on a GPU one large batch is best
        pixels = pixel_values.contiguous(memory_format=torch.channels_last)
        chunks = pixels.split(CPU_BATCH if pixels.device.type == "cpu" else len(pixels))
        return torch.cat([_channels_last(self.model, chunk) for chunk in chunks])


def _channels_last(model: Any, pixels: torch.Tensor) -> torch.Tensor:
    """Run a timm model and bring its features to (N, H, W, D), whatever layout it has."""
    features = model.forward_features(pixels)
    if features.ndim == 4:
        nchw = features.shape[1] == model.num_features
        return features.permute(0, 2, 3, 1) if nchw else features
    side = int((features.shape[1] - model.num_prefix_tokens) ** 0.5)
    return features[:, -side * side :].unflatten(1, (side, side))


class OpenClipEncoder(ImageEncoder):
    """The vision tower of an open_clip transformer model."""

    options = ("architecture",)

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
    ):
        super().__init__(image_size, mean, std, grid)
        from open_clip.model import _build_vision_tower

        self.width = width
        self.model: Any = _build_vision_tower(embed_dim, vision_cfg, quick_gelu)  # type: ignore[arg-type]
        self.model.output_tokens = True  # forward returns (pooled, patch tokens)

    @classmethod
    def describe(cls, folder: Path | None, **spec: Any) -> dict[str, Any]:
        """Complete a recipe's entry from the folder's open_clip_config.json or a model name."""
        import open_clip

        if folder:
            stored = json.loads((folder / "open_clip_config.json").read_text())
            model, preprocess = stored["model_cfg"], stored.get("preprocess_cfg", {})
        else:
            model, preprocess = open_clip.get_model_config(spec["architecture"]), {}
            if model is None:
                raise ValueError(f"open_clip knows no model {spec['architecture']!r}")
        vision = {**model["vision_cfg"]}
        if "timm_model_name" in vision or not isinstance(vision.get("layers"), int):
            raise ValueError("this open_clip tower is not a transformer: use encoder kind timm")
        side = vision["image_size"] // vision["patch_size"]
        return {
            "vision_cfg": vision, "embed_dim": model["embed_dim"],
            "image_size": vision["image_size"],
            "mean": list(preprocess.get("mean", open_clip.OPENAI_DATASET_MEAN)),
            "std": list(preprocess.get("std", open_clip.OPENAI_DATASET_STD)),
            "grid": [side, side], "width": vision["width"],
            "quick_gelu": model.get("quick_gelu", False),
        }  # fmt: skip

    def load_pretrained(self, folder: Path) -> None:
        state = load_file(folder / "open_clip_model.safetensors")
        prefix = "visual."
        self.model.load_state_dict(
            {k[len(prefix) :]: v for k, v in state.items() if k.startswith(prefix)}
        )

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        return self._to_grid(self.model(pixel_values)[1])


class TransformersEncoder(ImageEncoder):
    """Any transformers vision transformer: CLIP, SigLIP, DINOv2, ViT, ..."""

    options = ("model_config", "image_size")

    def __init__(
        self,
        model_config: dict[str, Any],
        image_size: int,
        mean: list[float],
        std: list[float],
        grid: list[int],
    ):
        super().__init__(image_size, mean, std, grid)
        from transformers import AutoConfig, AutoModel

        config = AutoConfig.for_model(**model_config)
        self.width = config.hidden_size
        self.model = AutoModel.from_config(config, dtype=torch.get_default_dtype())

    @classmethod
    def describe(cls, folder: Path | None, **spec: Any) -> dict[str, Any]:
        """Complete a recipe's entry from the folder's config.json, or from `model_config`."""
        from transformers import AutoConfig

        if folder:
            config = AutoConfig.from_pretrained(folder)
            config = getattr(config, "vision_config", config)  # CLIP and SigLIP hold two towers
        else:
            config = AutoConfig.for_model(**spec["model_config"])
        stored = folder / "preprocessor_config.json" if folder else None
        cfg = json.loads(stored.read_text()) if stored and stored.is_file() else {}
        size = spec.get("image_size", config.image_size)
        side = size // config.patch_size
        return {
            "model_config": config.to_diff_dict() | {"model_type": config.model_type},
            "image_size": size, "mean": cfg.get("image_mean", IMAGENET["mean"]),
            "std": cfg.get("image_std", IMAGENET["std"]), "grid": [side, side],
        }  # fmt: skip

    def load_pretrained(self, folder: Path) -> None:
        loaded = type(self.model).from_pretrained(folder, config=self.model.config)
        self.model.load_state_dict(loaded.state_dict())

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        return self._to_grid(self.model(pixel_values).last_hidden_state)
