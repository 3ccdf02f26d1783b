"""An OpenAI-compatible endpoint as an `Answerer`: vLLM, llama.cpp, or a service."""

import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from omni.generation.settings import Generation
from omni.generation.thinking import cut, find_thinking

from ..answerer import Answerer, Messages
from ..reply import Reply
from ..store import omni_digest
from . import pictures
from .opened import Opened
from .pictures import send

SECONDS = 120.0  # for one answer
SILENCES = 3  # whole batches in a row without a word; then no more are sent
REFUSALS = 20  # questions in a row; then no more are sent
LOOK = 10.0  # seconds to say which model is there
JUST_NOW = 300.0  # seconds; some servers say that a model was made when they were asked
NO_KEY = "none"  # what servers at home are sent
LIMITS = ("max_tokens", "max_completion_tokens")  # the name that most know, and the newer one
HIDDEN = "<think>"  # stands for thinking that an endpoint keeps to itself


class EndpointError(ValueError):
    """An endpoint that gave no answer to one question."""


class SilentError(EndpointError):
    """There was no answer in time."""


class RefusalError(EndpointError):
    """It may not be asked this; a wrong key, address or model, unless it answers others."""


class RefusedError(OSError):
    """An endpoint that will answer nothing: a wrong key, address or model; or it hangs."""


class Question(NamedTuple):
    """Messages as the API has them, and what was done to their pictures."""

    messages: list[dict[str, Any]]
    remark: str


def open_endpoint(
    address: str,
    model_name: str,
    tries: int | None = None,
    seconds: float = SECONDS,
    key: str = "OPENAI_API_KEY",
    **limits: Any,
) -> Opened:
    """Ask the chat completions of `address`, all questions of a batch at once.

    Errors 408, 409, 429 and 5xx, broken connections and silence are tried again. A question
    that then has no answer is an `EndpointError`, which the `Answerer` counts, names and answers
    "". Images are sent as PNG, or smaller, see `send`; sounds and videos cannot be sent.

    Raises:
        ValueError: no model name; RefusedError, at the first question: see there.
    """
    import openai

    from .again import TRIES

    if not model_name:
        raise ValueError(f"openai:{address} needs --model-name: which model is to answer")
    secret = os.environ.get(key) or os.environ.get("OPENAI_API_KEY", NO_KEY)
    client = openai.OpenAI(base_url=address, api_key=secret, timeout=seconds, max_retries=0)
    limits["token_budget"] = 1 << 40  # batches only say how many questions are sent at once
    sizes = f"{pictures.MOST} {pictures.MOST_OF_ALL}"
    answerer = Answerer(
        Endpoint(client, address, model_name, tries or TRIES),
        cost=lambda messages: sum(len(turn["content"]) for turn in messages),
        encode=lambda batch: [as_chat(messages) for messages in batch],
        settings=f"{address} {model_name} {omni_digest()} {sizes}",
        reads=frozenset({"image"}),
        **limits,
    )
    return Opened(answerer, f"{address} {model_name} {_which(client, model_name)}".strip())


def _which(client: Any, model_name: str) -> str:
    """When the endpoint says the model was made, and of what; "" where it does not say."""
    import openai

    try:
        card = client.with_options(timeout=LOOK, max_retries=0).models.retrieve(model_name)
    except (openai.OpenAIError, ValueError):
        return ""
    made, root = getattr(card, "created", None), getattr(card, "root", None)
    if not isinstance(made, int) or abs(time.time() - made) < JUST_NOW:
        made = None
    return " ".join(str(fact) for fact in (made, root) if fact)


