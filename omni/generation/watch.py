"""Answers while they are written: what is sure of a text already, and who looks on."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from .settings import Completion
from .thinking import CLOSING, without_thinking

if TYPE_CHECKING:
    from torch import Tensor

CLEANED = 8  # characters at the end in which `clean_up_tokenization` may still move a space
_BROKEN = "\N{REPLACEMENT CHARACTER}"  # what a character decodes to while tokens of it are missing


class Watcher(Protocol):
    """Who follows a batch token by token. Rows are numbered as the completions are."""

    def wrote(self, row: int, text: str) -> bool:
        """Take what is sure of a row's text; return True to end it at once, its answer unused."""
        ...

    def ended(self, row: int, completion: Completion) -> None:
        """Take a row's answer as soon as it is whole, while others are still written."""
        ...


class Growing(Protocol):
    """What ends the rows of a `generate`, and knows their texts so far."""

    def over(self, row: int, new: "Tensor") -> bool:
        """Whether a row ends with the last of its new tokens (B, T)."""
        ...

    def text(self, row: int, new: "Tensor") -> str:
        """Return what is sure of a row's text."""
        ...


class Watched:
    """A stopping criterion that lets a watcher see what is new of each row, until the row ends.

    Args:
        growing: the rows.
        watcher: may end some.
        prompt: tokens of the prompts, padding included.
        rows: how many there are.
        written: makes the completion of a row that is whole.
    """

    def __init__(
        self, growing: Growing, watcher: Watcher, prompt: int, rows: int,
        written: Callable[[int, "Tensor"], Completion],
    ) -> None:  # fmt: skip
        self.growing, self.watcher, self.prompt, self.written = growing, watcher, prompt, written
        self.open = dict.fromkeys(range(rows))
        self.left: set[int] = set()  # rows that the watcher ended

    def end(self, new: "Tensor") -> None:
        """Let the watcher have the rows (B, T) that ended for another reason than their own."""
        for row in self.open:
            self.watcher.ended(row, self.written(row, new))

    def __call__(self, input_ids: "Tensor", scores: Any, **kwargs: Any) -> "Tensor":
        new = input_ids[:, self.prompt :].cpu()
        for row in tuple(self.open):
            if self.growing.over(row, new):
                del self.open[row]
                self.watcher.ended(row, self.written(row, new))
            elif self.watcher.wrote(row, self.growing.text(row, new)):
                del self.open[row]
                self.left.add(row)
        left = [row in self.left for row in range(len(new))]
        return input_ids.new_tensor(left).bool()


def settled(text: str, stop: Sequence[str], cleans: bool = False) -> str:
    """Return the beginning of a text that no later token changes, and that holds no stop string.

    A character whose last bytes are missing is left out, and so are what may become a stop string
    and the space that the whole text would lose at its end.

    Args:
        text: decoded so far.
        stop: strings that end it.
        cleans: the tokenizer takes out spaces before punctuation once it has seen that.
    """
    text = text[:-CLEANED] if cleans else text
    text = text.rstrip(_BROKEN)
    begun = max((_overlap(text, string) for string in stop), default=0)
    return text[: len(text) - begun].strip()


def settled_answer(text: str) -> str:
    """Return the answer without its thinking, of a settled text that may end within a tag."""
    return without_thinking(settled(text, tuple(CLOSING)))


def _overlap(text: str, string: str) -> int:
    """Count the characters at the end of a text with which a string begins, but not all of it."""
    longest = min(len(text), len(string) - 1)
    return next((n for n in range(longest, 0, -1) if text.endswith(string[:n])), 0)
