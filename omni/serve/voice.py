"""What a request says of the voice that is to answer."""

from collections.abc import Collection
from pathlib import Path
from typing import Any

from ..media.decode import MediaError, load_audio
from .fields import Fields
from .refusal import RequestError, short

VOICE = "default"


def read_voice(fields: Fields, stream: bool) -> str:
    """Read what a chat says of sound: the format that its answer is spoken in, "" for text alone.

    Raises:
        RequestError: names what is wrong, why, and what is allowed.
    """
    wanted = fields.take("modalities", list, default=["text"])
    given = fields.take("audio", dict, default=None)
    if wanted == ["text"]:
        if given is not None:
            raise RequestError('is for modalities ["text", "audio"] only', "audio")
        return ""
    if wanted not in (["text", "audio"], ["audio", "text"]):
        raise RequestError(
            f'must be ["text"] or ["text", "audio"], not {short(wanted)}', "modalities"
        )
    sound = Fields({} if given is None else given, "audio")
    take_voice(sound)
    # of a stream, nobody knows how long it will be, as the header of a WAV file says
    form = read_format(sound, "format", ("pcm16",) if stream else ("wav", "pcm16"))
    sound.close()
    return form


def take_voice(fields: Fields, known: Collection[str] = ()) -> str:
    """Take the name of the voice out: the model's own, or one of those `known`.

    Raises:
        RequestError: it is another.
    """
    voice = fields.take("voice", str, default=VOICE)
    if voice != VOICE and voice not in known:
        names = " or ".join(map(repr, (VOICE, *sorted(known))))
        more = "" if known else ": the model has one voice here"
        raise RequestError(f"must be {names}, not {short(voice)}{more}", fields.at("voice"))
    return voice


def read_voices(folder: Path) -> dict[str, bytes]:
    """Read a folder of clips, each of the voice that the file is called by.

    Raises:
        OSError: it cannot be read.
        ValueError: one of them is no sound or called as another voice, or there is none.
    """
    found = {}
    for path in sorted(folder.iterdir()):
        if path.is_file() and not path.name.startswith("."):
            try:
                load_audio(path)
            except MediaError as error:
                raise ValueError(f"{path}: {error}") from error
            if path.stem == VOICE or path.stem in found:
                raise ValueError(f"{path}: a voice called {path.stem!r} is there already")
            found[path.stem] = path.read_bytes()
    if not found:
        raise ValueError(f"{folder}: holds no clip of a voice")
    return found


def read_format(fields: Fields, name: str, known: tuple[str, ...], usual: Any = ...) -> str:
    """Take the format of the sound out.

    Raises:
        RequestError: it is not one of those `known`, or is not there and there is no `usual` one.
    """
    form = fields.take(name, str, default=usual)
    if form not in known:
        raise RequestError(f"must be {' or '.join(known)}, not {short(form)}", fields.at(name))
    return form
