"""What a folder holds of a part: its tensors, and what transformers wrote of preprocessing."""

import json
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import nn


def stored_tensors(file: Path, encoder: nn.Module) -> dict[str, torch.Tensor]:
    """Read a safetensors file; for a sketch only the header, so tensors have no values either."""
    if not is_sketch(encoder):
        return load_file(file)
    with safe_open(file, "pt") as found:
        shapes = {name: found.get_slice(name).get_shape() for name in found.keys()}  # noqa: SIM118
    return {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}


def load_part(
    model: nn.Module,
    folder: Path,
    prefixes: tuple[str, ...],
    unused: tuple[str, ...] = (),
    called: Mapping[str, str] = {},
) -> None:
    """Load a module from the safetensors of a folder that holds it, alone or in a whole model.

    Args:
        model: a module with or without values.
        folder: with one file or several.
        prefixes: that the module's tensors may have there; the one that fits most is taken.
        unused: tensors with these prefixes, after the other, need not be the module's.
        called: submodules that have another name there.

    Raises:
        ValueError: a tensor is missing, has another shape, or is not the module's.
    """
    state = model.state_dict()
    names = {_called(name, called): name for name in state}
    own = {there: state[name] for there, name in names.items()}
    files = names_in(folder)
    prefix = max(prefixes, key=lambda p: sum(p + name in files for name in own))
    held = {k.removeprefix(prefix): file for k, file in files.items() if k.startswith(prefix)}
    if missing := [name for name in own if name not in held]:
        raise ValueError(f"{folder}: lacks {len(missing)} tensors of it, first {missing[0]}")
    if foreign := [n for n in held if n not in own and not n.startswith(unused)]:
        raise ValueError(
            f"{folder}: holds {len(foreign)} tensors that its config does not speak of, first "
            f"{prefix}{foreign[0]}"
        )
    state = {}
    for file in {held[name] for name in own}:
        with safe_open(file, "pt") as found:
            for name in (name for name in own if held[name] == file):
                shape = tuple(found.get_slice(prefix + name).get_shape())
                if shape != (wanted := tuple(own[name].shape)):
                    raise ValueError(
                        f"{folder}: {prefix}{name} has shape {shape}, not {wanted} as its config "
                        "says"
                    )
                state[names[name]] = (
                    torch.empty(shape, device="meta") if is_sketch(model)
                    else found.get_tensor(prefix + name)
                )  # fmt: skip
    model.load_state_dict(state)


def names_in(folder: Path) -> dict[str, Path]:
    """Return the names of the tensors in the safetensors of a folder, and the file of each."""
    files: dict[str, Path] = {}
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, "pt") as found:
            files |= dict.fromkeys(found.keys(), file)
    return files


def _called(name: str, called: Mapping[str, str]) -> str:
    for ours, theirs in called.items():
        if name.startswith(f"{ours}."):
            return theirs + name.removeprefix(ours)
    return name


@contextmanager
def unreported() -> Iterator[None]:
    """Keep transformers from listing what a folder holds beside a part; `check_loaded` tells more.

    Whole models hold hundreds of tensors that are not a tower's.
    """
    logger = logging.getLogger("transformers.modeling_utils")

    def is_error(record: logging.LogRecord) -> bool:
        return record.levelno >= logging.ERROR

    logger.addFilter(is_error)  # its level stays: transformers examines more where that is high
    try:
        yield
    finally:
        logger.removeFilter(is_error)


def check_loaded(
    folder: Path, who: str, info: Mapping[str, Any], needed: Callable[[str], bool] | None = None
) -> None:
    """Refuse a model of transformers whose folder does not hold all of it.

    Args:
        folder: where it comes from.
        who: names it in errors.
        info: as `from_pretrained(..., output_loading_info=True, ignore_mismatched_sizes=True)`
            returns it; without the latter, the error of transformers names no tensor.
        needed: tells by its name whether a tensor is; all are by default.

    Raises:
        ValueError: a tensor has another shape, or is missing; names the first.
    """
    needed = needed or (lambda name: True)
    other = sorted((name, tuple(found), tuple(wanted))
                   for name, found, wanted in info["mismatched_keys"] if needed(name))  # fmt: skip
    if other:
        name, found, wanted = other[0]
        more = f" (so it is with {len(other) - 1} more)" if other[1:] else ""
        raise ValueError(
            f"{folder}: {name} has shape {found}, not {wanted} as its config says{more}"
        )
    if missing := sorted(filter(needed, info["missing_keys"])):
        raise ValueError(f"{folder}: lacks {len(missing)} tensors of {who}, first {missing[0]}")


def is_sketch(module: nn.Module) -> bool:
    """Tell whether a module has no values, see `omni.model.sketch`."""
    return any(parameter.is_meta for parameter in module.parameters())


def stored_preprocessing(folder: Path, part: str) -> dict[str, Any]:
    """Return the settings of a file of its own, or else of a part of the processor's; or nothing.

    Args:
        folder: of a model.
        part: "image_processor" or "feature_extractor".
    """
    own, whole = folder / "preprocessor_config.json", folder / "processor_config.json"
    if own.is_file():
        return json.loads(own.read_text())
    return json.loads(whole.read_text()).get(part) or {} if whole.is_file() else {}
