"""What a request says of the voice that is to answer."""

from typing import Any

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
    check_voice(sound)
    # of a stream, nobody knows how long it will be, as the header of a WAV file says
    form = read_format(sound, "format", ("pcm16",) if stream else ("wav", "pcm16"))
    sound.close()
    return form


def check_voice(fields: Fields) -> None:
    """Take the voice out: a model has one.

    Raises:
        RequestError: it is another.
    """
    voice = fields.take("voice", str, default=VOICE)
    if voice != VOICE:
        reason = f"must be {VOICE!r}, not {short(voice)}: the model has one voice"
        raise RequestError(reason, fields.at("voice"))


def read_format(fields: Fields, name: str, known: tuple[str, ...], usual: Any = ...) -> str:
    """Take the format of the sound out.

    Raises:
        RequestError: it is not one of those `known`, or is not there and there is no `usual` one.
    """
    form = fields.take(name, str, default=usual)
    if form not in known:
        raise RequestError(f"must be {' or '.join(known)}, not {short(form)}", fields.at(name))
    return form
