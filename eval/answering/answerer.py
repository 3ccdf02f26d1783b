"""Many conversations, few batches: longest first, within a token budget, never answered twice."""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from math import log2
from typing import Any

from omni.generation.settings import Generation
from omni.processing.identity import Identity, identify
from omni.processing.messages import MEDIA, media_refs, system

from .memory import TooLargeError, out_of_memory, release
from .ranks import Ranks
from .reply import Note, Reply
from .speaker import Heard, Speaker
from .store import AnswerStore

Messages = list[dict[str, Any]]
# (what `encode` made of one batch, how to answer, digests of its questions) -> one text each, or
# the error why there is none
AnswerBatch = Callable[[Any, Generation, Sequence[str]], Sequence[str | Reply | ValueError]]
LONGEST = 1 << 16  # characters of an answer that scorers are shown
KEEP = 1 << 30  # bytes of media that wait for their turn; others are decoded once more


class CannotAskError(LookupError):
    """The questions hold media that the model has no way to take."""


@dataclass
class Answerer:
    """Answers any number of conversations through `answer_batch`, in the order given.

    A batch holds at most `max_batch` conversations and `token_budget` tokens, padding and new
    tokens included. While it is answered, `encode` makes the next one ready in a thread. Out of
    memory halves the batch. Bad input, or what does not fit in memory alone, costs only the
    conversation that holds it: it is answered "" and named in `problems`. Identical conversations
    (same words, media and `Generation`) are answered once and kept in `store`, batch by batch, as
    they were written; problems are not, and are tried again. The very first batch is one
    conversation, the longest.

    Thinking is taken out of an answer, and one of more than `LONGEST` characters loses its middle;
    `notes` name these, those cut at the limit of new tokens, and those that are none.

    With several `ranks` each answers a part of equal cost, and all of them return all answers.
    """

    answer_batch: AnswerBatch
    cost: Callable[[Messages], int]
    encode: Callable[[list[Messages]], Any] = lambda batch: batch
    settings: str = ""
    """Digest of what decides the answers besides weights and questions."""
    sampling: Mapping[str, Any] = field(default_factory=dict)
    """Fields of `Generation` that hold for every question, whatever a row asks for."""
    system: str = ""
    """What stands before every conversation, and before a system message of its own."""
    loaded: Mapping[str, Any] = field(default_factory=dict)
    """What was chosen when the model was loaded, for the reader of a table: its dtype, sizes."""
    reads: frozenset[str] = frozenset(MEDIA)
    """Kinds of media that the model takes."""
    speaker: Speaker | None = None
    """Who speaks answers, of a model that speaks."""
    token_budget: int = 4096
    max_batch: int = 32
    progress: Callable[[int], None] = lambda done: None
    ranks: Ranks = Ranks()  # noqa: RUF009
    store: AnswerStore = field(default_factory=AnswerStore)
    notes: list[Note] = field(default_factory=list)
    thoughts: list[int] = field(default_factory=list)
    """tokens of thinking of every answer, where that had a budget"""
    batches: int = 0

    @property
    def problems(self) -> list[str]:
        """What has no answer, and why."""
        return self.noted("unanswered")

    @property
    def shortened(self) -> list[str]:
        return self.noted("shortened")

    def noted(self, kind: str) -> list[str]:
        """Notes of one kind as lines."""
        return [note.line for note in self.notes if note.kind == kind]

    def __call__(
        self,
        conversations: Sequence[Messages],
        generation: Generation,
        names: Sequence[str] = (),
    ) -> list[str]:
        """Answer `conversations`, which may make each item anew; `names` name them in problems.

        Raises:
            CannotAskError: they hold media of a kind that is not in `reads`.
            ValueError: several answers to each are wanted.
        """
        generation = replace(generation, **self.sampling)
        if generation.n != 1:
            raise ValueError(
                f"n is {generation.n}, but a question has one score: ask with other seeds instead"
            )
        if self.system:
            conversations = _Introduced(conversations, self.system)
        keys, fresh, errors = self._look(conversations, generation)
        self.progress(len(keys) - len(fresh))
        most = generation.longest
        mine = self.ranks.share({key: q.cost + most for key, q in fresh.items()})
        errors |= self._ask({key: fresh[key] for key in mine}, mine, generation)
        for others, theirs in self.ranks.gather(
            ({k: self.store.answers.get(k) for k in mine}, errors)
        ):
            self.store.answers |= {k: text for k, text in others.items() if text is not None}
            errors |= theirs
        self.progress(len(fresh) - len(mine))
        return self._tell(keys, errors, names)

    def hear(
        self, conversations: Sequence[Messages], texts: Sequence[str], among: Sequence[str]
    ) -> list[Heard]:
        """Have answers spoken, and return what was heard; see `Speaker`.

        Raises:
            CannotAskError: the model cannot speak.
        """
        if self.speaker is None:
            raise CannotAskError("the model cannot speak: it has no codec and head of codes")
        if self.system:
            conversations = _Introduced(conversations, self.system)
        return self.speaker(conversations, texts, among, self.ranks)

    def _look(
        self, conversations: Sequence[Messages], generation: Generation
    ) -> "tuple[list[str], dict[str, _Question], dict[str, str]]":
        """Return keys of all conversations, questions not answered yet, and why some cannot be."""
        keys: list[str] = []
        errors: dict[str, str] = {}
        fresh: dict[str, _Question] = {}
        room = KEEP
        for number in range(len(conversations)):
            try:
                messages = conversations[number]
            except ValueError as error:  # of this doc alone: a damaged image, an empty column
                keys.append(f"conversation {number}")
                errors[keys[-1]] = f"{type(error).__name__}: {error}"
                continue
            if unread := {kind for kind, _ in media_refs(messages)} - self.reads:
                kinds = " and ".join(sorted(unread))
                raise CannotAskError(f"there is {kinds} in the questions, but the model takes none")
            identity = identify(messages)
            key = key_of(identity.whole, generation)
            keys.append(key)
            if key not in self.store and key not in fresh:
                room -= identity.size
                kept = messages if room >= 0 else None
                fresh[key] = _Question(conversations, number, self._cost(messages), identity, kept)
        return keys, fresh, errors

    def _cost(self, messages: Messages) -> int:
        try:
            return self.cost(messages)
        except (ValueError, RuntimeError, MemoryError) as error:
            if not (isinstance(error, ValueError) or out_of_memory(error)):
                raise
            return 0  # named when it is answered

    def _ask(
        self,
        questions: "dict[str, _Question]",
        costs: dict[str, int],
        generation: Generation,
    ) -> dict[str, str]:
        """Answer into the store; return why some have no answer."""
        errors: dict[str, str] = {}
        media = {key: questions[key].identity.media for key in costs}
        batches = plan_batches(costs, media, self.token_budget, self.max_batch)
        if batches and not self.batches:  # the longest by itself: what fails does so at once
            longest = max(costs, key=costs.__getitem__)
            others = [[key for key in batch if key != longest] for batch in batches]
            batches = [[longest], *filter(None, others)]
        for batch, ready in self._ahead([[questions[key] for key in b] for b in batches]):
            found = self._answer(batch, generation, ready)
            answers = dict(zip(batches.pop(0), found, strict=True))
            self.store.add({key: text for key, text in answers.items() if isinstance(text, str)})
            for key, error in answers.items():
                if isinstance(error, ValueError):
                    errors[key] = f"{type(error).__name__}: {error}"
            self.progress(len(batch))
        return errors

    def _ahead(
        self, batches: "list[list[_Question]]"
    ) -> "Iterator[tuple[list[_Question], Future[Any]]]":
        """Yield every batch as it is being encoded; meanwhile the one after it waits its turn."""
        with ThreadPoolExecutor(1, "encode") as thread:
            ahead = [thread.submit(self._encode, batch) for batch in batches[:1]]
            for number, batch in enumerate(batches):
                ahead += [thread.submit(self._encode, b) for b in batches[number + 1 : number + 2]]
                yield batch, ahead.pop(0)

    def _encode(self, batch: "list[_Question]") -> Any:
        return self.encode([question.messages for question in batch])

    def _answer(
        self,
        batch: "list[_Question]",
        generation: Generation,
        ready: "Future[Any] | None" = None,
        last: bool = False,
    ) -> list[str | ValueError]:
        """Answer a batch, its halves where it is too much; `last` tries no part again."""
        problem = ""
        try:
            encoded = ready.result() if ready else self._encode(batch)
            self.batches += 1
            keys = [question.identity.whole for question in batch]
            return list(self.answer_batch(encoded, generation, keys))
        except ValueError as error:  # MessageError, MediaError, PlaceholderError
            if len(batch) == 1:
                return [error]
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            problem = str(error).partition("\n")[0] or type(error).__name__
        if problem:  # the error is gone, and the tensors that its traceback held
            ready = encoded = None
            release()
        if len(batch) == 1 and last:
            return [TooLargeError(f"it does not fit in memory: {problem}")]
        if len(batch) == 1:
            return self._answer(batch, generation, last=True)
        half = len(batch) // 2
        return self._answer(batch[:half], generation) + self._answer(batch[half:], generation)

    def _tell(self, keys: list[str], errors: dict[str, str], names: Sequence[str]) -> list[str]:
        """Return the answers in order; note what is to be known of them."""
        texts = []
        for number, key in enumerate(keys):
            name = names[number] if names else ""
            if key in errors:
                self.notes.append(Note("unanswered", name, errors[key]))
                texts.append("")
            else:
                texts.append(self._read(name, self.store[key]))
        return texts

    def _read(self, name: str, reply: Reply) -> str:
        """The answer in what was written; note what was done to find it."""
        why, answer = reply.why_none, reply.answer
        self.thoughts.append(reply.thinking)
        if reply.remark:
            self.notes.append(Note("remark", name, reply.remark))
        if reply.thought:
            self.notes.append(Note("thought", name, f"{len(reply) - len(answer):,} characters"))
        if reply.finish == "length":
            self.notes.append(Note("cut", name, f"after {len(reply):,} characters"))
        if why:
            self.notes.append(Note("unanswered", name, why))
            return ""
        if len(answer) > LONGEST:
            self.notes.append(Note("shortened", name, f"{len(answer):,} characters"))
            return answer[: LONGEST // 2] + " … " + answer[-LONGEST // 2 :]
        return answer


@dataclass
class _Introduced(Sequence[Messages]):
    """Conversations behind a system message."""

    conversations: Sequence[Messages]
    text: str

    def __len__(self) -> int:
        return len(self.conversations)

    def __getitem__(self, number: Any) -> Any:
        first, *others = self.conversations[number]
        if first["role"] == "system":
            return [system(f"{self.text}\n\n", *first["content"]), *others]
        return [system(self.text), first, *others]


@dataclass
class _Question:
    """Conversation `number` of many, kept or made anew."""

    conversations: Sequence[Messages]
    number: int
    cost: int
    identity: Identity
    kept: Messages | None

    @property
    def messages(self) -> Messages:
        return self.conversations[self.number] if self.kept is None else self.kept


def plan_batches(
    costs: dict[str, int], media: dict[str, str], token_budget: int, max_batch: int
) -> list[list[str]]:
    """Keys grouped longest first, so that padding is small and the worst batch comes early.

    A batch costs (its longest) × (its size); one conversation above the budget goes alone. Costs
    within a tenth count as equal, and of those the ones meet whose `media` others have too: what
    begins alike may run once, see `omni.generation.prefix`.
    """
    batches: list[list[str]] = []
    longest = 0
    shown = Counter(media.values())
    several = (about for about, times in shown.items() if times > 1)
    place = {about: number for number, about in enumerate(several, 1)}

    def order(key: str) -> tuple[int, int, int]:
        return -round(8 * log2(costs[key] + 1)), place.get(media[key], 0), -costs[key]

    for key in sorted(costs, key=order):
        size = len(batches[-1]) + 1 if batches else 0
        longest = max(longest, costs[key])
        if not batches or size > max_batch or size * longest > token_budget:
            batches.append([])
            longest = costs[key]
        batches[-1].append(key)
    return batches


def key_of(question: str, generation: Generation) -> str:
    """What an answer is kept under: the digest of a question and of all of how it is answered."""
    return hashlib.sha256(f"{generation.key}|{question}".encode()).hexdigest()
