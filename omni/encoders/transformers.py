"""Image encoders of transformers."""

import copy
import inspect
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from ..entry import EntryError
from ..nearest import nearest
from ..weights.stored import check_loaded, is_sketch, names_in, stored_preprocessing, unreported
from .image import IMAGENET, ImageEncoder, square, to_grid
from .layers import LAST, check_layer, of_layers
from .resize import LETTERBOX, WAYS, author_settings, check_square, choose, own_way


class TransformersEncoder(ImageEncoder):
    """Any transformers vision model with a square of features: CLIP, SigLIP, DINOv2, ViT, ..."""

    options = ("model_config", "image_size", "resize", "layer")

    def __init__(
        self,
        model_config: dict[str, Any],
        image_size: int,
        mean: list[float],
        std: list[float],
        grid: list[int],
        width: int | None = None,
        resize: str | dict[str, Any] = LETTERBOX,
        layer: Sequence[int] = (),
    ):
        super().__init__(image_size, mean, std, grid, resize)
        self.layer = layer
        from transformers import AutoConfig, AutoModel

        config = AutoConfig.for_model(**copy.deepcopy(model_config))
        self.width = width or config.hidden_size
        self.model = AutoModel.from_config(config, dtype=torch.get_default_dtype())
        self.model_options = {}
        known = inspect.signature(self.model.forward).parameters
        if "interpolate_pos_encoding" in known and _side(config) != image_size:
            self.model_options["interpolate_pos_encoding"] = True

    @classmethod
    def describe(cls, folder: Path | None, **spec: Any) -> dict[str, Any]:
        """Complete a recipe's entry from the folder's config.json, or from `model_config`.

        Raises:
            ValueError: the model has no square of features, or not at this image size.
        """
        from transformers import CONFIG_MAPPING, AutoConfig

        if folder:
            config = AutoConfig.from_pretrained(folder)
            layer = getattr(config, "vision_feature_layer", None)  # LLaVA's, of its tower
            config = getattr(config, "vision_config", config)  # CLIP and SigLIP hold two towers
        else:
            kind = spec["model_config"].get("model_type")
            if kind not in CONFIG_MAPPING:
                raise EntryError(
                    f"model_type {kind!r} is unknown to transformers; "
                    f"{nearest(kind, [*CONFIG_MAPPING])[:300]}", "encoder", "model_config",
                    "model_type",
                )  # fmt: skip
            config, layer = AutoConfig.for_model(**spec["model_config"]), None
        who = f"encoder transformers {config.model_type!r}"
        size = spec.get("image_size") or _side(config)
        size = square(size, f"{who}: image_size")
        stored = stored_preprocessing(folder, "image_processor") if folder else {}
        described: dict[str, Any] = {
            "model_config": config.to_diff_dict() | {"model_type": config.model_type},
            "image_size": size, "mean": stored.get("image_mean", IMAGENET["mean"]),
            "std": stored.get("image_std", IMAGENET["std"]), "grid": [0, 0],
            **check_layer(spec.get("layer", layer), who),
        }  # fmt: skip
        features = _measured(cls, described, who)
        described |= {"grid": list(features.shape[1:3]), "width": features.shape[3]}
        author = None
        if folder and stored and not own_way(spec.get("resize"), who):
            author = _author(folder, described, who)
        described["resize"] = choose(spec.get("resize"), author, who)
        check_square(described, who)
        return described

    def load_pretrained(self, folder: Path) -> None:
        """Load the folder's tower.

        Raises:
            ValueError: a tensor that the features need is missing or has another shape, or the
                folder holds more of the tower than its config says.
        """
        with unreported():
            loaded, info = type(self.model).from_pretrained(
                folder, config=self.model.config, output_loading_info=True,
                ignore_mismatched_sizes=True,
                device_map="meta" if is_sketch(self) else None, **_within(folder),
            )  # fmt: skip
        self.model.load_state_dict(loaded.state_dict())
        if info["missing_keys"] or info["mismatched_keys"]:
            needed = self._needed()
            check_loaded(folder, f"{self.model.config.model_type!r}", info, needed.__contains__)
        tops = {name.split(".")[0] for name in self.model.state_dict()}
        prefixes = ("", f"{self.model.base_model_prefix}.", "vision_model.", "vision_tower.")
        foreign = sorted(
            key for key in info["unexpected_keys"]
            if any(key.removeprefix(prefix).split(".")[0] in tops for prefix in prefixes)
        )  # fmt: skip
        if foreign:
            raise ValueError(
                f"{folder}: holds {len(foreign)} tensors that its config does not speak of, first "
                f"{foreign[0]}"
            )

    def _needed(self) -> set[str]:
        """Return the tensors on which features depend: not those of a pooler or a head."""
        names, tensors = zip(*self.model.named_parameters(), strict=True)
        images = torch.zeros(1, 3, self.image_size, self.image_size, device=tensors[0].device)
        features = self.features(images)
        reached = torch.autograd.grad(features.sum(), tensors, allow_unused=True)
        buffers = {name for name, _ in self.model.named_buffers()}
        return buffers | {n for n, g in zip(names, reached, strict=True) if g is not None}

    def features(self, pixel_values: torch.Tensor) -> torch.Tensor:
        options = dict(self.model_options)
        if {*self.layer} - {LAST}:
            options["output_hidden_states"] = True
        found = self.model(pixel_values, **options)

        def earlier(layers: list[int]) -> list[torch.Tensor]:
            states = found.hidden_states  # the embeddings come first
            if -layers[0] >= len(states):
                raise IndexError(f"it has {len(states) - 1}")
            return [self._grid(states[n]) for n in layers]

        return of_layers(self.layer, lambda: self._grid(found.last_hidden_state), earlier)

    def _grid(self, output: torch.Tensor) -> torch.Tensor:
        """Return the patches of an output, (N, H, W, D)."""
        if output.ndim == 4:  # (N, D, H, W)
            return output.permute(0, 2, 3, 1)
        config = self.model.config
        patches = self.grid[0] * self.grid[1] or _patches(config, self.image_size)
        prefix = output.shape[1] - patches
        if prefix not in range(3 + _registers(config)):  # a class, a teacher's, and registers
            raise ValueError(
                f"its features are {output.shape[1]} tokens for {patches} patches of the image"
            )
        return to_grid(output, prefix)


