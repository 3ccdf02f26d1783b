"""Critiques of answers, for critique fine-tuning (arXiv 2501.17703): the critique is learnt."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, ClassVar

from ...shards.sample import Sample
from ..base import Build, SourceError
from .answers import plain
from .convert import Converter, Input, RowError, said
from .fields import Fields, unread
from .jsonl import json_rows
from .places import Allow, Places
from .rows import Draft, listed, media_of, opened, with_system
from .turns import Slots, conversation

QUERIES = ("query", "question", "prompt")
ANSWERS = ("answer", "noisy_answer", "response", "solution")
SHAPE = "Question:\n{}\n\nSolution:\n{}"  # of the published data


@dataclass
class Critique(Converter):
    """JSONL of {query, answer, critique} with images or audio beside it.

    A sample asks for a critique of the answer, right or wrong, and its labels are the critique
    alone. Under `instruction`, a row may say what is asked for; `input`, in the shape of the
    published data, stands for query and answer, and `output` for the critique.
    """

    json: Annotated[Path | None, "the JSONL (or JSON) file"] = None
    media: Annotated[Path | None, "folder of images and audio (default: that of the file)"] = None
    allow: Allow = ""

    name: ClassVar[str] = "critique"

    def inputs(self, build: Build) -> Iterator[Input]:
        """Yield every row; rows about one file, or without files one query, share a split."""
        if self.json is None:
            raise SourceError("critique needs --json FILE")
        places = Places.of(self.media or self.json.parent, self.allow)
        for where, row in json_rows(self.json, "--json", build):
            names = listed(partial(_draft, row), places, build)
            yield Input(where, names or (said(_query(row)),), partial(_sample, row, places))


def _query(row: dict[str, Any]) -> str:
    """Return what rows about the same question have in common."""
    asked = next((row[name] for name in QUERIES if row.get(name)), None)
    return str(row.get("input") if asked is None else asked).partition("\n\nSolution:\n")[0]


def _sample(row: dict[str, Any], places: Places) -> Sample:
    meta = {"kind": "critique", "id": str(row.get("id", ""))}
    return _draft(row).sample(places, meta)


def _draft(row: dict[str, Any]) -> Draft:
    fields = opened(row)
    slots = Slots(media_of(fields))
    judged = plain(fields.first("input"))
    if judged is None:
        judged = SHAPE.format(_text(fields, QUERIES), _text(fields, ANSWERS))
    asked = plain(fields.first("instruction"))
    turns = [{"role": "user", "content": f"{asked}\n\n{judged}" if asked else judged},
             {"role": "assistant", "content": _text(fields, ("critique", "output"))}]  # fmt: skip
    messages = with_system(fields, conversation(turns, slots))
    return Draft(messages, slots.media, tuple(unread(fields)))


def _text(fields: Fields, names: tuple[str, ...]) -> str:
    text = plain(fields.first(*names))
    if not text or not text.strip():
        raise RowError(f"there is no text under {', '.join(names)}")
    return text
