"""Media files of a row: checked by decoding, brought to a form all readers know, and named."""

import hashlib
import io
from dataclasses import dataclass, field

import soundfile
from PIL import Image

from omni.media import video
from omni.media.decode import ORIENTATION, load_audio, load_image, open_image
from omni.media.limits import MediaError
from omni.media.sound import sound_length

from ..base import flac, jpeg, png

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
