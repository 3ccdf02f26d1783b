"""Where a row's media lie: in files below a folder, or in the row itself."""

import base64
import binascii
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from omni.media import video
from omni.media.decode import LIMITS, MediaError

from ...shards.manifest import sha256
from ..base import SourceError
from .attachments import Attachments, content, kind_of
from .convert import RowError, said

Allow = Annotated[
    str, "folders, joined by ':', that absolute names and names with '..' may also lead to"
]
# by which keys a row names its media; of several, the first that is not empty counts
MEDIA = {
    "image": ("image", "images", "image_path", "image_paths", "img", "img_path", "picture"),
    "audio": ("audio", "audios", "audio_path", "audio_paths", "sound", "speech"),
    "video": ("video", "videos", "video_path", "video_paths"),
}
ENCODED = ("data", "base64", "url", "path", "file", "file_name")  # of a cell that is an object
URL = re.compile(r"[a-z][a-z0-9+.\-]*://", re.IGNORECASE)
_DATA_URL = re.compile(r"data:[^,]*?(;base64)?,", re.IGNORECASE)
_BASE64 = re.compile(r"[A-Za-z0-9+/_\-\s]+={0,2}\s*")
SHORTEST = 64  # characters of base64: no media file is smaller


@dataclass(frozen=True)
class Places:
    """The folder that a row's names are in, and what else they may lead to.

    Links below the folder are the user's own and are followed wherever they point; a name comes
    with the data, which may be anybody's, so one that would leave the folder is refused.
    """

    root: Path
    allowed: tuple[Path, ...] = field(default=())

    @classmethod
    def of(cls, root: Path, allow: str = "") -> "Places":
        """Return the places of a source's options; raises SourceError for no folder."""
        allowed = tuple(Path(name).expanduser() for name in allow.split(os.pathsep) if name)
        for folder in allowed:
            if not folder.is_dir():
                raise SourceError(f"--allow {folder}: no such folder")
        return cls(root, allowed)

    def path(self, name: Any, what: str = "file") -> Path:
        """Return the path of a file that a row names; `what` it is goes into the error.

        Raises:
            RowError: it leaves the folders, or is not there.
        """
        text = str(name).removeprefix("file://")
        if "\0" in text:
            raise RowError(f"{what} {_short(name)} is no name of a file")
        try:
            path = self.root / text
            if Path(text).is_absolute() or ".." in Path(text).parts:
                path = path.resolve()
                folders = [folder.resolve() for folder in (self.root, *self.allowed)]
                if not any(path.is_relative_to(folder) for folder in folders):
                    raise RowError(
                        f"{what} {name!r} lies outside {self.root}; if that is meant, give its "
                        "folder by --allow"
                    )
            there = path.is_file()
        except OSError as error:  # a name that is too long
            raise RowError(f"{what} {_short(name)} is no name of a file") from error
        if not there:
            if URL.match(text):
                raise RowError(f"{what} {name!r} is a URL; fetch it first and name the file")
            raise RowError(f"{what} {_short(name)} is not in {self.root}")
        return path

    def read(self, kind: str, value: Any) -> tuple[bytes, str]:
        """Return (bytes, name) of a medium, as a row gives it.

        Args:
            kind: image, audio or video.
            value: bytes, a file's name, a data URL, base64, or an object with one of these.

        Raises:
            RowError, MediaError, OSError: there is no such file, or it is too large.
        """
        data, name = embedded(value)
        if data is not None:
            return data, name
        if not name:
            raise RowError(f"{kind} {_short(value)} has neither bytes nor the name of a file")
        return load(self.path(name, kind), kind), name

    def names(self, media: Sequence[Any]) -> tuple[str, ...]:
        """Return what media are known by: names of files, and contents where they can be read."""
        names: list[str] = []
        for value in media:
            try:
                data, name = embedded(value)
            except RowError:  # named when the sample is made
                names.append(said(value))
                continue
            if data is not None:
                names.append(content(data))
                continue
            names.append(name or said(value))
            with suppress(RowError, OSError):
                names.append(f"sha256:{sha256(self.path(name))[:32]}")  # as `content`
        return tuple(names)

    def attach(self, media: Sequence[tuple[str, Any]]) -> tuple[Attachments, list[str]]:
        """Decode the media of a sample; return them and their part names, in order."""
        found = Attachments()
        return found, [found.add(kind, *self.read(kind, value)) for kind, value in media]


def walk(root: Path) -> Iterator[Path]:
    """Yield the files below a folder in order; linked folders too, but none within itself."""
    for folder, folders, names in os.walk(root, followlinks=True):
        depth = len(Path(folder).relative_to(root).parts)
        above = [os.path.realpath(path) for path in list(Path(folder).parents)[:depth]]
        if os.path.realpath(folder) in above:
            folders.clear()
            continue
        folders.sort()
        yield from (path for name in sorted(names) if (path := Path(folder, name)).is_file())


def embedded(value: Any) -> tuple[bytes | None, str]:
    """Return (bytes, name) of what a row gives: bytes that it holds itself, else a name alone.

    Raises:
        RowError: it is a data URL that cannot be decoded.
    """
    name = ""
    if isinstance(value, Mapping):
        name = str(value.get("path") or value.get("name") or "")
        data = value.get("bytes")
        if not isinstance(data, bytes):
            data = next((value[key] for key in ENCODED if value.get(key)), None)
        value = data
    if isinstance(value, bytes):
        return value, name
    if not isinstance(value, str):
        return None, ""
    if mark := _DATA_URL.match(value):
        if not mark[1]:
            raise RowError(f"{_short(value)} is a data URL without base64")
        return _unbase64(value[mark.end() :], value), name
    if len(value) >= SHORTEST and kind_of(value) is None and _BASE64.fullmatch(value):
        with suppress(RowError):
            return _unbase64(value, value), name
    return None, value


def _unbase64(text: str, shown: str) -> bytes:
    try:
        plain = "".join(text.split()).replace("-", "+").replace("_", "/")
        return base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)
    except (binascii.Error, ValueError) as error:
        raise RowError(f"{_short(shown)} is not readable base64: {error}") from error


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) < 200 else f"{text[:60]}... ({len(text):,} characters)"


def load(path: Path, kind: str) -> bytes:
    """Read a media file that is within the size limit of its kind."""
    size = path.stat().st_size
    limit = (video.LIMITS if kind == "video" else LIMITS).max_bytes
    if size > limit:
        raise MediaError(f"{path.name}: {size:,} bytes is over the limit of {limit:,}")
    return path.read_bytes()
