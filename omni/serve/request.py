"""A request's JSON -> what is asked, how it is to be answered, and in which form."""

import json
import secrets
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ..generation.budget import Budget
from ..generation.settings import SEEDS, Generation
from .content import Content, read_messages
from .fields import Fields
from .limits import RequestLimits
from .refusal import RequestError, short
from .sources import Sources
from .voice import read_voice

if TYPE_CHECKING:
    from ..processing.processor import Encoded
    from .encoding import Encoder

LABELS = ("user", "metadata", "safety_identifier", "prompt_cache_key")  # change no answer
MOST_STOPS, LONGEST_STOP = 16, 200  # strings, characters
LONGEST_WORDS = 200  # characters of what a budget of thinking puts in


@dataclass
class Asked:
    """One request. `prompt` is the text to continue, or the messages to answer.

    `limited` tells that the request itself said how many tokens it wants at most. `voice` is the
    format in which the answer is spoken as well; "" where it is not.
    """

    prompt: Content | str
    generation: Generation
    limited: bool
    stream: bool
    usage: bool
    logprobs: bool
    seconds: float
    voice: str = ""

    def encode(self, encoder: "Encoder") -> "tuple[Encoded, str, Generation]":
        """Return the prompt, what tells it apart from others, and how it is answered.

        Raises:
            RequestError: as `Encoder`, or it asks a model for sound that cannot speak.
        """
        if self.voice:
            encoder.check_speaks("modalities")
        return encoder(self.prompt, self.generation, self.limited)


def read_json(body: bytes) -> Any:
    """Parse a body.

    Raises:
        RequestError: it is not JSON.
    """

    def refuse(word: str) -> None:
        raise ValueError(f"{word} is no number of JSON")

    try:
        return json.loads(body, parse_constant=refuse)
    except RecursionError as error:
        raise RequestError("the body is nested too deeply") from error
    except ValueError as error:
        raise RequestError(f"the body is not JSON: {error}") from error


def read_chat(body: Any, model: str, limits: RequestLimits, sources: Sources) -> Asked:
    """Read a request to /v1/chat/completions.

    Raises:
        RequestError: names what is wrong, why, and what is allowed.
    """
    fields = Fields(body)
    messages = fields.take("messages", list)
    logprobs = fields.take("logprobs", bool, default=False)
    fields.allow(
        top_logprobs=(0,), tools=([],), tool_choice=("none", "auto"), functions=([],),
        parallel_tool_calls=(True, False), response_format=({"type": "text"},),
    )  # fmt: skip
    voice = read_voice(fields, bool(fields.left.get("stream")))
    if voice and logprobs:
        raise RequestError("not of an answer that is spoken", "logprobs")
    most = ("max_completion_tokens", "max_tokens")
    asked = read_common(
        fields, model, limits, most, logprobs, lambda: read_messages(messages, limits, sources)
    )
    if voice and asked.generation.n > 1:
        raise RequestError("must be 1 of an answer that is spoken", "n")
    return replace(asked, voice=voice)


def read_completion(body: Any, model: str, limits: RequestLimits) -> Asked:
    """Read a request to /v1/completions.

    Raises:
        RequestError: as `read_chat`.
    """
    fields = Fields(body)
    prompt = fields.take("prompt", str, list)
    if isinstance(prompt, list):
        if len(prompt) != 1 or type(prompt[0]) is not str:
            raise RequestError("must be a string, or a list of one", "prompt")
        prompt = Fields({"prompt": prompt[0]}).take("prompt", str)
    if not prompt or len(prompt) > limits.max_characters:
        raise RequestError(f"must have 1 to {limits.max_characters:,} characters", "prompt")
    fields.allow(best_of=(1,), echo=(False,), logprobs=(0,), suffix=("",))
    return read_common(fields, model, limits, ("max_tokens",), False, lambda: prompt)


def read_common(
    fields: Fields, model: str, limits: RequestLimits, most: tuple[str, ...], logprobs: bool,
    prompt: Callable[[], Content | str],
) -> Asked:  # fmt: skip
    """Read what every kind of request may hold, and the prompt last, as that takes longest.

    Args:
        fields: what the kind itself has not taken out.
        model: the name of the one that is served.
        limits: of a request.
        most: names under which it may say how many tokens it wants at most.
        logprobs: whether they are wanted.
        prompt: reads it.

    Raises:
        RequestError: names what is wrong, why, and what is allowed.
    """
    check_model(fields, model)
    for name in LABELS:
        fields.take(name, str, dict, default=None)
    fields.allow(
        frequency_penalty=(0,), presence_penalty=(0,), logit_bias=({},), store=(False,),
        service_tier=("auto", "default"),
    )  # fmt: skip
    stream = fields.take("stream", bool, default=False)
    usage = _usage(fields, stream)
    seconds = read_deadline(fields, limits)
    generation, limited = _generation(fields, limits, most)
    fields.close()
    return Asked(prompt(), generation, limited, stream, usage, logprobs, seconds)


