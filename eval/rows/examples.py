"""Held-out questions with the model's answers, right and wrong as they fall."""

import random
from collections.abc import Iterable, Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

from data_shards.sources.base import flac
from omni.media.decode import MediaError, load_audio
from omni.processing.messages import media_refs

from ..answering.failures import thumbnail
from ..scoring.right import Outcome
from .own import SEED, Doc, Own

FOLDER = "examples"  # below the folder of results
SHOWN = 12


def worked_examples(
    answered: Sequence[tuple[Own, Sequence[Outcome]]], source: Any, limit: int | None, out: Path
) -> list[dict[str, Any]]:
    """Choose answered questions by a fixed seed, of all rows in turn, and keep their media.

    Args:
        answered: rows with the outcomes of what was asked as it is.
        source: where the rows take their questions from.
        limit: of questions a row, as it was asked.
        out: folder of the results; media become OUT/examples/NUMBER.jpg and .flac.

    Returns:
        row, question, expected, answer, correct (0-1), and below `out` the names "image" and
        "audio" of what was shown and heard, or "".
    """
    folder = out / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.iterdir():
        old.unlink()
    found = []
    for number, (row, doc, outcome) in enumerate(_in_turn(answered, source, limit)):
        refs = [*media_refs(doc.messages)]
        seen = thumbnail([ref for kind, ref in refs if kind == "image"])
        heard = next((_sound(ref) for kind, ref in refs if kind == "audio"), b"")
        media = {}
        for kind, name, data in (("image", f"{number:02}.jpg", seen),
                                 ("audio", f"{number:02}.flac", heard)):  # fmt: skip
            if data:
                (folder / name).write_bytes(data)
            media[kind] = f"{FOLDER}/{name}" if data else ""
        found.append({
            "row": row.title, "question": outcome.question, "expected": outcome.expected,
            "answer": outcome.answer, "correct": outcome.correct, **media,
        })  # fmt: skip
    return found


def _in_turn(
    answered: Iterable[tuple[Own, Sequence[Outcome]]], source: Any, limit: int | None
) -> Iterable[tuple[Own, Doc, Outcome]]:
    """The first of each row in a random order, then the second, and so on."""
    each: list[Iterable[tuple[Own, Doc, Outcome]]] = []
    for row, outcomes in answered:
        of: Mapping[str, Outcome] = {outcome.doc: outcome for outcome in outcomes}
        docs = [doc for doc in row.sample(source, limit) if doc.name in of]
        random.Random(f"{SEED}:{row.name}").shuffle(docs)
        each.append([(row, doc, of[doc.name]) for doc in docs])
    turns = [one for some in zip_longest(*each) for one in some if one]
    return turns[:SHOWN]


def _sound(ref: Any) -> bytes:
    """A clip as the page plays it; nothing if it cannot be read."""
    try:
        return flac(load_audio(ref))
    except MediaError:
        return b""
