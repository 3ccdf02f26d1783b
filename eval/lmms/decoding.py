"""What datasets makes of the media of a row: a damaged file costs one answer, never a run."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from omni.media.decode import LIMITS, MediaError, load_image, read_limited, reason_of
from omni.media.video import MAX_FRAMES

PICTURES = (".jpg", ".jpeg", ".png")
BROKEN = "broken"  # the key under which a stand-in says why it is one


@contextlib.contextmanager
def tolerant() -> Iterator[None]:
    """Within, datasets gives a stand-in for an image or a sound that it cannot read.

    lmms-eval decodes whole rows, the first one already to make a task, so one damaged file would
    end an evaluation. Sounds stay files: datasets would need torchcodec to decode them, and
    lmms-eval would take its decoder for a video.
    """
    from datasets import Audio, Image

    image, audio = Image.decode_example, Audio.decode_example

    def decode_image(feature: Any, value: Any, token_per_repo_id: Any = None) -> Any:
        try:
            return image(feature, value, token_per_repo_id)
        except Exception as error:  # damaged files make decoders raise nearly anything
            return _stand_in(f"not a readable image: {reason_of(error)}")

    Image.decode_example, Audio.decode_example = decode_image, _decode_audio  # type: ignore
    try:
        yield
    finally:
        Image.decode_example, Audio.decode_example = image, audio


def why_broken(medium: Any) -> str:
    """The reason that a stand-in carries; "" for anything else."""
    facts = medium if isinstance(medium, dict) else getattr(medium, "info", {})
    return str(facts.get(BROKEN, ""))


def frames(folder: Path) -> list[Any]:
    """Pictures spread over a video that is stored as a folder of them, as MVBench has some.

    Raises:
        MediaError: one of them cannot be read.
    """
    files = sorted(file for file in folder.iterdir() if file.suffix.lower() in PICTURES)
    step = max(1.0, len(files) / MAX_FRAMES)
    return [_frame(files[int(k * step)]) for k in range(min(MAX_FRAMES, len(files)))]


def _frame(file: Path) -> Any:
    try:
        return load_image(file)
    except MediaError as error:
        raise MediaError(f"{file}: {error}") from error


def _decode_audio(feature: Any, value: Any, token_per_repo_id: Any = None) -> Any:
    if not isinstance(value, dict):
        return value
    try:
        data = value["bytes"] if value.get("bytes") is not None else Path(value["path"])
        return {"type": "audio", "url": read_limited(data, LIMITS)}
    except (MediaError, OSError, TypeError) as error:
        return {"type": "audio", BROKEN: f"not a readable sound: {error}"}


def _stand_in(reason: str) -> Any:
    """One black pixel; copies and conversions of it keep the reason."""
    import PIL.Image

    picture = PIL.Image.new("RGB", (1, 1))
    picture.info[BROKEN] = reason
    return picture
