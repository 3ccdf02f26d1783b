"""Image encoders of timm."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from ..entry import EntryError
from ..imports import without
from ..nearest import nearest
from ..weights.stored import stored_tensors
from .image import ImageEncoder, square, to_grid
from .layers import check_layer, of_layers
from .resize import AUTHOR, LETTERBOX, check_square, choose

CPU_BATCH = 8
RESIZING = ("interpolation", "crop_pct", "crop_mode")


def _timm() -> Any:
    """Import timm without wandb, which it would log to: two seconds of every start."""
    with without("wandb"):
        import timm
    return timm


class TimmEncoder(ImageEncoder):
    """Any timm model with spatial features, convolutional or transformer."""

    options = ("architecture", "image_size", "model_args", "resize", "layer")

    def __init__(
        self,
        architecture: str,
        image_size: int,
        mean: list[float],
        std: list[float],
        grid: list[int],
        width: int,
        model_args: dict[str, Any] | None = None,
        resize: str | dict[str, Any] = LETTERBOX,
        layer: Sequence[int] = (),
    ):
        super().__init__(image_size, mean, std, grid, resize)
        self.layer = layer
        self.width = width
        self.model = _timm().create_model(architecture, num_classes=0, **(model_args or {}))

    @classmethod
    def describe(cls, folder: Path | None, **spec: Any) -> dict[str, Any]:
        """Complete a recipe's entry to a full config, from the folder's config.json or timm.

        Raises:
            ValueError: the architecture has no square of features, or not at this image size.
        """
        stored = json.loads((folder / "config.json").read_text()) if folder else spec
        if "architecture" not in stored:
            raise ValueError(f"{folder}: its config.json names no timm architecture")
        architecture, given = stored["architecture"], stored.get("pretrained_cfg", {})
        who = f"encoder timm {architecture!r}"
        model_args = spec.get("model_args") or stored.get("model_args") or {}
        chosen = check_layer(spec.get("layer"), who)
        model, model_args, size, grid = _measured(
            who, architecture, model_args, given, {**spec, **chosen}
        )
        config = {
            "architecture": architecture, "image_size": size,
            "grid": list(grid.shape[1:3]), "width": grid.shape[3], "model_args": model_args,
            **chosen,
        }  # fmt: skip
        cfg = {**model.pretrained_cfg, **given}
        author = None
        if spec.get("resize") == AUTHOR or any(name in given for name in RESIZING):
            from timm.data.config import resolve_data_config

            cfg = resolve_data_config({}, pretrained_cfg=given or cfg)
            author = {"by": "timm", "input_size": [3, size, size]} | {n: cfg[n] for n in RESIZING}
        config["resize"] = choose(spec.get("resize"), author, who)
        config |= {"mean": list(cfg["mean"]), "std": list(cfg["std"])}
        check_square(config, who)
        return config

    def load_pretrained(self, folder: Path) -> None:
        """Load the folder's model.safetensors; positions are resized as timm does it.

        Raises:
            ValueError: a tensor is missing, has another shape, or is neither the model's nor its
                classifier's.
        """
        state = stored_tensors(folder / "model.safetensors", self)
        own = self.model.state_dict()
        if any(name not in state or state[name].shape != own[name].shape for name in own):
            state = _adapted(self.model, state)
        missing, unexpected = self.model.load_state_dict(
            {n: t for n, t in state.items() if n not in own or t.shape == own[n].shape},
            strict=False,
        )
        if missing:
            raise ValueError(f"{folder}: lacks {len(missing)} tensors, first {missing[0]}")
        if unexpected and (foreign := [n for n in unexpected if n not in self._classifier()]):
            raise ValueError(
                f"{folder}: {len(foreign)} tensors are not of {self.spec['architecture']!r}, first "  # type: ignore[index]
                f"{foreign[0]}"
            )

    def _classifier(self) -> set[str]:
        """Return the tensors that the model has only where it classifies."""
        args = {**(self.spec.get("model_args") or {})}  # type: ignore[operator]
        with torch.device("meta"):
            whole = _timm().create_model(self.spec["architecture"], num_classes=2, **args)  # type: ignore[index]
        return set(whole.state_dict()) - set(self.model.state_dict())

    def features(self, pixel_values: torch.Tensor) -> torch.Tensor:
        # convolutions on a CPU are twice as fast with channels last, and in small batches that
        # stay in the cache; on a GPU one large batch is best. Not where they are trained on a
        # CPU: oneDNN's backward of some of them writes past its memory (fastvit)
        on_cpu = pixel_values.device.type == "cpu"
        if not (on_cpu and torch.is_grad_enabled()):
            pixel_values = pixel_values.contiguous(memory_format=torch.channels_last)
        chunks = pixel_values.split(CPU_BATCH if on_cpu else len(pixel_values))
        return torch.cat([_channels_last(self.model, chunk, self.layer) for chunk in chunks])


def _measured(
    who: str, architecture: str, model_args: dict[str, Any], given: dict[str, Any],
    spec: dict[str, Any],
) -> tuple[Any, dict[str, Any], int, torch.Tensor]:  # fmt: skip
    """Build the model and run it once: itself, its arguments, its image size and its features.

    A model whose positions are of another size is built for the one that is asked for.
    """
    timm = _timm()
    if ":" not in architecture and not timm.is_model(architecture):
        hint = nearest(architecture, timm.list_models())
        raise EntryError(f"{who} is unknown to timm; {hint}", "encoder", "architecture")
    model: Any = timm.create_model(architecture, num_classes=0, **model_args)
    size = spec.get("image_size") or {**model.pretrained_cfg, **given}["input_size"][1:]
    size = square(size, f"{who}: image_size")
    attempts = [{}]
    if "img_size" not in model_args:  # some take it as a pair only
        attempts += [{"img_size": size}, {"img_size": [size, size]}]
    reasons = []
    for more in attempts:
        try:
            if more:
                with torch.random.fork_rng(devices=[]):
                    model = timm.create_model(architecture, num_classes=0, **model_args, **more)
            with torch.no_grad():
                pixels = torch.zeros(2, 3, size, size)
                features = _channels_last(model.eval(), pixels, spec.get("layer") or ())
            return model, {**model_args, **more}, size, features
        except EntryError as error:
            raise EntryError(f"{who}: {error}", *error.keys) from error
        except Exception as error:  # a library's constructors and forwards raise anything
            reasons.append(" ".join(f"{error}".split()) or type(error).__name__)
    usual = model.pretrained_cfg["input_size"]
    raise ValueError(
        f"{who} gives no square of features for images of {size} pixels: {reasons[0]}. "
        f"Its own images are of {usual[1]} x {usual[2]}."
    )


def _adapted(model: Any, state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Let the architecture's own module rename tensors and resize positions, if it can."""
    convert = getattr(sys.modules[type(model).__module__], "checkpoint_filter_fn", None)
    return convert(state, model) if convert else state


def _channels_last(model: Any, pixels: torch.Tensor, layers: Sequence[int]) -> torch.Tensor:
    """Run a timm model and bring the features of some layers to (N, H, W, D).

    Raises:
        ValueError: they are no square of patches.
    """

    def earlier(layers: list[int]) -> list[torch.Tensor]:
        states = model.forward_intermediates(pixels, indices=layers, intermediates_only=True)
        return [state.permute(0, 2, 3, 1) for state in states]

    return of_layers(layers, lambda: _last(model, pixels), earlier)


def _last(model: Any, pixels: torch.Tensor) -> torch.Tensor:
    """Return what a timm model makes of pixels, (N, H, W, D), whatever layout it has."""
    features = model.forward_features(pixels)
    if not isinstance(features, torch.Tensor):
        raise ValueError(f"its features are a {type(features).__name__}, not one tensor")
    if features.ndim == 4:
        layout = getattr(model, "output_fmt", None)
        if features.shape[1] == features.shape[3] and layout:
            nchw = str(layout).rpartition(".")[2] == "NCHW"
        else:
            nchw = features.shape[1] == model.num_features
        return features.permute(0, 2, 3, 1) if nchw else features
    return to_grid(features, getattr(model, "num_prefix_tokens", 0))
