"""Our model behind lmms-eval's chat interface. Importing this module imports lmms-eval."""

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

    def __init__(self, answerer: Answerer, blind: bool = False, cap: int | None = None) -> None:
        super().__init__()
        self.answerer = answerer
        self.blind = blind
        self.cap = cap

    def generate_until(self, requests: list[Instance]) -> list[str]:
        groups: dict[tuple[int, tuple[str, ...]], list[int]] = {}
        conversations: list[Messages] = []
        for number, request in enumerate(requests):
            arguments: tuple[Any, ...] = request.args
            _, doc_to_messages, generation, doc_id, task, split = arguments
            messages = convert(doc_to_messages(self.task_dict[task][split][doc_id]), self.blind)
            conversations.append(messages)
            groups.setdefault(self._limits(generation), []).append(number)
        texts = [""] * len(requests)
        for (most, stop), numbers in groups.items():
            answers = self.answerer([conversations[n] for n in numbers], most, stop)
            for number, text in zip(numbers, answers, strict=True):
                texts[number] = text
        return texts

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
