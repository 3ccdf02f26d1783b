"""Thinking within its budget, token by token, in the loop of `generate`."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch

from ..processing.literal import literal_ids
from .budget import Budget
from .sampling import Sampler
from .thinking import CLOSING, TAGS, first_stop, spell
from .watch import settled

TAIL = 24  # tokens of which a tag may be made; the longest has so many characters
BLANK = 4  # tokens of mere space that may begin an answer
RECENT = 64  # tokens of an answer in which a stop string or a tag is looked for


@dataclass
class Row:
    """One answer in the making.

    `thought` are its tokens of thinking, `answer` those after it, both without what was put there
    to open, close or begin them; `thoughts` is the text of the first once it is closed.
    """

    closing: str
    forced: list[int]
    phase: Literal["open", "think", "close", "answer"] = "open"
    thought: list[int] = field(default_factory=list)
    answer: list[int] = field(default_factory=list)
    thoughts: str = ""
    ignored: int = 0
    spoken: bool = False
    """whether the answer has more than space in it"""
    done: bool = False
    stopped: bool = False
    """whether it ends by itself, and not at its most tokens"""

    @property
    def opening(self) -> str:
        return next(tag for tag, closing in CLOSING.items() if closing == self.closing)

    @property
    def before(self) -> str:
        """The text before the answer, once thinking is closed."""
        return f"{self.opening}{self.thoughts}{self.closing}\n"


class Forcing:
    """The logits processor after a `Sampler`; `ended` is the criterion of the same `generate`.

    Each row is a state machine of its own: what opens thinking is put there, then the model
    thinks; an end that comes too early is replaced by `wait`; at the budget's end, what closes
    thinking is put there. An end of text within thinking ends the thinking. In the answer, no
    token is taken that would leave it empty, or open or close thinking again: the next best is.
    A closing tag that is several tokens is held back at its last one.

    Args:
        budget: of thinking.
        most: tokens of an answer.
        tokenizer: of the model.
        sampler: what this comes after; log-probabilities of what is put in are 0 there.
        prompt: tokens of the prompts, padding included.
        begun: of each row, the tag that its prompt ends with, or "".
        ends: ids that end an answer.
        stop: strings that end one.
    """

    def __init__(
        self, budget: Budget, most: int, tokenizer: Any, sampler: Sampler, prompt: int,
        begun: Sequence[str], ends: Sequence[int], stop: Sequence[str],
    ) -> None:  # fmt: skip
        self.budget, self.most, self.tokenizer, self.sampler = budget, most, tokenizer, sampler
        self.prompt, self.ends, self.stop = prompt, frozenset(ends), stop
        self.cleans = bool(getattr(tokenizer, "clean_up_tokenization_spaces", False))
        self.wait, opening = literal_ids(tokenizer, budget.wait), _ids(tokenizer, budget.marker)
        self.rows: list[Row] = []
        for tag in begun:
            row = Row(CLOSING[(tag or budget.marker).lower()], [] if tag else list(opening))
            row.phase = "think" if tag else "open"
            self.rows.append(row)
        self.closings = {row.closing: _ids(tokenizer, row.closing) for row in self.rows}
        self.final = literal_ids(tokenizer, _final(budget))
        self.lengths: dict[int, int] = {}
        self.new_tokens = room(budget, tokenizer) + most
        """most that `generate` makes: a row ends before, or with the last"""

    def ended(self, input_ids: torch.Tensor, scores: Any, **kwargs: Any) -> torch.Tensor:
        """Return which rows (B,) are done."""
        for number in (n for n, row in enumerate(self.rows) if row.done):
            self.lengths.setdefault(number, input_ids.shape[1] - self.prompt)
        return torch.tensor([row.done for row in self.rows], device=input_ids.device)

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Return scores (B, V) whose largest is the token to take."""
        chosen = scores.argmax(-1).tolist()
        for number, (row, token) in enumerate(zip(self.rows, chosen, strict=True)):
            if row.done:
                continue
            found = self._token(row, token, scores[number])
            if found != token:
                scores[number] = float("-inf")
                scores[number, found] = 0
                self.sampler.steps[-1][number] = 0
        return scores

    def over(self, row: int, new: torch.Tensor) -> bool:
        return self.rows[row].done

    def text(self, row: int, new: torch.Tensor) -> str:
        found = self.rows[row]
        if found.phase in ("open", "think"):
            begun = found.opening + spell(self.tokenizer, found.thought)
            text = settled(begun, (), self.cleans)
            # of which the end may become the tag that closes it
            return text[: max(len(found.opening), len(text) - len(found.closing) + 1)]
        answer = spell(self.tokenizer, found.answer)
        return found.before + settled(answer, self.stop, self.cleans)

    def whole(self, number: int) -> str:
        """Return a row's thinking between its tags, and its answer up to a stop string."""
        row = self.rows[number]
        answer = spell(self.tokenizer, row.answer)
        at = first_stop(answer, self.stop)
        return row.before + answer[: at if at >= 0 else None].strip()

    def _token(self, row: Row, chosen: int, scores: torch.Tensor) -> int:
        if row.phase == "think" and len(row.thought) == self.budget.max:
            self._close(row, [*self.closings[row.closing], *self.final])
        if row.phase == "think":
            return self._think(row, chosen)
        if not row.forced:
            return self._answer(row, scores)
        token = row.forced.pop(0)
        if not row.forced:
            row.phase = "think" if row.phase == "open" else "answer"
        return token

    def _think(self, row: Row, chosen: int) -> int:
        if row.forced:
            token = row.forced.pop(0)
        elif not (closed := self._closed(row, chosen)) and chosen not in self.ends:
            token = chosen
        elif row.ignored < self.budget.ignore_end or len(row.thought) < self.budget.min:
            row.ignored += 1
            row.forced = self.wait[1:]
            token = self.wait[0]
        elif closed:
            row.thoughts, row.phase = closed[0], "answer"
            return chosen
        else:
            self._close(row, self.closings[row.closing])
            return self._token(row, chosen, torch.empty(0))
        row.thought.append(token)
        return token

    def _close(self, row: Row, forced: Sequence[int]) -> None:
        row.thoughts = spell(self.tokenizer, row.thought)
        row.phase, row.forced = "close", [*forced]

    def _closed(self, row: Row, token: int) -> list[str]:
        """Return what stands before the closing tag that a token completes, in a list; or []."""
        tail = spell(self.tokenizer, [*row.thought[-TAIL:], token])
        if row.closing not in tail.lower():
            return []
        whole = spell(self.tokenizer, [*row.thought, token])
        return [whole[: whole.lower().rindex(row.closing)]]

    def _answer(self, row: Row, scores: torch.Tensor) -> int:
        """Take the best token that leaves an answer; the row is done where it ends with it."""
        token = next(one for one in _best_first(scores) if self._fits(row, one))
        if token in self.ends:
            row.done = row.stopped = True
            return token
        row.answer.append(token)
        text = spell(self.tokenizer, row.answer[-RECENT:])
        row.spoken = row.spoken or bool(text.strip())
        row.stopped = first_stop(text, self.stop) >= 0
        row.done = row.stopped or len(row.answer) == self.most
        return token

    def _fits(self, row: Row, token: int) -> bool:
        if token in self.ends:
            return row.spoken
        text = spell(self.tokenizer, [*row.answer[-RECENT:], token])
        if any(tag in text.lower() for tag in TAGS):
            return False
        at = first_stop(text, self.stop)
        if at >= 0 and len(row.answer) < RECENT:
            return bool(text[:at].strip())
        return row.spoken or bool(text.strip()) or len(row.answer) < min(BLANK, self.most - 1)


def room(budget: Budget, tokenizer: Any) -> int:
    """Most tokens before an answer: its thinking, what opens and closes that, and `final`."""
    closing = max(len(_ids(tokenizer, tag)) for tag in CLOSING.values())
    opening, final = _ids(tokenizer, budget.marker), literal_ids(tokenizer, _final(budget))
    return len(opening) + budget.max + closing + len(final)


def _final(budget: Budget) -> str:
    return f"\n{budget.final}" if budget.final else ""


def _ids(tokenizer: Any, text: str) -> list[int]:
    return tokenizer.encode(text, add_special_tokens=False)


def _best_first(scores: torch.Tensor) -> Iterator[int]:
    yield int(scores.argmax())
    yield from scores.argsort(descending=True).tolist()
