"""Media files of a row: checked by decoding, brought to a form all readers know, and named."""

import hashlib
import io
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import soundfile
from PIL import Image

from omni.media import video
from omni.media.decode import LIMITS, MediaError, load_audio, load_image

from ...shards.manifest import sha256
from ..base import flac, jpeg
from .convert import RowError

KINDS = {
    **dict.fromkeys(("jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff"), "image"),
    **dict.fromkeys(("flac", "wav", "mp3", "ogg", "opus", "m4a", "aac", "aiff"), "audio"),
    **dict.fromkeys(("mp4", "webm", "mkv", "mov", "avi"), "video"),
}
PREFIX = {"image": "img", "audio": "aud", "video": "vid"}
# what libsndfile calls a format -> the suffix under which the file is kept as it is
KEPT_AUDIO = {"FLAC": "flac", "WAV": "wav", "OGG": "ogg", "MP3": "mp3"}


@dataclass
class Attachments:
    """The media of one sample: `parts` as they are stored, `refs` in the order they came.

    `names` maps what the row calls a file to its part.
    """

    parts: dict[str, bytes] = field(default_factory=dict)
    refs: list[tuple[str, str]] = field(default_factory=list)
    names: dict[str, str] = field(default_factory=dict)

    def add(self, kind: str, data: bytes, name: str = "") -> str:
        """Decode and keep one file; `kind` is image, audio or video. Return its part name.

        Raises:
            MediaError: it is not what it is said to be, or over a limit.
        """
        try:
            suffix, data = {"image": _image, "audio": _audio, "video": _video}[kind](data, name)
        except MediaError as error:
            raise MediaError(f"{kind} {name!r}: {error}" if name else f"{kind}: {error}") from error
        number = sum(kind == other for other, _ in self.refs)
        part = f"{PREFIX[kind]}{number}.{suffix}"
        self.parts[part] = data
        self.refs.append((kind, part))
        if name:
            self.names[name] = part
        return part

    def read(self, root: Path, kind: str, names: list[Any]) -> None:
        """Add files below `root`; a kind of "" is that of each file's suffix."""
        for name in names:
            found = kind or kind_of(str(name))
            if found is None:
                raise RowError(f"file {name!r}: its suffix is not that of image, audio or video")
            self.add(found, load(inside(root, name, found), found), str(name))


def listed(row: dict[str, Any], *columns: str) -> list[Any]:
    """Return the file names under the first of `columns` that has any, always as a list."""
    value = next((row[name] for name in columns if row.get(name)), [])
    return value if isinstance(value, list) else [value]


def file_names(root: Path, files: list[Any]) -> tuple[str, ...]:
    """Return what files are known by: their names, and their content where they are there."""
    names: list[str] = []
    for file in files:
        names.append(str(file))
        with suppress(RowError, OSError):  # named when the sample is made
            names.append(sha256(inside(root, file)))
    return tuple(names)


def kind_of(name: str) -> str | None:
    """Return image, audio, video or None by the suffix of a file name."""
    return KINDS.get(name.rpartition(".")[2].lower())


def inside(root: Path, name: Any, what: str = "file") -> Path:
    """Return the path of a file that a row names; `what` it is goes into the error.

    Raises:
        RowError: it is outside `root`, for rows are hostile, or is not there.
    """
    try:
        path = (root / str(name)).resolve()
    except ValueError as error:  # a name with a null byte
        raise RowError(f"{what} {name!r} is no name of a file") from error
    if not path.is_relative_to(root.resolve()):
        raise RowError(f"{what} {name!r} lies outside {root}")
    if not path.is_file():
        raise RowError(f"{what} {name!r} is not in {root}")
    return path


def load(path: Path, kind: str) -> bytes:
    """Read a media file that is within the size limit of its kind."""
    size = path.stat().st_size
    limit = (video.LIMITS if kind == "video" else LIMITS).max_bytes
    if size > limit:
        raise MediaError(f"{path.name}: {size:,} bytes is over the limit of {limit:,}")
    return path.read_bytes()


def content(data: bytes) -> str:
    """Return a name for a file that is the same for every copy of it."""
    return f"sha256:{hashlib.sha256(data).hexdigest()[:32]}"


def _image(data: bytes, name: str) -> tuple[str, bytes]:
    """Keep JPEG as it is; other formats become JPEG, which decodes fastest by far."""
    picture = load_image(data)
    with Image.open(io.BytesIO(data)) as opened:
        if opened.format == "JPEG":
            return "jpg", data
    return "jpg", jpeg(picture, quality=95)


def _audio(data: bytes, name: str) -> tuple[str, bytes]:
    """Keep what libsndfile reads without loss; the rest becomes 16 kHz FLAC."""
    wave = load_audio(data)
    try:
        with soundfile.SoundFile(io.BytesIO(data)) as file:
            kept = KEPT_AUDIO.get(file.format)
    except soundfile.SoundFileError:
        kept = None
    return (kept, data) if kept else ("flac", flac(wave))


def _video(data: bytes, name: str) -> tuple[str, bytes]:
    """Keep a video as it is, once some of its frames could be decoded."""
    for _ in video.iter_video(data):
        pass
    suffix = name.rpartition(".")[2].lower()
    return (suffix if KINDS.get(suffix) == "video" else "mp4"), data
