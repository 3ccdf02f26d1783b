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
from omni.media.decode import ORIENTATION, load_audio, load_image, open_image
from omni.media.kind import kind_by_content
from omni.media.limits import LIMITS, MediaError
from omni.media.sound import sound_length

from ...shards.manifest import sha256
from ..base import flac, jpeg, png
from .convert import RowError

KINDS = {
    **dict.fromkeys(
        ("jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff", "avif", "heic", "heif", "jp2"),
        "image",
    ),
    **dict.fromkeys(
        ("flac", "wav", "mp3", "ogg", "oga", "opus", "m4a", "aac", "aiff", "aif", "weba", "wma"),
        "audio",
    ),
    **dict.fromkeys(("mp4", "m4v", "webm", "mkv", "mov", "avi", "flv", "wmv", "ogv"), "video"),
}
PREFIX = {"image": "img", "audio": "aud", "video": "vid"}
# first bytes of a video -> suffix
CONTAINERS = {b"RIFF": "avi", b"FLV": "flv", b"OggS": "ogv", b"0&\xb2u": "wmv", b"G": "ts"}
_PLAIN = ("1", "L", "P", "RGB")  # modes of a PNG that are shown alike everywhere
_LOSSY = ("AVIF", "HEIF")
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
        """Add files below `root`; a kind of "" is that of each file's content, or its suffix."""
        for name in names:
            meant = kind or kind_of(str(name))
            if meant is None:
                raise RowError(f"file {name!r}: its suffix is not that of image, audio or video")
            data = load(inside(root, name, meant), meant)
            self.add(kind or kind_by_content(data) or meant, data, str(name))


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
    """Keep what every reader shows as it is shown here; of the rest no pixel is lost.

    That is JPEG, which decodes fastest by far, and opaque upright PNG. What else is lossless
    becomes PNG, and what is lossy JPEG without subsampling, as a PNG of it is many times larger.
    """
    picture = load_image(data)
    with open_image(data) as opened:
        if opened.format in ("JPEG", "MPO"):  # the latter is a JPEG with others behind it
            return "jpg", data
        if opened.format == "PNG" and opened.mode in _PLAIN and _as_stored(opened):
            return "png", data
        if opened.format in _LOSSY or (opened.format == "WEBP" and b"VP8L" not in data):
            return "jpg", jpeg(picture, quality=95, subsampling="4:4:4")
    return "png", png(picture)


def _as_stored(opened: Image.Image) -> bool:
    """Tell whether nothing is transparent or to be turned, which some readers pass over."""
    turned = opened.getexif().get(ORIENTATION, 1) != 1
    return not turned and "transparency" not in opened.info


def _audio(data: bytes, name: str) -> tuple[str, bytes]:
    """Keep what libsndfile, which most readers have, hears whole; the rest becomes 16 kHz FLAC."""
    wave = load_audio(data)
    try:
        with soundfile.SoundFile(io.BytesIO(data)) as file:
            if file.format in KEPT_AUDIO and file.frames == sound_length(data)[0]:
                return KEPT_AUDIO[file.format], data
    except soundfile.SoundFileError:
        pass
    return "flac", flac(wave)


def _video(data: bytes, name: str) -> tuple[str, bytes]:
    """Keep a video as it is, once some of its frames could be decoded."""
    for _ in video.iter_video(data):
        pass
    return _container(data) or "mp4", data


def _container(data: bytes) -> str | None:
    """Return the suffix of a video's container; its name may lie."""
    if data[:4] == b"\x1aE\xdf\xa3":
        return "webm" if b"webm" in data[:64] else "mkv"
    if data[4:12] == b"ftypqt  ":
        return "mov"
    return next((suffix for magic, suffix in CONTAINERS.items() if data.startswith(magic)), None)
