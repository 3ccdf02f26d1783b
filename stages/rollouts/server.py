"""A vLLM server that draws the answers of rollouts, with the weights that each begins with.

It serves a folder that `omni-train export` wrote, on a disk that both see, and has vLLM's
development endpoints. Before a rollout the weights are written into that folder, and it is told to
read them again. Token ids and log-probabilities come from it, so nothing is encoded anew; that
another program computes the log-probabilities is what the ratio of a policy's loss corrects.
"""

import base64
import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.error import URLError
from urllib.request import Request, urlopen

import torch
from accelerate import Accelerator

from eval.answering.backends.again import ask_again
from omni.generation.settings import Completion, Generation
from omni.generation.thinking import opening
from omni.generation.writer import PROMPT_END, ends_of, written
from omni.processing.messages import Message
from omni.processing.processor import Encoded

from ..engine.distribute import gathered
from ..trainable.lora import merged
from .episode import Episode

SECONDS = 600.0  # for one prompt's answers, or to read weights
AT_ONCE = 64  # prompts
LLM = "language_model."
CACHES = ("encoder", "mm", "prefix")  # of what the weights before made
MOST_OFF = 0.05  # |ratio - 1| of a token, on average
START = ("VLLM_SERVER_DEV_MODE=1 vllm serve FOLDER --trust-remote-code --logprobs-mode "
         "processed_logprobs, where FOLDER is what omni-train export wrote")  # fmt: skip


class ServerError(ValueError):
    """A server that is not there, or does not answer as the model would."""


