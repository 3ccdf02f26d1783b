"""LLaVA's format, a JSON of conversations beside an image folder: how to bring your own data."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, ClassVar

from ...shards.sample import Sample
from ..base import Build, SourceError
from .attachments import Attachments, file_names, listed
from .convert import Converter, Input, said
from .jsonl import json_rows
from .turns import conversation


@dataclass
class Llava(Converter):
    """LLaVA JSON (or JSONL) with an image folder."""

    json: Annotated[Path | None, "the JSON file: [{id, image, conversations}, ...], or JSONL"] = (
        None
    )
    images: Annotated[Path | None, "folder of the images (default: that of the JSON file)"] = None

    name: ClassVar[str] = "llava"

    def inputs(self, build: Build) -> Iterator[Input]:
        """Yield every row; all rows about one image, whatever its name, land in one split."""
        if self.json is None:
            raise SourceError("llava needs --json FILE")
        root = self.images or self.json.parent
        for where, row in json_rows(self.json, "--json", build):
            images = listed(row, "image", "images")
            names = file_names(root, images) or (said(row.get("conversations")),)
            yield Input(where, names, partial(_sample, row, root, images))


def _sample(row: dict[str, Any], root: Path, images: list[Any]) -> Sample:
    media = Attachments()
    media.read(root, "image", images)
    messages = conversation(row.get("conversations"), media)
    return Sample(messages, media.parts, {"kind": "conversation", "id": str(row.get("id", ""))})
