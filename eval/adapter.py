"""Our model behind lmms-eval's chat interface. Importing this module imports lmms-eval."""

from collections.abc import Sequence
from typing import Any

from .batching import Answerer, Messages
from .bridge import prepare

prepare()  # before the first lmms_eval import: see there

from lmms_eval.api.instance import Instance  # noqa: E402
from lmms_eval.api.model import lmms  # noqa: E402


class ChatModel(lmms):
    """Turns official requests into our messages and sends them through an `Answerer`.

    `blind` removes every image. `cap` bounds the new tokens below the task's own limit: an early
    checkpoint that never ends its answer would otherwise write 1024 tokens for one letter.
    """

    is_simple = False
    accelerator = None  # ranks share the work in the `Answerer`; here there is one process

    def __init__(self, answerer: Answerer, blind: bool = False, cap: int | None = None) -> None:
        super().__init__()
        self.answerer = answerer
        self.blind = blind
        self.cap = cap

    def generate_until(self, requests: list[Instance]) -> list[str]:
        groups: dict[tuple[int, tuple[str, ...]], list[Instance]] = {}
        for request in requests:
            groups.setdefault(self._limits(request.arguments[2]), []).append(request)
        texts: dict[int, str] = {}
        for (most, stop), group in groups.items():
            conversations = Conversations(self, group)
            answers = self.answerer(conversations, most, stop, conversations.names)
            texts |= {id(request): text for request, text in zip(group, answers, strict=True)}
        return [texts[id(request)] for request in requests]

    def _limits(self, generation: dict[str, Any]) -> tuple[int, tuple[str, ...]]:
        until = generation.get("until") or ()
        stop = (until,) if isinstance(until, str) else tuple(until)
        most = int(generation.get("max_new_tokens", 64))
        return (most if self.cap is None else min(most, self.cap)), stop

    def clean(self) -> None:
        """Keep everything: the inherited method deletes the model's modules after a run."""

    def loglikelihood(self, requests: list[Instance]) -> list[tuple[float, bool]]:
        raise NotImplementedError("chat tasks only generate")

    def generate_until_multi_round(self, requests: list[Instance]) -> list[str]:
        raise NotImplementedError("multi-round tasks are not supported")


class Conversations(Sequence[Messages]):
    """The messages of requests, made when asked for: thousands of pictures are not held at once."""

    def __init__(self, chat: ChatModel, requests: list[Instance]) -> None:
        self.chat, self.requests = chat, requests

    def __len__(self) -> int:
        return len(self.requests)

    def __getitem__(self, number: Any) -> Any:
        arguments: tuple[Any, ...] = self.requests[number].arguments
        _, doc_to_messages, _, doc_id, task, split = arguments
        doc = self.chat.task_dict[task][split][doc_id]
        return convert(doc_to_messages(doc), self.chat.blind)

    @property
    def names(self) -> list[str]:
        return [f"{request.task_name}:{request.doc_id}" for request in self.requests]


def convert(messages: list[dict[str, Any]], blind: bool = False) -> Messages:
    """lmms-eval's {type, url} parts as ours; with `blind`, without the images."""
    converted = []
    for turn in messages:
        parts = [
            part if part["type"] == "text" else {"type": part["type"], part["type"]: part["url"]}
            for part in turn["content"]
            if not (blind and part["type"] == "image")
        ]
        converted.append({"role": turn["role"], "content": parts})
    return converted
