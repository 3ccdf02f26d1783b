"""Who answers: a checkpoint of ours, any model of transformers, or an endpoint."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .opened import Opened

PREFIXES = ("hf:", "openai:")
DTYPES = ("auto", "float32", "bfloat16", "float16")
HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


def check_spec(
    spec: str, dtype: str = "", min_pixels: int | None = None, max_pixels: int | None = None
) -> None:
    """Refuse what cannot be opened, before anything is loaded.

    Raises:
        ValueError: another kind of model than its name says, and what to type instead; or a
            setting that the model does not have. CheckpointError: not a checkpoint of ours.
    """
    from omni.load import check_checkpoint

    if dtype and dtype not in DTYPES:
        raise ValueError(f"--dtype {dtype}: there is {', '.join(DTYPES)}")
    pixels = min_pixels is not None or max_pixels is not None
    if spec.startswith("openai:"):
        if dtype or pixels:
            raise ValueError(
                "--dtype, --min-pixels and --max-pixels are for the server of an endpoint to set"
            )
        return
    if spec.startswith("hf:"):
        if min_pixels is not None and max_pixels is not None and min_pixels > max_pixels:
            raise ValueError(f"--min-pixels {min_pixels} is more than --max-pixels {max_pixels}")
        return
    _refuse_others(spec)
    check_checkpoint(Path(spec))
    if pixels:
        raise ValueError(
            "--min-pixels and --max-pixels are for models of transformers that take pictures of "
            "any size; a checkpoint of ours shows its encoder what it was trained on"
        )


def check_sampling(spec: str, sampling: Mapping[str, Any]) -> None:
    """Refuse a way to answer that cannot be, or that the model would not heed.

    Raises:
        ValueError: see `Generation`; or a budget of thinking for an endpoint.
    """
    from omni.generation.settings import Generation

    if Generation(**sampling).thinking and spec.startswith("openai:"):
        raise ValueError(
            "an endpoint chooses its tokens itself: a budget of thinking is for checkpoints and "
            "hf: models"
        )


def _refuse_others(spec: str) -> None:
    """A model of transformers or an endpoint without its prefix."""
    from omni.model.config import OmniConfig

    folder = Path(spec)
    if spec.startswith(("http://", "https://")):
        raise ValueError(f"{spec} is an address: for an endpoint, type openai:{spec}")
    if not folder.exists() and HUB_ID.fullmatch(spec):
        raise ValueError(f"{spec}: there is no such folder; for a model of the hub, type hf:{spec}")
    kind = _model_type(folder / "config.json")
    if kind and kind != OmniConfig.model_type:
        raise ValueError(
            f"{spec} holds a model of transformers ({kind}), no checkpoint of ours: type hf:{spec}"
        )


def _model_type(file: Path) -> str:
    import json

    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return ""
    return str(found.get("model_type", "")) if isinstance(found, dict) else ""


def open_model(
    spec: str,
    model_name: str = "",
    dtype: str = "",
    min_pixels: int | None = None,
    max_pixels: int | None = None,
    **limits: Any,
) -> Opened:
    """Open what the command line names.

    Args:
        spec: the folder of a checkpoint of ours, "hf:" and a hub id or folder of transformers, or
            "openai:" and the address of an endpoint, such as openai:http://localhost:8000/v1.
        model_name: which model of the endpoint.
        dtype: one of `DTYPES` instead of the usual; not of an endpoint.
        min_pixels: fewest pixels of a picture, of models of transformers that take any size.
        max_pixels: most of them.
        limits: `token_budget`, `max_batch`, `sampling`, `system`, `ranks` and `progress` of
            `Answerer`.

    Raises:
        ValueError: see `check_spec`; or an endpoint without a model name; CheckpointError: not a
            checkpoint of ours; OSError: transformers does not find the model.
    """
    check_spec(spec, dtype, min_pixels, max_pixels)
    if spec.startswith("openai:"):
        from .endpoint import open_endpoint

        return open_endpoint(spec.removeprefix("openai:"), model_name, **limits)
    if spec.startswith("hf:"):
        from .hf import open_transformers

        sizes = {"min_pixels": min_pixels, "max_pixels": max_pixels}
        return open_transformers(spec.removeprefix("hf:"), dtype, sizes, **limits)
    from .ours import open_checkpoint

    return open_checkpoint(Path(spec), dtype, **limits)
