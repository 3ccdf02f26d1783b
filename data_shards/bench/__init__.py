"""Measurements of what this package promises; each is a module with `run(folder, small)`."""

import json
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

BENCHES = {
    "resume": "20 kills of a training process; the batches are bit-identical to one never killed",
    "elastic": "1, 2 and 4 ranks, changed on the way; every step has the same samples",
    "resume-cost": "bytes of a state, and seconds from it to the first batch of 1M samples",
    "speed": "samples per CPU-second beside webdataset, Energon and bare decoding",
    "pack": "padding of packs on three mixes of lengths; no sample waits more than the window",
    "balance": "spread of the cost of 8 ranks at 4 packs each",
    "damage": "damaged and hostile shards; all intact samples delivered, all bad ones counted",
    "mix": "realised weights of a mixture at every prefix, and after a resume",
    "shuffle": "how well the order is mixed, and memory over three epochs",
}


@dataclass
class Result:
    """What a bench found: `ok` if the promise holds, figures for machines, rows for readers."""

    ok: bool
    figures: dict[str, Any]
    rows: list[dict[str, Any]] = field(default_factory=list)
    """a table: each row has the same keys, which are its header"""

    def line(self) -> dict[str, Any]:
        """Return what the last line of output says as json."""
        return {"ok": self.ok, **self.figures}


def bench(name: str) -> Callable[..., Result]:
    """Return `run(folder, small=False)` of a bench; it makes `folder` and fills it."""
    return import_module(f".{name.replace('-', '_')}", __name__).run


def show(name: str, small: bool = False) -> bool:
    """Run a bench and print its table and its line of json; return whether it is ok.

    The line is printed whatever happens: whoever reads it needs no other case.
    """
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    try:
        with TemporaryDirectory(prefix="omni-shards-bench-") as folder:
            result = bench(name)(Path(folder) / "work", small=small)
    except Exception as error:
        traceback.print_exc()
        result = Result(False, {"error": f"{type(error).__name__}: {error}"})
    if result.rows:
        table = Table(*result.rows[0])
        for row in result.rows:
            table.add_row(*(escape(_cell(value)) for value in row.values()))
        Console().print(table)
    print(json.dumps(result.line()), flush=True)
    return result.ok


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "NO"
    return f"{value:,}" if isinstance(value, int) else str(value)
