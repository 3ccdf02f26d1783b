"""An OpenAI-compatible endpoint as an `Answerer`: vLLM, llama.cpp, or a service."""

import base64
import io
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from omni.generation.settings import Generation
from omni.media.decode import load_image

from ..answerer import Answerer, Messages
from ..store import omni_digest
from .opened import Opened

TRIES = 4  # with pauses that double, or as long as the endpoint asks for
SECONDS = 120.0  # for one answer
SILENCES = 3  # whole batches in a row without a word; then no more are sent
LOOK = 10.0  # seconds to say which model is there
JUST_NOW = 300.0  # seconds; some servers say that a model was made when they were asked
NO_KEY = "none"  # what servers at home are sent


class EndpointError(ValueError):
    """An endpoint that gave no answer to one question."""


class SilentError(EndpointError):
    """There was no answer in time."""


class RefusedError(OSError):
    """An endpoint that will answer nothing: a wrong key, address or model; or it hangs."""


def open_endpoint(
    address: str,
    model_name: str,
    tries: int = TRIES,
    seconds: float = SECONDS,
    key: str = "OPENAI_API_KEY",
    **limits: Any,
) -> Opened:
    """Ask the chat completions of `address`, all questions of a batch at once.

    Errors 408, 409, 429 and 5xx, broken connections and silence are tried again. A question
    that then has no answer is an `EndpointError`, which the `Answerer` counts, names and answers
    "". Images are sent as PNG; sounds and videos cannot be sent.

    Raises:
        ValueError: no model name; RefusedError, at the first question: see there.
    """
    import openai

    if not model_name:
        raise ValueError(f"openai:{address} needs --model-name: which model is to answer")
    secret = os.environ.get(key) or os.environ.get("OPENAI_API_KEY", NO_KEY)
    client = openai.OpenAI(base_url=address, api_key=secret, timeout=seconds, max_retries=tries - 1)
    limits["token_budget"] = 1 << 40  # batches only say how many questions are sent at once
    answerer = Answerer(
        Endpoint(client, address, model_name),
        cost=lambda messages: sum(len(turn["content"]) for turn in messages),
        encode=lambda batch: [as_chat(messages) for messages in batch],
        settings=f"{address} {model_name} {omni_digest()}",
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
    reached: bool = False
    """It answered once, so that it is worth asking on when it is silent."""
    silences: int = 0
    """Batches in a row that it left without an answer."""

    def __call__(
        self, batch: list[list[dict[str, Any]]], generation: Generation, keys: Sequence[str]
    ) -> list[str | ValueError]:
        with ThreadPoolExecutor(len(batch), "endpoint") as threads:
            found = list(threads.map(lambda messages: self.ask(messages, generation), batch))
        silent = all(isinstance(answer, SilentError) for answer in found)
        self.silences = self.silences + 1 if silent else 0
        if self.silences == SILENCES:
            raise RefusedError(f"{self.address} was silent for {SILENCES} batches: {found[0]}")
        return found

    def ask(self, messages: Any, generation: Generation) -> str | ValueError:
        """Return the answer to one conversation, or why there is none."""
        import openai

        from omni.generation.answer import cut

        refusals = openai.AuthenticationError, openai.PermissionDeniedError, openai.NotFoundError
        try:
            reply = self.client.chat.completions.create(
                model=self.model_name, messages=messages, **as_parameters(generation)
            )
            self.reached = True
            text = reply.choices[0].message.content
        except refusals as error:
            raise RefusedError(f"{self.address} refuses to answer: {error}") from error
        except openai.OpenAIError as error:
            if type(error) is openai.APIConnectionError and not self.reached:  # it is not there
                raise RefusedError(f"{self.address} cannot be reached: {error}") from error
            self.reached = True
            silent = isinstance(error, openai.APITimeoutError)
            kind = SilentError if silent else EndpointError
            return kind(f"{type(error).__name__}: {error}")
        except (AttributeError, IndexError, TypeError, ValueError):
            return EndpointError("the reply is not a chat completion")
        if not isinstance(text, str):
            return EndpointError("the reply has no text")
        return cut(text, generation.stop)


def as_parameters(generation: Generation) -> dict[str, Any]:
    """`Generation` as the API has it; what greedy answers do not heed is not sent."""
    sent: dict[str, Any] = {
        "max_tokens": generation.max_new_tokens, "temperature": generation.temperature
    }  # fmt: skip
    if generation.temperature:
        sent |= {"top_p": generation.top_p, "seed": generation.seed}
    if generation.stop:
        sent["stop"] = list(generation.stop[:4])  # services take four; all are cut off here
    return sent


def as_chat(messages: Messages) -> list[dict[str, Any]]:
    """Our messages as the API has them."""
    return [
        {"role": turn["role"], "content": [_part(part) for part in turn["content"]]}
        for turn in messages
    ]


def _part(part: dict[str, Any]) -> dict[str, Any]:
    if part["type"] == "text":
        return part
    out = io.BytesIO()
    load_image(part["image"]).save(out, "PNG")
    data = base64.b64encode(out.getvalue()).decode()
    return {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}}
