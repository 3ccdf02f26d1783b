"""Answers while they are written: what is sure of a text already, and who looks on."""

from collections.abc import Sequence
from typing import Protocol

from .settings import Completion

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


def _overlap(text: str, string: str) -> int:
    """Count the characters at the end of a text with which a string begins, but not all of it."""
    longest = min(len(text), len(string) - 1)
    return next((n for n in range(longest, 0, -1) if text.endswith(string[:n])), 0)
