"""Judged interactions, with the reasoning that leads to the verdicts: for reasoning SFT."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, ClassVar

from ...shards.sample import Sample
from ..base import Build, SourceError
from ..verdicts import INPUT, INSTRUCTION, NO_RESPONSE, VALUES, verdicts_of
from .answers import plain
from .convert import Converter, Input, RowError, said
from .fields import Fields, unread
from .jsonl import json_rows
from .places import Allow, Places
from .rows import Draft, listed, media_of, opened, with_system
from .turns import Slots, conversation

LABELS = {
    "prompt_harm_label": "Request", "response_refusal_label": "Completion",
    "response_harm_label": "Response",
}  # fmt: skip
"""key of a row -> the verdict that it states"""


@dataclass
class Guard(Converter):
    """JSONL of {instruction, input, output} of GuardReasoner, with images or audio beside it.

    Or of {prompt, response, output}, without a response for a request alone. An output reasons and
    ends with three verdicts: Request, Completion, Response. A row that lacks one, says one in two
    ways or against its own prompt_harm_label, response_refusal_label or response_harm_label is
    left out and named.
    """

    json: Annotated[Path | None, "the JSONL (or JSON) file"] = None
    media: Annotated[Path | None, "folder of images and audio (default: that of the file)"] = None
    allow: Allow = ""

    name: ClassVar[str] = "guard"

    def inputs(self, build: Build) -> Iterator[Input]:
        """Yield every row; rows about one file, or without files one request, share a split."""
        if self.json is None:
            raise SourceError("guard needs --json FILE")
        places = Places.of(self.media or self.json.parent, self.allow)
        for where, row in json_rows(self.json, "--json", build):
            names = listed(partial(_draft, row), places, build)
            yield Input(where, names or (said(_request(row)),), partial(_sample, row, places))


def _request(row: dict[str, Any]) -> str:
    """Return what rows about the same request have in common."""
    shown = str(row.get("input") or "").partition("\n\nAI assistant:\n")[0]
    return shown.removeprefix("Human user:\n") or str(row.get("prompt"))


def _sample(row: dict[str, Any], places: Places) -> Sample:
    meta = {"kind": "guard", "id": str(row.get("id", ""))}
    return _draft(row).sample(places, meta)


def _draft(row: dict[str, Any]) -> Draft:
    fields = opened(row)
    slots = Slots(media_of(fields))
    asked = plain(fields.first("input"))
    if asked is None:
        response = plain(fields.first("response"))
        asked = INPUT.format(_text(fields, "prompt"), response or NO_RESPONSE)
    output = _text(fields, "output")
    _check(fields, output)
    instruction = plain(fields.first("instruction")) or INSTRUCTION
    turns = [{"role": "user", "content": f"{instruction}\n\n{asked}"},
             {"role": "assistant", "content": output}]  # fmt: skip
    messages = with_system(fields, conversation(turns, slots))
    return Draft(messages, slots.media, tuple(unread(fields)))


def _check(fields: Fields, output: str) -> None:
    """Refuse an output whose verdicts cannot be read, or are not those that the row states."""
    found = dict(zip(VALUES, verdicts_of(output), strict=True))
    if missing := [name for name, value in found.items() if value is None]:
        raise RowError(f"its output ends without one verdict of {', '.join(missing)}")
    for label, name in LABELS.items():
        stated = plain(fields.first(label))
        if stated and stated.strip().lower() != found[name]:
            raise RowError(f"its output says {name}: {found[name]}, and {label} says {stated}")


def _text(fields: Fields, name: str) -> str:
    text = plain(fields.first(name))
    if not text or not text.strip():
        raise RowError(f"there is no text under {name}")
    return text
