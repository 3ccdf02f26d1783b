"""Pairs of answers, of which people or a judge chose one: for preference objectives."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, ClassVar

from omni.processing.messages import Message

from ...shards.sample import Sample
from ..base import Build, SourceError
from .attachments import PREFIX, Attachments, file_names, listed
from .convert import Converter, Input, RowError, said
from .jsonl import json_rows
from .turns import CONVERSATIONS, conversation

PROMPTS = ("prompt", "question", *CONVERSATIONS)


@dataclass
class Preference(Converter):
    """JSONL of {prompt, chosen, rejected} with images or audio beside it.

    The prompt is a text or turns, under prompt, question, messages or conversations; the answers
    are texts or turns. Without a prompt, what both conversations begin with is it.
    """

    json: Annotated[Path | None, "the JSONL (or JSON) file"] = None
    media: Annotated[Path | None, "folder of images and audio (default: that of the file)"] = None

    name: ClassVar[str] = "preference"

    def inputs(self, build: Build) -> Iterator[Input]:
        """Yield every row; rows about one file, or without files one prompt, share a split."""
        if self.json is None:
            raise SourceError("preference needs --json FILE")
        root = self.media or self.json.parent
        for where, row in json_rows(self.json, "--json", build):
            files = {kind: listed(row, kind, f"{kind}s") for kind in PREFIX}
            names = file_names(root, [name for found in files.values() for name in found])
            yield Input(where, names or (said(_prompt(row)),), partial(_sample, row, root, files))


def _prompt(row: dict[str, Any]) -> Any:
    found = next((row[name] for name in PROMPTS if row.get(name)), None)
    return found if found is not None else row.get("chosen")


def _sample(row: dict[str, Any], root: Path, files: dict[str, list[Any]]) -> Sample:
    media = Attachments()
    for kind, names in files.items():
        media.read(root, kind, names)
    prompt = next((row[name] for name in PROMPTS if row.get(name)), None)
    answers = [_turns(row, "chosen"), _turns(row, "rejected")]
    if prompt is None:
        shared = _shared(*answers)
        prompt, answers = answers[0][:shared], [answer[shared:] for answer in answers]
        if not prompt:
            raise RowError(f"there is no prompt under {', '.join(PROMPTS)}")
    elif isinstance(prompt, str):
        prompt = [{"role": "user", "content": prompt}]
    messages = conversation(prompt, media, closed=False)
    if messages[-1]["role"] != "user":
        raise RowError("the prompt does not end with a question")
    chosen, rejected = (_answer(turns) for turns in answers)
    meta = {"kind": "preference", "id": str(row.get("id", ""))}
    return Sample(messages, media.parts, meta, chosen=chosen, rejected=rejected)


def _turns(row: dict[str, Any], name: str) -> list[Any]:
    value = row.get(name)
    if isinstance(value, str) and value.strip():
        return [{"role": "assistant", "content": value}]
    if isinstance(value, dict):
        return [value]
    if isinstance(value, list) and value:
        return value
    raise RowError(f"{name!r} must be a text or a list of turns")


def _shared(one: list[Any], other: list[Any]) -> int:
    """Return how many turns two conversations begin with in common."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((i for i, (a, b) in pairs if a != b), min(len(one), len(other)))


def _answer(turns: list[Any]) -> list[Message]:
    return conversation(turns, Attachments())
