"""What of a build is finished, so that a killed one goes on and ends with the same bytes."""

import json
import shutil
from importlib.metadata import version
from pathlib import Path
from typing import Any

from omni.files.atomic import write_text
from omni.files.jsonl import append_lines

JOURNAL = "journal.jsonl"


class Journal:
    """The finished shards of a build in `folder`; each is one line, after a line that says
    which build it is.

    1. A line is written after the shard it names was synced, so a shard with a line is whole;
       files without one are removed.
    2. The split of a row is known before the row is made, and rows of a split are written in
       order. So one number per split, the first row that is not in a finished shard, says what
       is left, however many rows were made ahead or in parallel.
    3. A line also holds what its rows add to the manifest: kinds, identities, rows left out.
    4. Lines of another request, or of another version of this software, are worth nothing.
    """

    def __init__(self, folder: Path, request: dict[str, Any]):
        self.path = folder / JOURNAL
        self.shards: dict[str, dict[str, Any]] = {}
        head = json.dumps([version("omni-stages"), request], sort_keys=True)
        lines = self._lines() if self.path.is_file() else []
        if lines and lines[0] == head:
            for line in map(json.loads, lines[1:]):
                self.shards[line.pop("shard")] = line
            self._remove_unfinished(folder)
        else:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            lines = [head]
        write_text(self.path, "".join(f"{line}\n" for line in lines))  # drops a line that was cut

    def _lines(self) -> list[str]:
        text = self.path.read_text(encoding="utf-8", errors="replace")
        return text.split("\n")[:-1]  # only a line with its end was written whole

    def _remove_unfinished(self, folder: Path) -> None:
        for path in folder.iterdir():
            if path != self.path and path.name not in self.shards:
                path.unlink()
        for name, shard in self.shards.items():
            if not (folder / name).is_file() or (folder / name).stat().st_size != shard["bytes"]:
                raise ValueError(f"{folder / name} was changed; remove {folder} to start afresh")

    def next_row(self, split: str) -> int:
        """Return the first row of a split that is in no finished shard."""
        return max((s["next_row"] for s in self.shards.values() if s["split"] == split), default=0)

    def finish(self, name: str, shard: dict[str, Any]) -> None:
        """Note a shard whose file is whole and synced."""
        append_lines(self.path, [{"shard": name, **shard}])
        self.shards[name] = shard
