"""A checkpoint folder -> (model, processor), for training, evaluation and chat alike."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .model.forward import OmniForConditionalGeneration
    from .processing.processor import OmniProcessor


class CheckpointError(RuntimeError):
    """A checkpoint that is missing, half written or made by other settings."""


def check_checkpoint(folder: Path) -> None:
    """Look for the files of a whole checkpoint, without the seconds that loading takes.

    Raises:
        CheckpointError: names what is missing and, if there is one, a checkpoint below `folder`.
    """
    names = ("config.json", "processor_config.json")
    if missing := [name for name in names if not (folder / name).is_file()]:
        below = sorted(folder.glob("*/processor_config.json"), key=lambda p: p.stat().st_mtime)
        hint = (
            f"did you mean {below[-1].parent}?"
            if below
            else "if a save was interrupted, run the stage that makes it again"
        )
        raise CheckpointError(
            f"{folder} is not a complete omni checkpoint ({' and '.join(missing)} missing); {hint}"
        )


def load(
    folder: str | Path, dtype: str = "float32"
) -> "tuple[OmniForConditionalGeneration, OmniProcessor]":
    """Load a checkpoint in evaluation mode, on the CPU.

    Raises:
        CheckpointError: not there, not complete, or damaged.
    """
    folder = Path(folder)
    check_checkpoint(folder)
    from transformers.utils import logging

    from . import OmniForConditionalGeneration, OmniProcessor

    logging.disable_progress_bar()
    try:
        loaded: Any = OmniForConditionalGeneration.from_pretrained(
            folder, dtype=dtype, output_loading_info=True
        )
        model, info = loaded
        if missing := sorted(info["missing_keys"]):  # they would stay whatever the memory held
            raise ValueError(f"it lacks {len(missing)} tensors, the first: {missing[0]}")
        return model.eval(), OmniProcessor.from_pretrained(folder)
    except Exception as error:  # a damaged file raises whatever its reader raises
        reason = " ".join(str(error).split())
        raise CheckpointError(f"{folder}: damaged or half written: {reason}") from error
