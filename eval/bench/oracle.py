"""An answerer that knows the truth scores 100 on all ten rows; one that knows nothing, chance."""

import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from data_shards.bench.result import Result
from omni.processing.identity import identify

from ..answering.answerer import Answerer, Messages
from ..lmms.decoding import tolerant
from ..lmms.official import Official
from ..rows.own import Own
from .life import write_pictures

SUITE = "mini"


def run(folder: Path, small: bool = False) -> Result:
    """Score the truths, one answer to everything, and truths shuffled blindly, officially.

    The one answer is "A" where that is a truth, "No" to questions of yes or no, and otherwise the
    most frequent truth.

    Args:
        folder: to work in; the held-out pictures are procedural and made here.
        small: the same; it takes seconds.
    """
    from ..run import evaluate
    from ..suites.registry import SUITES

    write_pictures(folder / "data", count=96, heldout=0.6)
    source = SUITES[SUITE].open(folder / "data")
    rows = [row for row in SUITES[SUITE].rows if isinstance(row, Official)]
    names, data, out = [row.name for row in rows], folder / "data", folder / "run"
    oracle = Oracle(rows, source, out / "work")
    knowing = evaluate(
        Answerer(oracle, _cost), "truth", SUITE, data, out, rows=names, on_condition=oracle.enter
    )["rows"]
    always = Answerer(lambda batch, *_: [oracle.constant()] * len(batch), _cost)
    constant = evaluate(
        always, "A", SUITE, data, out, rows=names, controls=False, on_condition=oracle.enter
    )["rows"]
    table = [_line(*pair) for pair in zip(knowing, constant, strict=True)]
    lowest = min(line["oracle"] for line in table)
    figures = {
        "oracle_min": lowest,
        "rows": len(table),
        "off": [line["row"] for line in table if not line["ok"]],
    }
    return Result(lowest == 100 and len(table) == 10 and not figures["off"], figures, table)


def _cost(messages: Messages) -> int:
    return 1


def _line(oracle: dict[str, Any], constant: dict[str, Any]) -> dict[str, Any]:
    """One row of the table; a score is chance where its 95 % interval holds what guessing gives.

    Blind may also be below: a number asked for is not guessed.
    """
    chance, blind = constant["chance"], oracle["controls"]["blind"]
    right = oracle["score"] == 100
    guessed = constant["ci_low"] <= chance <= constant["ci_high"]
    return {
        "row": oracle["name"].removeprefix(f"{SUITE}-"),
        "n": oracle["n"],
        "oracle": oracle["score"],
        "always the same": _interval(constant),
        "chance": round(chance, 1),
        "blind": _interval(blind),
        "ok": bool(right and guessed and blind["ci_low"] <= chance),
    }


def _interval(found: dict[str, Any]) -> str:
    return f"{found['score']:.0f} ({found['ci_low']:.0f}–{found['ci_high']:.0f})"


class Oracle:
    """Answers every doc of a suite with its truth.

    A conversation that is no doc, because its images were taken or exchanged, gets the truth of
    another doc of the same row: of the right form, but not read off the picture. `enter` must be
    told which row is asked.
    """

    def __init__(self, rows: Sequence[Official | Own], source: Any, scratch: Path) -> None:
        self.key: dict[str, str] = {}
        self.truths: dict[str, list[str]] = {}
        self.row = ""
        for row in rows:
            official = isinstance(row, Official)
            docs = official_docs(row, source, scratch) if official else _own(row, source)
            self.key |= {_key(messages): truth for messages, truth in docs}
            self.truths[row.name] = [truth for _, truth in docs]

    def enter(self, row: str, condition: str) -> None:
        self.row = row

    def __call__(self, batch: list[Messages], generation: Any, keys: Sequence[str]) -> list[str]:
        return [self.answer(messages) for messages in batch]

    def constant(self) -> str:
        """An answer of the right form that looks at nothing."""
        truths = Counter(self.truths[self.row])
        if set(truths) <= {"Yes", "No"}:
            return "No"
        return "A" if "A" in truths else truths.most_common(1)[0][0]

    def answer(self, messages: Messages) -> str:
        asked = _key(messages)
        if asked in self.key:
            return self.key[asked]
        return random.Random(asked).choice(self.truths[self.row])


def official_docs(
    row: Official, source: Any, scratch: Path, limit: int | None = None
) -> list[tuple[Messages, str]]:
    """Return how a row asks each doc, or `limit` units of them, and its true answer."""
    from ..lmms.adapter import convert

    task, _, _ = row.load(source, limit, scratch)
    with tolerant():
        docs = task.dataset[row.benchmark.split]
        return [(convert(task.doc_to_messages(doc)), row.benchmark.truth(doc)) for doc in docs]


def _own(row: Own, source: Any) -> list[tuple[Messages, str]]:
    return [(doc.messages, doc.expected) for doc in row.sample(source)]


def _key(messages: Messages) -> str:
    return identify(messages).whole
