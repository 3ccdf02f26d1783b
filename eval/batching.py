"""Many conversations, few batches: longest first, within a token budget, never answered twice."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from omni.messages import media_refs

Messages = list[dict[str, Any]]
# (conversations of one batch, most new tokens, stop strings) -> one text each
AnswerBatch = Callable[[list[Messages], int, tuple[str, ...]], list[str]]


@dataclass
class Answerer:
    """Answers any number of conversations through `answer_batch`, in the order given.

    A batch holds at most `max_batch` conversations and `token_budget` tokens, padding and new
    tokens included. Out of memory halves the batch. Bad input costs only the conversation that
    holds it: it is answered "" and named in `problems`. Identical conversations (same words,
    same media, same limits) are answered once, which makes the shuffled controls nearly free.
    """

    answer_batch: AnswerBatch
    cost: Callable[[Messages], int]
    token_budget: int = 4096
    max_batch: int = 16
    progress: Callable[[int], None] = lambda done: None
    problems: list[str] = field(default_factory=list)
    batches: int = 0
    _known: dict[str, str] = field(default_factory=dict)

    def __call__(
        self, conversations: Sequence[Messages], max_new_tokens: int, stop: tuple[str, ...] = ()
    ) -> list[str]:
        keys = [_digest(messages, max_new_tokens, stop) for messages in conversations]
        fresh = {k: m for k, m in zip(keys, conversations, strict=True) if k not in self._known}
        self.progress(len(keys) - len(fresh))
        costs = {key: self._cost(messages) + max_new_tokens for key, messages in fresh.items()}
        for batch in plan_batches(costs, self.token_budget, self.max_batch):
            texts = self._answer([fresh[key] for key in batch], max_new_tokens, stop)
            self._known.update(zip(batch, texts, strict=True))
            self.progress(len(batch))
        return [self._known[key] for key in keys]

    def _cost(self, messages: Messages) -> int:
        try:
            return self.cost(messages)
        except ValueError:  # bad media: named when it is answered
            return 0

    def _answer(
        self, batch: list[Messages], max_new_tokens: int, stop: tuple[str, ...]
    ) -> list[str]:
        try:
            self.batches += 1
            return self.answer_batch(batch, max_new_tokens, stop)
        except ValueError as error:  # MessageError, MediaError, PlaceholderError
            if len(batch) == 1:
                self.problems.append(f"{type(error).__name__}: {error}")
                return [""]
        except (RuntimeError, MemoryError) as error:
            if len(batch) == 1 or not _out_of_memory(error):
                raise
        half = len(batch) // 2
        return self._answer(batch[:half], max_new_tokens, stop) + self._answer(
            batch[half:], max_new_tokens, stop
        )


def plan_batches(costs: dict[str, int], token_budget: int, max_batch: int) -> list[list[str]]:
    """Keys grouped longest first, so that padding is small and the worst batch comes first.

    A batch costs (its longest) × (its size); one conversation above the budget goes alone.
    """
    batches: list[list[str]] = []
    longest = 0
    for key in sorted(costs, key=lambda k: (-costs[k], k)):
        size = len(batches[-1]) + 1 if batches else 0
        if not batches or size > max_batch or size * longest > token_budget:
            batches.append([])
            longest = costs[key]
        batches[-1].append(key)
    return batches


def for_model(model: Any, processor: Any, **limits: Any) -> Answerer:
    """An `Answerer` over `omni.answer.answer`."""
    from omni.answer import answer

    def answer_batch(batch: list[Messages], most: int, stop: tuple[str, ...]) -> list[str]:
        return answer(model, processor, batch, max_new_tokens=most, stop=stop)

    return Answerer(answer_batch, TokenCost(processor), **limits)


class TokenCost:
    """Estimates tokens from text length and media counts; encodes only one example of each kind.

    Exact counts would decode every image and sound twice. Order and budget need no more than this.
    """

    characters_per_token = 4

    def __init__(self, processor: Any) -> None:
        self.processor = processor
        self.per_medium: dict[tuple[str, ...], int] = {}  # kinds in a conversation -> their tokens

    def __call__(self, messages: Messages) -> int:
        letters = sum(len(part.get("text", "")) for turn in messages for part in turn["content"])
        words = letters // self.characters_per_token
        kinds = tuple(kind for kind, _ in media_refs(messages))
        if kinds and kinds not in self.per_medium:
            encoded = self.processor.encode(messages, generation=True)
            self.per_medium[kinds] = max(0, len(encoded) - words)
        return words + self.per_medium.get(kinds, 0)


def _digest(messages: Messages, max_new_tokens: int, stop: tuple[str, ...]) -> str:
    whole = hashlib.sha256(f"{max_new_tokens}|{stop}".encode())
    for turn in messages:
        whole.update(f"|{turn['role']}".encode())
        for part in turn["content"]:
            kind = part["type"]
            whole.update(f"|{kind}|".encode())
            whole.update(hashlib.sha256(_content(part[kind])).digest())
    return whole.hexdigest()


def _content(value: Any) -> bytes:
    if isinstance(value, bytes):
        return value
    if hasattr(value, "tobytes"):  # a PIL image or an array: its shape belongs to its content
        shape = getattr(value, "size", ""), getattr(value, "shape", ""), getattr(value, "mode", "")
        return str(shape).encode() + value.tobytes()
    return str(value).encode()


def _out_of_memory(error: BaseException) -> bool:
    return isinstance(error, MemoryError) or "out of memory" in str(error).lower()