class Server:
    """Asks one server.

    Args:
        address: of its API, `http://HOST:PORT/v1`.
        processor: of the model.

    Raises:
        ServerError: there is none, or its folder is not on a disk of this machine.
    """

    def __init__(self, address: str, processor: Any):
        import openai

        self.address, self.processor = address.rstrip("/"), processor
        key = os.environ.get("OPENAI_API_KEY", "none")
        self.client = openai.OpenAI(base_url=self.address, api_key=key, timeout=SECONDS,
                                    max_retries=0)  # fmt: skip
        try:
            [card, *_] = self.client.models.list().data
        except (openai.OpenAIError, ValueError) as error:
            raise ServerError(f"{address}: no server answers there ({error}); start one with "
                              f"{START}") from error  # fmt: skip
        self.name, self.folder = card.id, Path(str(getattr(card, "root", "")))
        if not (self.folder / "config.json").is_file():
            raise ServerError(f"{address}: it serves {str(self.folder)!r}, which is no folder on a "
                              f"disk of this machine; start it with {START}")  # fmt: skip
        self._ends: list[int] = []
        self._never: dict[str, float] = {}  # placeholders for which the LLM happens to have rows

    def update(self, model: Any, accelerator: Accelerator) -> None:
        """Let it answer with these weights from now on; every rank calls this.

        Raises:
            ServerError: it cannot read weights again.
        """
        weights = gathered(model, accelerator)
        self._ends = ends_of(model, self.processor.tokenizer, self.processor.ends[0])
        rows = model.config.get_text_config().vocab_size
        placeholders = (modality["token_id"] for modality in self.processor.modalities.values())
        self._never = {str(token): -100.0 for token in placeholders if token < rows}
        if accelerator.is_main_process:
            whole = merged(model, weights)
            with TemporaryDirectory(dir=self.folder) as scratch:
                if model.config.modalities:
                    model.save_pretrained(scratch, state_dict=whole)
                else:  # then the LLM alone was exported
                    named = {name.removeprefix(LLM): tensor for name, tensor in whole.items()
                             if name.startswith(LLM)}  # fmt: skip
                    model.language_model.save_pretrained(scratch, state_dict=named)
                for file in Path(scratch).glob("model*.safetensors*"):
                    file.replace(self.folder / file.name)  # what it was linked to stays as it is
            self._tell("collective_rpc", method="reload_weights")
            for cache in CACHES:
                self._tell(f"reset_{cache}_cache")
        accelerator.wait_for_everyone()

    def _tell(self, what: str, **body: Any) -> None:
        url = f"{self.address.removesuffix('/v1')}/{what}"
        headers = {"Content-Type": "application/json"}
        try:
            with urlopen(Request(url, json.dumps(body).encode(), headers), timeout=SECONDS):
                return
        except (URLError, TimeoutError) as error:
            raise ServerError(f"{url}: {error}; start the server with {START}") from error

    def complete(
        self, prompts: Sequence[Encoded], talks: Sequence[list[Message]] | None, how: Generation,
        keys: Sequence[str],
    ) -> list[Completion]:  # fmt: skip
        """Draw `how.n` answers to each prompt, those of one after another.

        Args:
            prompts: encoded; of one without media it is given the tokens.
            talks: their messages, which it renders and encodes itself where there are media; None
                where answers are among them, which to encode again would change.
            how: answers are drawn.
            keys: tell prompts apart, and what is drawn for them.

        Raises:
            ServerError: it refuses, or its tokens of a prompt are others.
        """
        import openai

        def ask(number: int) -> list[Completion]:
            prompt, talk = prompts[number], talks[number] if talks else None
            return ask_again(lambda: self._ask(prompt, talk, how, keys[number]))

        try:
            with ThreadPoolExecutor(AT_ONCE, "server") as threads:
                return [one for found in threads.map(ask, range(len(prompts))) for one in found]
        except openai.OpenAIError as error:
            raise ServerError(f"{self.address}: {error}") from error

    def _ask(
        self, prompt: Encoded, talk: list[Message] | None, how: Generation, key: str
    ) -> list[Completion]:
        tokenizer, (_, words) = self.processor.tokenizer, self.processor.ends
        stop = (*how.stop, *([words] if words else []))
        digest = hashlib.sha256(f"{how.seed}|{key}".encode()).digest()
        options: dict[str, Any] = {
            "model": self.name, "n": how.n, "max_tokens": how.max_new_tokens,
            "temperature": how.temperature, "top_p": how.top_p, "stop": list(stop) or None,
            "logit_bias": self._never or None,
            "seed": int.from_bytes(digest[:4]) >> 1,
            # what the folder's generation_config would make of it otherwise
            "extra_body": {"return_token_ids": True, "stop_token_ids": self._ends, "top_k": 0,
                           "min_p": 0.0, "repetition_penalty": 1.0},
        }  # fmt: skip
        ids = prompt.input_ids.tolist()
        if not prompt.media:
            choices = self.client.completions.create(prompt=ids, logprobs=0, **options).choices
            logprobs: list[Any] = [choice.logprobs.token_logprobs for choice in choices]
        elif talk is None:
            raise ServerError("a server cannot be shown media and then go on: attempts is 1")
        else:
            chat: Any = self.client.chat.completions.create(
                messages=[_as_chat(message) for message in talk],  # type: ignore[misc]
                logprobs=True, **options,
            )  # fmt: skip
            if chat.prompt_token_ids != ids:
                raise ServerError(f"{self.address}: it makes other tokens of a prompt than this "
                                  "model's processor; export the checkpoint again")  # fmt: skip
            choices = chat.choices
            logprobs = [[one.logprob for one in choice.logprobs.content] for choice in choices]
        begun = opening(tokenizer.decode(ids[-PROMPT_END:]))
        return [
            written(tokenizer, torch.tensor(choice.token_ids), torch.tensor(values), self._ends,
                    stop, begun)
            for choice, values in zip(choices, logprobs, strict=True)
        ]  # fmt: skip

    def compare(self, scored: Iterable[tuple[Episode, list[float]]]) -> None:
        """Compare its log-probabilities with those of the model whose weights it was given.

        Raises:
            ServerError: they differ by more than another order of additions explains.
        """
        away = [abs(torch.tensor(own) - torch.tensor(episode.logps)) for episode, own in scored]
        off = float(torch.cat(away).expm1().mean()) if away else 0.0
        if not off <= MOST_OFF:
            raise ServerError(
                f"{self.address}: its log-probabilities are {off:.1%} a token away from the "
                "model's: let it compute in the training's precision (--dtype), started with "
                f"{START}"
            )


def _as_chat(message: Message) -> dict[str, Any]:
    """Return a message as OpenAI's API has it, media as they are."""
    parts: list[dict[str, Any]] = []
    for part in message["content"]:
        kind = part["type"]
        if kind == "text":
            parts.append({"type": "text", "text": part["text"]})
            continue
        data = part[kind] if isinstance(part[kind], bytes) else Path(part[kind]).read_bytes()
        url = f"data:{kind}/x;base64,{base64.b64encode(data).decode()}"
        parts.append({"type": f"{kind}_url", f"{kind}_url": {"url": url}})
    return {"role": message["role"], "content": parts}
