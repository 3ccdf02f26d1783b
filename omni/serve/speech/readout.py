"""A text -> the sound of it: OpenAI's /v1/audio/speech."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ...generation.speech import Speaking, SpeechError
from ...processing.asking import ASK_IMITATE, ASK_SAY
from ...processing.messages import audio, user
from ..fields import Fields
from ..limits import RequestLimits
from ..refusal import RequestError, short
from ..request import check_model, read_deadline, read_seed
from ..ticket import Ended, Event, Spoke
from ..voice import read_format, take_voice
from .sounds import Pcm, wav

if TYPE_CHECKING:
    from ...processing.processor import Encoded
    from ..encoding import Encoder

FORMATS = ("wav", "pcm")


@dataclass
class Said:
    """A request for speech."""

    text: str
    form: str
    temperature: float
    seed: int
    seconds: float
    clip: bytes = b""
    """of the voice that reads; none: the model's own"""
    voice = ""  # it is sound itself, and none follows

    def encode(self, encoder: "Encoder") -> "tuple[Encoded, str, Speaking]":
        """Return the text as an answer's, what tells it apart from others, and how it is said.

        Raises:
            RequestError: the model cannot speak, there is no word in the text, or no room.
        """
        encoder.check_speaks("model")
        messages = [user(audio(self.clip), ASK_IMITATE.format(text=self.text)) if self.clip
                    else user(ASK_SAY.format(text=self.text))]  # fmt: skip
        try:
            return encoder.to_say(messages, self.text, self.temperature, self.seed, "input")
        except SpeechError as error:
            raise RequestError(str(error), "input") from error

    @property
    def stream(self) -> bool:
        return self.form == "pcm"


def read_speech(fields: Fields, model: str, limits: RequestLimits) -> Said:
    """Read a request.

    Raises:
        RequestError: names what is wrong, why, and what is allowed.
    """
    check_model(fields, model)
    text = fields.take("input", str)
    if not text or len(text) > limits.max_characters:
        raise RequestError(f"must have 1 to {limits.max_characters:,} characters", "input")
    voice = take_voice(fields, limits.voices)
    form = read_format(fields, "response_format", FORMATS, FORMATS[0])
    fields.allow(instructions=("",), speed=(1,), stream_format=("audio",))
    seconds = read_deadline(fields, limits)
    temperature = fields.take("temperature", float, default=0.0)
    if temperature < 0:
        raise RequestError(f"must be from 0, not {short(temperature)}", "temperature")
    seed = read_seed(fields)
    fields.close()
    return Said(text, form, temperature, seed, seconds, limits.voices.get(voice, b""))


@dataclass
class Speech:
    """Collects the sound of one request.

    Args:
        said: the request.
        prompt_tokens: as the processor counts them.
    """

    said: Said
    prompt_tokens: int
    pieces: list[Any] = field(default_factory=list)
    pcm: Pcm = field(default_factory=Pcm)

    @property
    def media_type(self) -> str:
        return f"audio/{self.said.form}"

    def add(self, event: Event) -> None:
        """Take an event."""
        if isinstance(event, Spoke):
            self.pieces.append(event.wave)

    @property
    def body(self) -> bytes:
        """The whole answer."""
        import torch

        return wav(torch.cat([*self.pieces, torch.zeros(0)]))

    def chunks(self, event: Event) -> list[bytes]:
        """Return what a stream sends at an event, and at its end."""
        import torch

        wave = event.wave if isinstance(event, Spoke) else torch.zeros(0)
        sent = self.pcm.push(wave, last=isinstance(event, Ended))
        return [sent] if sent else []