def _side(config: Any) -> Any:
    """Return the images' side that a config says, as it says it; None where it says none."""
    size = getattr(config, "image_size", None)
    return size[0] if isinstance(size, list | tuple) and len({*size}) == 1 else size


def _within(folder: Path) -> dict[str, Any]:
    """Return how transformers finds the tower where a folder holds an LLM as well."""
    tower = re.compile(r"^(?:model\.)?vision_tower\.(?:vision_model\.)?")
    found = any(map(tower.match, names_in(folder)))
    return {"key_mapping": {tower.pattern: ""}} if found else {}


def _registers(config: Any) -> int:
    return getattr(config, "num_register_tokens", 0) or 0


def _patches(config: Any, size: int) -> int:
    """Return how many patches a model makes of an image, after its merging of patches."""
    patch = getattr(config, "patch_size", None)
    patch = patch[0] if isinstance(patch, list | tuple) else patch
    if not patch:
        raise ValueError("its features are tokens, and its config names no patch_size")
    halved = len(getattr(config, "depths", None) or [0]) - 1  # between the stages of a pyramid
    return (size // patch >> halved) ** 2


def _measured(cls: Any, described: dict[str, Any], who: str) -> torch.Tensor:
    """Run the tower once, with random weights that leave no trace: its features (2, H, W, D)."""
    size = described["image_size"]
    try:
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            encoder = cls(**described, width=1).eval()
            features = encoder.features(torch.zeros(2, 3, size, size))
    except EntryError as error:
        raise EntryError(f"{who}: {error}", *error.keys) from error
    except Exception as error:  # a library's constructors and forwards raise anything
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        usual = described["model_config"].get("image_size")
        hint = f". Its own images are of {usual} pixels" if usual not in (None, size) else ""
        raise ValueError(
            f"{who} gives no square of features for images of {size} pixels: {reason}{hint}"
        ) from error
    if features.shape[1] != features.shape[2]:
        raise ValueError(f"{who} gives features of shape {tuple(features.shape)}: no square")
    return features


def _author(folder: Path, described: dict[str, Any], who: str) -> dict[str, Any]:
    """Return the settings of the folder's image processor for the image size that is wanted.

    Raises:
        ValueError: transformers does not know it.
    """
    settings = author_settings(folder, who, f", or use resize: {' or '.join(WAYS)}")
    ways = [{"by": "transformers", "processor": one}
            for one in _of_size(settings, described["image_size"])]  # fmt: skip
    for way in ways:
        try:
            check_square(described | {"resize": way}, who)
        except Exception:
            continue
        return way
    return ways[0]


def _of_size(settings: dict[str, Any], side: int) -> Iterator[dict[str, Any]]:
    """Yield an image processor's settings: as stored, then for squares of another side.

    What is cut off in the end stays the same share of the image.
    """
    yield settings
    sides = {"height": side, "width": side}
    size, crop = settings.get("size") or {}, settings.get("crop_size") or {}
    if settings.get("do_center_crop") and (cut := crop.get("height")):
        scale = {k: v if v == side else round(v * side / cut) for k, v in size.items()}
        yield settings | {"size": scale, "crop_size": sides}
    elif "shortest_edge" in size:  # with a crop of its own, as ConvNeXT
        yield settings | {"size": {"shortest_edge": side}}
    elif "height" in size:
        yield settings | {"size": sides}
