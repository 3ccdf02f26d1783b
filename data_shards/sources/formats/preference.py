"""Pairs of answers, of which people or a judge chose one: for preference objectives."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, ClassVar

from omni.processing.messages import Message

from ...shards.sample import Sample
from ..base import Build, SourceError
from .answers import plain
from .convert import Converter, Input, RowError, said
from .fields import Fields, unread
from .jsonl import json_rows
from .places import Allow, Places
from .rows import CONVERSATIONS, Draft, listed, media_of, opened, with_system
from .turns import MARKS, ROLES, Slots, conversation

COUNTS = ("k_correct", "k_incorrect")
TIES = ("tie", "both bad")
PROMPTS = ("prompt", "question", *CONVERSATIONS)


@dataclass
class Preference(Converter):
    """JSONL of {prompt, chosen, rejected} with images or audio beside it.

    The prompt is a text or turns, under prompt, question, messages or conversations; the answers
    are texts or turns. Without a prompt, what both conversations begin with is it; with one, they
    may repeat it. Numbers under k_correct and k_incorrect, how many answers to the prompt were
    right and wrong, go into the meta of the sample.
    """

    json: Annotated[Path | None, "the JSONL (or JSON) file"] = None
    media: Annotated[Path | None, "folder of images and audio (default: that of the file)"] = None
    allow: Allow = ""

    name: ClassVar[str] = "preference"

    def inputs(self, build: Build) -> Iterator[Input]:
        """Yield every row; rows about one file, or without files one prompt, share a split."""
        if self.json is None:
            raise SourceError("preference needs --json FILE")
        places = Places.of(self.media or self.json.parent, self.allow)
        ties = 0
        for where, row in json_rows(self.json, "--json", build):
            if isinstance(vote := row.get("vote"), dict) and vote.get("for") in TIES:
                ties += 1
                continue
            names = listed(partial(_draft, row), places, build)
            yield Input(where, names or (said(_prompt(row)),), partial(_sample, row, places))
        if ties:
            build.facts["ties"] = ties
            build.say(f"{ties:,} of the votes are for neither answer, and are left out")


def _prompt(row: dict[str, Any]) -> Any:
    found = next((row[name] for name in PROMPTS if row.get(name)), None)
    return found if found is not None else row.get("chosen")


def _sample(row: dict[str, Any], places: Places) -> Sample:
    meta = {"kind": "preference", "id": str(row.get("id", ""))}
    meta |= {name: row[name] for name in (*COUNTS, "vote") if row.get(name) is not None}
    return _draft(row).sample(places, meta)


def _draft(row: dict[str, Any]) -> Draft:
    fields = opened(row)
    fields.read.update((*COUNTS, "vote"))
    slots = Slots(media_of(fields))
    prompt = fields.first(*PROMPTS)
    answers = [_turns(fields, "chosen"), _turns(fields, "rejected")]
    shared = _shared(*answers)
    if prompt is None:
        if not shared:
            raise RowError(f"there is no prompt under {', '.join(PROMPTS)}")
        prompt = answers[0][:shared]
    else:
        prompt = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
        if any(_opens(answer[0]) for answer in answers):
            known, repeated = _words(prompt), _words(answers[0][:shared])
            if repeated[: len(known)] != known:
                raise RowError("the answers begin with another question than the prompt")
            prompt = answers[0][:shared]  # not asked twice
        else:
            shared = 0
    messages = conversation(prompt, slots, closed=False)
    if messages[-1]["role"] != "user":
        raise RowError("the prompt does not end with a question")
    chosen, rejected = (_answer(answer[shared:]) for answer in answers)
    messages = with_system(fields, messages)
    return Draft(messages, slots.media, tuple(unread(fields)), chosen, rejected)


def _answer(turns: list[Any]) -> list[Message]:
    slots = Slots()
    messages = conversation(turns, slots)
    if slots.media:
        raise RowError("an answer has media; only the prompt may")
    return messages


def _turns(row: Fields, name: str) -> list[Any]:
    value = row.get(name)
    if (text := plain(value)) is not None:
        return [{"role": "assistant", "content": text}]
    if isinstance(value, dict):
        return [value]
    if isinstance(value, list) and value:
        return value
    raise RowError(f"{name!r} must be a text or a list of turns")


def _shared(one: list[Any], other: list[Any]) -> int:
    """Return how many turns two conversations begin with in common."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((i for i, (a, b) in pairs if a != b), min(len(one), len(other)))


def _opens(turn: Any) -> bool:
    return isinstance(turn, dict) and ROLES.get(_speaker(turn), "assistant") != "assistant"


def _speaker(turn: dict[str, Any]) -> str:
    return str(turn.get("role") or turn.get("from"))


def _words(turns: Any) -> list[list[str]]:
    """Return the words of questions and answers without media: what makes two prompts the same."""
    found = []
    for turn in turns if isinstance(turns, list) else []:
        if isinstance(turn, dict) and ROLES.get(_speaker(turn)) != "system":
            value = turn.get("content") or turn.get("value")
            pieces = value if isinstance(value, list) else [value]
            texts = [p.get("text") if isinstance(p, dict) else p for p in pieces]
            text = " ".join(text for text in texts if isinstance(text, str))
            for mark in MARKS:
                text = text.replace(mark, " ")
            found.append(text.split())
    return found
