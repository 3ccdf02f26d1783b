"""Which of two answers people preferred, in a file that `omni-shards build preference` reads."""

import hashlib
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

from ...files.atomic import replacing
from ...files.jsonl import append_lines, read_lines
from ...files.lock import exclusive
from ...generation.settings import Generation
from ...processing.messages import Message
from ..content import Content

TIES = ("tie", "both bad")


class Votes:
    """A folder with `votes.jsonl`, which only grows, and the media of the questions beside it.

    A row has the prompt, and either `chosen` and `rejected`, or for a tie both `answers`; under
    `vote`, the models' names and how they were asked.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.file = folder, folder / "votes.jsonl"
        self._lock = threading.Lock()

    def keep(
        self, content: Content, answers: Mapping[str, str], choice: str, generation: Generation,
        blind: bool,
    ) -> None:  # fmt: skip
        """Add a vote, and see it to the disk.

        Args:
            content: the question, and the names of its media.
            answers: of two models, by name.
            choice: a model's name, or one of `TIES`.
            generation: how both were asked.
            blind: whether the names were hidden.

        Raises:
            OSError: it cannot be written.
        """
        vote = {"for": choice, "models": [*answers], "blind": blind,
                "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
                "generation": generation.key}  # fmt: skip
        row: dict[str, Any] = {"id": uuid4().hex, "vote": vote}
        if choice in TIES:
            row["answers"] = dict(answers)
        else:
            row["chosen"] = answers[choice]
            row["rejected"] = next(text for name, text in answers.items() if name != choice)
        with self._lock, exclusive(self.folder):
            row["prompt"] = self._prompt(content.messages, content.places)
            append_lines(self.file, [row])

    def count(self) -> Counter[str]:
        """Count the votes by what they are for."""
        return Counter(row["vote"]["for"] for row in read_lines(self.file))

    def _prompt(self, messages: Sequence[Message], names: Sequence[str]) -> list[Message]:
        """Return the messages with files of the folder in the place of media."""
        left = iter(names)

        def kept(part: dict[str, Any]) -> dict[str, Any]:
            kind = part["type"]
            return part if kind == "text" else part | {kind: self._medium(part[kind], next(left))}

        return [m | {"content": [kept(part) for part in m["content"]]} for m in messages]

    def _medium(self, data: bytes, name: str) -> str:
        file = f"media/{hashlib.sha256(data).hexdigest()[:32]}{Path(name).suffix.lower()}"
        if not (self.folder / file).is_file():
            with replacing(self.folder / file) as scratch:
                scratch.write_bytes(data)
        return file
