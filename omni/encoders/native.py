"""What encoders of images at their own resolution share: the patches of all, without padding."""

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn

from ..entry import EntryError
from ..media.decode import load_image
from ..nearest import nearest
from ..weights.stored import load_part, stored_preprocessing
from .boxes import Placement
from .image import square
from .ragged import Ragged
from .resize import author_settings, image_processor
from .sizes import Sizes, check_stretch

SHAPES = ((90, 40), (30, 70), (201, 190))  # (width, height) of pictures that a check shows


class NativeEncoder(nn.Module):
    """Images of any size, each with a grid of its own, as the author's image processor cuts them.

    A subclass is one tower of transformers: it says how large images become (`used`), how the
    processor lays patches out (`rows`), and how the tower runs over packed ones (`encode`).
    """

    media = "image"
    inputs = ("patches", "patch_grids")
    host_inputs = ("patch_grids",)
    model_type: str
    prefixes: tuple[str, ...]
    """of the tower's tensors in a whole model, and in a folder of its own"""
    unused: tuple[str, ...]
    """tensors with these prefixes are of no use for features"""

    def __init__(self, model_config: dict[str, Any], processor: dict[str, Any]):
        super().__init__()
        self.processor = processor

    @staticmethod
    def used(config: dict[str, Any], height: np.ndarray, width: np.ndarray) -> Sizes:
        """Return the sizes that images of these are shown in, pixels (n,)."""
        raise NotImplementedError

    @staticmethod
    def rows(config: dict[str, Any], found: Any, grid: tuple[int, int]) -> torch.Tensor:
        """Bring what the processor made of one image to (rows * columns, D), row by row."""
        raise NotImplementedError

    @classmethod
    def settings(cls, config: Any, stored: dict[str, Any] | None, **spec: Any) -> dict[str, Any]:
        """Return the settings of the image processor, for a tower's config and a recipe's options.

        Args:
            config: of transformers.
            stored: the author's settings, None where the weights come without any.
            spec: a recipe's options.
        """
        raise NotImplementedError

    def encode(self, patches: torch.Tensor, grids: np.ndarray) -> torch.Tensor:
        """Encode packed patches (sum of cells, D) of images with grids (N, 2)."""
        raise NotImplementedError

    @classmethod
    def describe(cls, folder: Path | None, **spec: Any) -> dict[str, Any]:
        """Complete a recipe's entry from the folder's config.json, or from `model_config`.

        Raises:
            ValueError: it is another kind of tower, or its image processor does not cut images as
                the tower's own does.
        """
        from transformers import AutoConfig

        who = f"encoder of {cls.model_type!r}"
        if folder:
            config = AutoConfig.from_pretrained(folder)
            config = getattr(config, "vision_config", config)
            if config.model_type != cls.model_type:
                raise ValueError(f"{who}: {folder} holds a {config.model_type!r}")
        else:
            config = _asked(cls.model_type, spec["model_config"])
        patch = square(config.patch_size, f"{who}: patch_size")
        stored = folder and stored_preprocessing(folder, "image_processor")
        settings = author_settings(folder, who) if folder and stored else None
        tower = {"model_type": config.model_type, "patch_size": patch}
        described = {
            "model_config": config.to_diff_dict() | tower,
            "processor": cls.settings(config, settings, **spec),
        }
        cls._check(described, who)
        return described

    @classmethod
    def _check(cls, described: dict[str, Any], who: str) -> None:
        """Make sure that images get the sizes that are planned, and the patches of the tower.

        Raises:
            ValueError: they do not.
        """
        for shape in SHAPES:
            grid = cls._grid(described, shape)
            expected = grid[0] * grid[1], 3 * described["model_config"]["patch_size"] ** 2
            try:
                found = tuple(cls._patches(described, Image.new("RGB", shape), grid).shape)
                if found != expected:
                    raise ValueError(f"their shape is {found}, not {expected}")
            except Exception as error:  # whatever somebody's settings make a library do
                raise ValueError(
                    f"{who}: its image processor does not make {grid[0]} x {grid[1]} patches of "
                    f"{shape[0]}x{shape[1]} pixels, as its kind does "
                    f"({' '.join(str(error).split())[:200]})"
                ) from error

    @classmethod
    def _grid(cls, config: dict[str, Any], size: tuple[int, int]) -> tuple[int, int]:
        """Return the grid of one image of (width, height) pixels."""
        height, width = cls.used(config, *(np.array([side]) for side in reversed(size)))
        patch = config["model_config"]["patch_size"]
        return int(height[0]) // patch, int(width[0]) // patch

    @classmethod
    def _patches(
        cls, config: dict[str, Any], image: Image.Image, grid: tuple[int, int]
    ) -> torch.Tensor:
        found = image_processor(json.dumps(config["processor"]))(images=image, return_tensors="pt")
        return cls.rows(config, found, grid)

    @classmethod
    def preprocess(cls, config: dict[str, Any], ref: Any) -> dict[str, torch.Tensor]:
        """Decode one image to `patches` (rows * columns, D) and `patch_grids` (1, 2).

        Raises:
            MediaError: no readable image, or one that would be distorted.
        """
        image = load_image(ref)
        grid = cls._grid(config, image.size)
        patch = config["model_config"]["patch_size"]
        check_stretch((image.height, image.width), (grid[0] * patch, grid[1] * patch))
        return {
            "patches": cls._patches(config, image, grid),
            "patch_grids": torch.tensor([grid]),
        }

    @staticmethod
    def collate(items: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
        """Join the patches of a batch."""
        return {name: torch.cat([item[name] for item in items]) for name in items[0]}

    @staticmethod
    def split(
        config: dict[str, Any], patches: torch.Tensor, patch_grids: torch.Tensor
    ) -> list[tuple[torch.Tensor, ...]]:
        """Undo `collate`: the inputs of each image alone."""
        cells = patch_grids.prod(1).tolist()
        return list(zip(patches.split(cells), patch_grids.split(1), strict=True))

    @staticmethod
    def grids(config: dict[str, Any], tensors: dict[str, torch.Tensor]) -> list[tuple[int, ...]]:
        """Tell the grid (rows, columns) of each image."""
        return [tuple(grid) for grid in tensors["patch_grids"].tolist()]

    @classmethod
    def grids_of(cls, config: dict[str, Any], facts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Tell the grids of images from their facts; see `omni.encoders`."""
        used = cls.used(config, facts["height"], facts["width"])
        grids = np.stack(used, axis=1) // config["model_config"]["patch_size"]
        return np.arange(len(facts)), grids

    @classmethod
    def place(cls, config: dict[str, Any], width: int, height: int) -> Placement:
        """Tell where a picture lies in what is shown of it: it fills all of that."""
        patch = config["model_config"]["patch_size"]
        rows, columns = cls._grid(config, (width, height))
        shown = columns * patch, rows * patch
        return Placement.of((width, height), shown, shown)

    def load_pretrained(self, folder: Path) -> None:
        """Load the tower of a folder that holds it alone, or a whole model.

        Raises:
            ValueError: see `omni.weights.stored.load_part`.
        """
        load_part(self.model, folder, self.prefixes, self.unused)  # type: ignore[arg-type]

    def forward(self, patches: torch.Tensor, patch_grids: torch.Tensor) -> Ragged:
        grids = patch_grids.cpu()
        return Ragged(self.encode(patches, grids.numpy()), grids)


def config_of(model_config: dict[str, Any]) -> Any:
    """Make the config of transformers that a described encoder holds."""
    from transformers import AutoConfig

    return AutoConfig.for_model(**copy.deepcopy(model_config))


def _asked(kind: str, given: dict[str, Any]) -> Any:
    """Read a recipe's `model_config`.

    Raises:
        EntryError: it has a key that a tower of this kind has not.
    """
    from transformers import AutoConfig

    known = AutoConfig.for_model(kind).to_dict()
    for key in given:
        if key not in known:
            hint = nearest(key, known)
            raise EntryError(f"model_config: a {kind} has no {key!r}; {hint}",
                             "encoder", "model_config", key)  # fmt: skip
    if (found := given.get("model_type", kind)) != kind:
        raise EntryError(f"model_type is {found!r}; this encoder is a {kind!r}",
                         "encoder", "model_config", "model_type")  # fmt: skip
    return config_of({**given, "model_type": kind})


def whole(spec: dict[str, Any], option: str, usual: int) -> int:
    """Return a recipe's option, a positive whole number.

    Raises:
        EntryError: it is none.
    """
    value = usual if spec.get(option) is None else spec[option]
    if type(value) is not int or value < 1:
        raise EntryError(f"{option} is a whole number of at least 1, not {value!r}",
                         "encoder", option)  # fmt: skip
    return value