def check_model(fields: Fields, model: str) -> None:
    """Take the name of the model out.

    Raises:
        RequestError: another one is asked for.
    """
    wanted = fields.take("model", str, default=model)
    if wanted != model:
        raise RequestError(
            f"{short(wanted)} is not served here, but {model} is", "model", 404, "model_not_found"
        )


def read_deadline(fields: Fields, limits: RequestLimits) -> float:
    """Take out the seconds in which all must be there.

    Raises:
        RequestError: they are more than there are.
    """
    seconds = fields.take("deadline", float, default=limits.deadline)
    if not 0 < seconds <= limits.deadline:
        raise RequestError(f"must be above 0 s, at most {limits.deadline:g}", "deadline")
    return seconds


def read_seed(fields: Fields) -> int:
    """Take the seed out; without one, nobody asked for the same answer again.

    Raises:
        RequestError: it is out of range.
    """
    seed = fields.take("seed", int, default=None)
    if seed is None:
        return secrets.randbelow(SEEDS)
    if not 0 <= seed < SEEDS:
        raise RequestError("must be a whole number from 0, below 2**63", "seed")
    return seed


def _usage(fields: Fields, stream: bool) -> bool:
    options = Fields(fields.take("stream_options", dict, default={}), "stream_options")
    if options.left and not stream:
        raise RequestError("is for streams only", "stream_options")
    usage = options.take("include_usage", bool, default=False)
    options.allow(include_obfuscation=(False,))
    options.close()
    return usage


def _generation(
    fields: Fields, limits: RequestLimits, names: tuple[str, ...]
) -> tuple[Generation, bool]:
    given = {name: fields.take(name, int, default=None) for name in names}
    given = {name: value for name, value in given.items() if value is not None}
    if len({*given.values()}) > 1:
        raise RequestError(f"{' and '.join(given)} differ; give one of them", next(iter(given)))
    name, most = next(iter(given.items()), (names[0], limits.max_new_tokens))
    if not 1 <= most <= limits.max_new_tokens:
        raise RequestError(f"must be 1 to {limits.max_new_tokens}, not {short(most)}", name)
    n = fields.take("n", int, default=1)
    if not 1 <= n <= limits.max_n:
        raise RequestError(f"must be 1 to {limits.max_n}, not {short(n)}", "n")
    found = Generation(
        max_new_tokens=most, n=n, stop=_stop(fields), seed=read_seed(fields),
        thinking=_thinking(fields, limits),
    )  # fmt: skip
    for field in ("temperature", "top_p"):
        value = fields.take(field, float, default=None)
        try:
            found = found if value is None else replace(found, **{field: value})
        except ValueError as error:
            raise RequestError(str(error).removeprefix(field).strip(), field) from error
    return found, bool(given)


def _thinking(fields: Fields, limits: RequestLimits) -> Budget | None:
    given = fields.take("thinking", dict, default=None)
    if given is None:
        return None
    inner = Fields(given, "thinking")
    found: dict[str, Any] = {"max": inner.take("max", int)}
    for name, kind in (("min", int), ("ignore_end", int), ("wait", str), ("marker", str),
                       ("final", str)):  # fmt: skip
        if (value := inner.take(name, kind, default=None)) is not None:
            found[name] = value
        if kind is str and len(value or "") > LONGEST_WORDS:
            raise RequestError(f"must have at most {LONGEST_WORDS} characters", inner.at(name))
    inner.close()
    if found["max"] > limits.max_new_tokens:
        raise RequestError(f"must be at most {limits.max_new_tokens}", "thinking.max")
    try:
        return Budget(**found)
    except ValueError as error:
        place, _, reason = str(error).partition(" ")
        raise RequestError(reason, place) from error


def _stop(fields: Fields) -> tuple[str, ...]:
    stop = fields.take("stop", str, list, default=[])
    strings = [stop] if isinstance(stop, str) else stop
    if len(strings) > MOST_STOPS or not all(
        type(one) is str and 0 < len(one) <= LONGEST_STOP for one in strings
    ):
        raise RequestError(
            f"must be at most {MOST_STOPS} strings of 1 to {LONGEST_STOP} characters", "stop"
        )
    return tuple(strings)