@dataclass
class Endpoint:
    """The `AnswerBatch` of one model behind one address."""

    client: Any
    address: str
    model_name: str
    tries: int
    reached: bool = False
    """It answered once, so that it is worth asking on when it is silent."""
    silences: int = 0
    """Batches in a row that it left without an answer."""
    refusals: int = 0
    """Questions in a row that it may not be asked."""
    limit: str = LIMITS[0]
    """What it calls the most new tokens."""

    def __call__(
        self, batch: list[Question], generation: Generation, keys: Sequence[str]
    ) -> list[Reply | ValueError]:
        with ThreadPoolExecutor(len(batch), "endpoint") as threads:
            found = list(threads.map(lambda question: self.ask(question, generation), batch))
        silent = all(isinstance(answer, SilentError) for answer in found)
        self.silences = self.silences + 1 if silent else 0
        if self.silences == SILENCES:
            raise RefusedError(f"{self.address} was silent for {SILENCES} batches: {found[0]}")
        for answer in found:
            self.refusals = self.refusals + 1 if isinstance(answer, RefusalError) else 0
            if self.refusals == REFUSALS:
                raise RefusedError(
                    f"{self.address} refuses to answer, {REFUSALS} questions in a row: {answer}"
                )
        return found

    def ask(self, question: Question, generation: Generation) -> Reply | ValueError:
        """Return the answer to one conversation, or why there is none."""
        import openai

        forbidden = openai.AuthenticationError, openai.PermissionDeniedError, openai.NotFoundError
        try:
            return self._ask(question, generation)
        except forbidden as error:
            everything = not isinstance(error, openai.PermissionDeniedError) and not self.reached
            if everything:  # a wrong key, address or model; 403 may be about one question
                raise RefusedError(f"{self.address} refuses to answer: {error}") from error
            return RefusalError(f"{type(error).__name__}: {error}")
        except openai.OpenAIError as error:
            if type(error) is openai.APIConnectionError and not self.reached:  # it is not there
                raise RefusedError(f"{self.address} cannot be reached: {error}") from error
            self.reached = True
            if getattr(error, "code", None) == "insufficient_quota":
                return RefusalError(f"{type(error).__name__}: {error}")
            silent = isinstance(error, openai.APITimeoutError)
            kind = SilentError if silent else EndpointError
            return kind(f"{type(error).__name__}: {error}")
        except (AttributeError, IndexError, TypeError, ValueError):
            return EndpointError("the reply is not a chat completion")

    def _ask(self, question: Question, generation: Generation) -> Reply | ValueError:
        found = self._send(question.messages, generation)
        self.reached = True
        reply = read_reply(found)
        stopped = isinstance(reply, Reply) and bool(generation.stop) and reply.finish == "stop"
        if stopped and find_thinking(str(reply)).open:  # by a stop string within its thinking
            reply = read_reply(self._send(question.messages, replace(generation, stop=())))
        if isinstance(reply, Reply):
            return Reply(cut(reply, generation.stop), reply.finish, question.remark)
        return reply

    def _send(self, messages: list[dict[str, Any]], generation: Generation) -> Any:
        """The reply; where the endpoint wants the other name of the limit, it gets that."""
        import openai

        from .again import ask_again

        def create() -> Any:
            parameters = as_parameters(generation, self.limit)
            return self.client.chat.completions.create(
                model=self.model_name, messages=messages, **parameters
            )

        used = self.limit
        try:
            return ask_again(create, self.tries)
        except openai.BadRequestError as error:
            if used != LIMITS[0] or LIMITS[1] not in str(error):
                raise
            self.limit = LIMITS[1]
            return ask_again(create, self.tries)


def read_reply(completion: Any) -> Reply | EndpointError:
    """What was written, thinking included, and why it ends.

    Raises:
        AttributeError, IndexError, TypeError: it is not a chat completion.
    """
    choice = completion.choices[0]
    message, finish = choice.message, choice.finish_reason or "stop"
    finish = finish if finish in ("length", "content_filter") else "stop"
    text = message.content if message.content is not None else getattr(message, "refusal", None)
    thinking = getattr(message, "reasoning_content", None) or getattr(message, "reasoning", None)
    if isinstance(thinking, str) and thinking.strip():
        closed = "</think>" if text or finish != "length" else ""
        return Reply(f"<think>{thinking}{closed}{text or ''}", finish)
    if (
        not (text or "").strip() and finish == "length"
    ):  # all went into thinking that it does not show
        return Reply(HIDDEN, finish)
    if text is None and finish == "content_filter":
        return Reply("", finish)
    if not isinstance(text, str):
        return EndpointError("the reply has no text")
    return Reply(text, finish)


def as_parameters(generation: Generation, limit: str = LIMITS[0]) -> dict[str, Any]:
    """`Generation` as the API has it; what greedy answers do not heed is not sent."""
    sent: dict[str, Any] = {
        limit: generation.max_new_tokens, "temperature": generation.temperature
    }  # fmt: skip
    if generation.temperature:
        sent |= {"top_p": generation.top_p, "seed": generation.seed}
    if generation.stop:
        sent["stop"] = list(generation.stop[:4])  # services take four; all are cut off here
    return sent


def as_chat(messages: Messages) -> Question:
    """Our messages as the API has them."""
    parts = [part for turn in messages for part in turn["content"]]
    count = sum(part["type"] == "image" for part in parts)
    remarks: list[str] = []

    def convert(part: dict[str, Any]) -> dict[str, Any]:
        if part["type"] == "text":
            return part
        sent = send(part["image"], count)
        remarks.extend([sent.remark] if sent.remark else [])
        return {"type": "image_url", "image_url": {"url": sent.url}}

    chat = [
        {"role": turn["role"], "content": [convert(part) for part in turn["content"]]}
        for turn in messages
    ]
    remark = f"sent as {', '.join(remarks)}, to stay within the size that services take"
    return Question(chat, remark if remarks else "")
