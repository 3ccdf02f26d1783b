"""Media files of a row: checked by decoding, brought to a form all readers know, and named."""

import hashlib
import io
from dataclasses import dataclass, field

import soundfile
from PIL import Image

from omni.media import video
from omni.media.decode import MediaError, load_audio, load_image

from ..base import flac, jpeg

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
    """The media of one sample: `parts` as they are stored, `refs` in the order they came."""

    parts: dict[str, bytes] = field(default_factory=dict)
    refs: list[tuple[str, str]] = field(default_factory=list)

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
        return part


def kind_of(name: str) -> str | None:
    """Return image, audio, video or None by the suffix of a file name."""
    return KINDS.get(name.rpartition(".")[2].lower())


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
