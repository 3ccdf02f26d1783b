"""LLaVA's and ShareGPT's format, a JSON of conversations beside folders of media."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, ClassVar

from ...shards.sample import Sample
from ..base import Build, SourceError
from .convert import Conversations, Input, RowError, said
from .jsonl import json_rows
from .places import Allow, Places
from .rows import CONVERSATIONS, Draft, draft, listed, media_of, opened


@dataclass
class Llava(Conversations):
    """LLaVA JSON (or JSONL) with a folder of images, recordings and videos."""

    json: Annotated[Path | None, "the JSON file: [{id, image, conversations}, ...], or JSONL"] = (
        None
    )
    images: Annotated[Path | None, "folder of the media (default: that of the JSON file)"] = None
    allow: Allow = ""

    name: ClassVar[str] = "llava"

    def inputs(self, build: Build) -> Iterator[Input]:
        """Yield every row; all rows about one image, whatever its name, land in one split."""
        if self.json is None:
            raise SourceError("llava needs --json FILE")
        places = Places.of(self.images or self.json.parent, self.allow)
        for where, row in json_rows(self.json, "--json", build):
            names = listed(partial(_draft, row), places, build)
            turns = next((row[name] for name in CONVERSATIONS if row.get(name)), None)
            yield Input(where, names or (said(turns),), partial(_sample, row, places))


def _draft(row: dict[str, Any]) -> Draft:
    fields = opened(row)
    if not any(fields.get(name) for name in CONVERSATIONS):
        raise RowError("a conversation must be a list of {from, value} or {role, content}")
    return draft(fields, media_of(fields))


def _sample(row: dict[str, Any], places: Places) -> Sample:
    meta = {"kind": "conversation", "id": str(row.get("id", ""))}
    return _draft(row).sample(places, meta)
