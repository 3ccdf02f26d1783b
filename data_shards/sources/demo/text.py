"""Plain conversations: a file of messages, or built-in ones that keep an LLM's text ability."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

from omni.processing.messages import Message, MessageError, assistant, media_refs, user, validate

from ...shards.rendering import ALL
from ...shards.sample import Sample
from ..base import Build, SourceError, facts, heldout
from ..formats.convert import RowError, Which, labels_meta
from ..formats.encoding import lines
from ..formats.jsonl import parsed
from .words import CAPITALS, DAYS, MONTHS, NUMBERS, OPPOSITES, PASTS, PLURALS, WORDS

MAX_LINE = 1 << 20
KEYS = ("role", "content")  # of a message


@dataclass
class Text:
    """Text-only conversations: a JSONL file of messages, or a small built-in set."""

    file: Annotated[Path | None, 'JSONL: {"messages": [...]} or a bare list on each line'] = None
    license: Annotated[str, "licence of the file, for the manifest"] = "unknown"
    labels: Which = ALL

    name: ClassVar[str] = "text"
    licenses: ClassVar[dict[str, str]] = {}

    def generate(self, build: Build) -> Iterator[Sample]:
        """Yield every conversation; the identity is the first question."""
        licence = self.license if self.file else "Apache-2.0"
        build.licenses["text"] = licence
        found = list(_rows(self.file, build) if self.file else builtin())
        if not found:
            raise SourceError(f"{self.file} holds no usable conversation")
        order = build.rng("text").permutation(len(found))
        kinds = {identity: kind for kind, identity, _ in found}
        out = heldout(kinds, build.heldout, build.seed)
        build.total = len(found)
        more = labels_meta(self.labels)
        for kind, identity, messages in (found[i] for i in order):
            meta = facts("text", licence, kind, identity=identity, **more)
            split = "heldout" if identity in out else "train"
            yield Sample(messages, {}, meta, split=split)


def _rows(path: Path, build: Build) -> Iterator[tuple[str, str, list[Message]]]:
    if not path.is_file():
        raise SourceError(f"--file {path}: no such file")
    for number, line in lines(path):
        try:
            if len(line) > MAX_LINE:
                raise RowError(f"a line of {len(line):,} characters; the limit is {MAX_LINE:,}")
            row = parsed(line)
            messages: Any = row.get("messages") if isinstance(row, dict) else row
            validate(messages)
            if any(media_refs(messages)):
                raise RowError("it has media; this source is for text only")
            if messages[-1]["role"] != "assistant":
                raise RowError("it does not end with an assistant message")
        except (RowError, MessageError) as error:
            build.skip(f"{path.name}:{number}", str(error))
            continue
        if isinstance(row, dict):
            build.unused(*(key for key, value in row.items() if key != "messages" and value))
        for message in messages:
            build.unused(*(f"messages[].{key}" for key in message if key not in KEYS))
        asked = next((m for m in messages if m["role"] == "user"), messages[0])
        yield "text", json.dumps(asked["content"], sort_keys=True), messages
    build.report_unused("text")


def builtin() -> Iterator[tuple[str, str, list[Message]]]:
    """Yield (kind, question, messages) of some seven hundred short exchanges."""
    for kind, pairs in {
        "arithmetic": _arithmetic(),
        "facts": _facts(),
        "words": _words(),
        "order": _order(),
        "instruction": _instructions(),
    }.items():
        for question, answer in pairs:
            yield kind, question, [user(question), assistant(answer)]


def _arithmetic() -> Iterator[tuple[str, str]]:
    for a in range(1, 13):
        for b in range(1, 13):
            if (a + b) % 2:
                yield f"What is {a} plus {b}?", f"{a} plus {b} is {a + b}."
            elif a > b:
                yield f"What is {a} minus {b}?", f"{a} minus {b} is {a - b}."
            elif a * b < 60:
                yield f"{a} times {b} = ? Answer with the number only.", f"{a * b}"
    for number, word in enumerate(NUMBERS):
        yield f"Write the number {number} as a word.", f"{word.capitalize()}."


def _facts() -> Iterator[tuple[str, str]]:
    for country, city in CAPITALS.items():
        yield f"What is the capital of {country}?", f"The capital of {country} is {city}."
        yield f"{city} is the capital of which country? Answer in one word.", f"{country}."


def _words() -> Iterator[tuple[str, str]]:
    for word, other in OPPOSITES.items():
        yield f'What is the opposite of "{word}"?', f'The opposite of "{word}" is "{other}".'
        yield f'Give one word that means the opposite of "{other}".', f"{word.capitalize()}."
    for one, many in PLURALS.items():
        yield f'What is the plural of "{one}"?', f'The plural of "{one}" is "{many}".'
    for now, past in PASTS.items():
        yield f'What is the past tense of "{now}"?', f'The past tense of "{now}" is "{past}".'
    for word in WORDS:
        yield f'Spell the word "{word}".', "-".join(word.upper())
        yield f'What is the first letter of "{word}"?', f"{word[0].upper()}."
        yield f'How many letters does "{word}" have?', f"{len(word)}."


def _order() -> Iterator[tuple[str, str]]:
    for name, row in (("day", DAYS), ("month", MONTHS)):
        for i, item in enumerate(row):
            yield f"Which {name} comes after {item}?", f"{row[(i + 1) % len(row)]}."
            yield f"Which {name} comes before {item}?", f"{row[i - 1]}."
    for a in range(0, 40, 3):
        yield f"Continue: {a}, {a + 1}, {a + 2}, ...", f"{a + 3}, {a + 4}, {a + 5}"


def _instructions() -> Iterator[tuple[str, str]]:
    for i, word in enumerate(WORDS):
        other = WORDS[(i * 7 + 3) % len(WORDS)]
        yield f"Repeat this word: {word}", word
        yield f'Write "{word}" in capital letters.', word.upper()
        yield f"Which comes first in the alphabet, {word} or {other}?", f"{min(word, other)}."
        yield f'Use "{word}" and "{other}" as a list.', f"- {word}\n- {other}"
    for word in ("yes", "no", "hello", "thanks", "done"):
        yield f"Answer with the single word '{word}'.", f"{word.capitalize()}."
