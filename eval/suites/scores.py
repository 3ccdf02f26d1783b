"""How an answer to held-out data of one's own is compared with the expected one."""

import importlib
import re
import sys
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..benchmarks.mathvista import named_choice
from ..benchmarks.words import BEGIN, CHINESE, narrow
from ..scoring import right
from ..scoring.right import ARTICLES, Outcome, Scored, majority, proportion

TOLERANCE = 1e-6  # of a number, relative, where none is named
NUMERAL = re.compile(
    rf"{BEGIN}[-+−]?(?:\d{{1,3}}(?:,\d{{3}})+(?:\.\d+)?|\d+(?:\.\d+)?|\.\d+)(?:[eE][-+]?\d+)?"
)
LINE = re.compile(r"^\s*\(?([A-Z])[.):：、]\s*(.+?)\s*$", re.MULTILINE)
INLINE = re.compile(r"\(([A-Z])\)\s*(.+?)\s*(?=\([A-Z]\)|$)", re.MULTILINE)
Score = Callable[[list[Outcome]], Scored]


def plain(text: str) -> str:
    """The words without a leading article: "The Cat." -> "cat"."""
    said = words(text)
    return " ".join(said[1:] if len(said) > 1 and said[0] in ARTICLES else said)


def words(text: str) -> list[str]:
    """In lower case, without punctuation of any script; a number keeps its sign and its point."""
    text = re.sub(r"(?<![\w.])[-−](?=[\d.])", "minus ", narrow(text))
    text = re.sub(r"(?<=\d)[.](?=\d)", "point", re.sub(r"(?<=\d),(?=\d{3})", "", text))
    marks = (" " if unicodedata.category(c).startswith("P") and c != "'" else c for c in text)
    return "".join(marks).lower().replace("'", "").split()


def same(answer: str, expected: str) -> float:
    """The same words."""
    return float(plain(answer) == plain(expected))


def contained(answer: str, expected: str) -> float:
    """The expected words, one after the other, somewhere in the answer."""
    said, wanted = plain(answer), plain(expected)
    if re.search(f"[{CHINESE}]", wanted):
        return float(wanted.replace(" ", "") in said.replace(" ", ""))
    return float(bool(wanted) and f" {wanted} " in f" {said} ")


def options(question: str) -> list[str]:
    """The texts of the options A, B, C ... in a question, on lines or in brackets; else none."""
    for form in (LINE, INLINE):
        found = form.findall(question)
        if len(found) > 1 and "".join(k for k, _ in found) == _alphabet(len(found)):
            return [text for _, text in found]
    return []


def right_option(question: str, expected: str) -> int | None:
    """The place of the option that is expected, by its letter or text."""
    texts = options(question)
    named = named_choice(narrow(expected), texts) if texts else ""
    return texts.index(named) if named else None


def chosen(answer: str, question: str, expected: str) -> float:
    """The answer names the expected option, and no other, by its letter or its text."""
    texts, right = options(question), right_option(question, expected)
    named = named_choice(narrow(answer), texts)
    return float(right is not None and named != "" and texts.index(named) == right)


def number(text: str) -> float | None:
    """The last number in a text: 1,200 and 1.2e3 alike."""
    found = NUMERAL.findall(narrow(text))
    return float(found[-1].replace(",", "").replace("−", "-")) if found else None


def near(tolerance: float) -> Callable[[str, str], float]:
    """A comparison of the last number in an answer, within a share of the expected one."""

    def compare(answer: str, expected: str) -> float:
        given, wanted = number(answer), number(expected)
        if given is None or wanted is None:
            return 0.0
        return float(abs(given - wanted) <= tolerance * abs(wanted))

    return compare


def by_pairs(compare: Callable[[str, str], float]) -> Score:
    """A score of (answer, expected) -> 0..1; chance is the most frequent expected answer."""

    def score(outcomes: list[Outcome]) -> Scored:
        rescored = [replace(o, correct=compare(o.answer, o.expected)) for o in outcomes]
        return proportion(rescored, majority([plain(o.expected) for o in outcomes]))

    return score


def by_options(outcomes: list[Outcome]) -> Scored:
    """Options are chosen; chance is one of them."""
    rescored = [replace(o, correct=chosen(o.answer, o.question, o.expected)) for o in outcomes]
    chances = [1 / max(1, len(options(o.question))) for o in outcomes]
    return proportion(rescored, 100 * sum(chances) / len(chances))


def by_errors(of_words: bool) -> Score:
    """100 less the rate of wrong words or characters, at least 0; the rate is in `details`."""

    def split(text: str) -> Sequence[str]:
        return words(text) if of_words else "".join(words(text))

    def score(outcomes: list[Outcome]) -> Scored:
        scored = right.by_errors(outcomes, split)
        if of_words:
            scored.details["wer"] = scored.details["error_rate"]
        return scored

    return score


SCORES: dict[str, Score] = {
    "exact": by_pairs(same),
    "contained": by_pairs(contained),
    "choice": by_options,
    "numeric": by_pairs(near(TOLERANCE)),
    "wer": by_errors(of_words=True),
    "cer": by_errors(of_words=False),
}


def named_score(name: str) -> Score:
    """What `--score` names: one of SCORES, numeric:SHARE, or module:function.

    The function takes the answer and the expected text and returns 0 to 1.

    Raises:
        ValueError: there is no such score; says what there is.
    """
    if name in SCORES:
        return SCORES[name]
    head, _, tail = name.partition(":")
    if head == "numeric" and re.fullmatch(r"\d*\.?\d+", tail):
        return by_pairs(near(float(tail)))
    if not (head and tail):
        raise ValueError(
            f"no score {name!r}; there is {', '.join(SCORES)}, numeric:0.05 (within 5 %), "
            "or MODULE:FUNCTION, which takes the answer and the expected text and returns 0 to 1"
        )
    return by_pairs(_checked(_function(head, tail), name))


def fitting_score(questions: Sequence[str], expected: Sequence[str], transcripts: bool) -> str:
    """The name of the score for a source's answers, where none is named."""
    if transcripts:
        return "cer" if any(re.search(f"[{CHINESE}]", text) for text in expected) else "wer"
    pairs = zip(questions, expected, strict=True)
    if all(right_option(question, text) is not None for question, text in pairs):
        return "choice"
    if all(NUMERAL.fullmatch(narrow(text).strip().rstrip(".%")) for text in expected):
        return "numeric"
    return "exact"


def _alphabet(length: int) -> str:
    return "".join(chr(ord("A") + k) for k in range(length))


def _function(module: str, name: str) -> Callable[[str, str], Any]:
    sys.path.insert(0, str(Path.cwd()))
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"the score {module}:{name} cannot be imported: {error}") from error
    finally:
        sys.path.remove(str(Path.cwd()))


def _checked(function: Callable[[str, str], Any], name: str) -> Callable[[str, str], float]:
    def compare(answer: str, expected: str) -> float:
        points = float(function(answer, expected))
        if not 0 <= points <= 1:
            raise ValueError(f"the score {name} returned {points} for {answer!r}, not 0 to 1")
        return points

    return compare
