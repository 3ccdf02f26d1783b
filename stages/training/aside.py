"""Results that make room for new ones: moved beside the run, never deleted."""

from collections.abc import Sequence
from pathlib import Path

from omni.files.atomic import replacing
from omni.files.jsonl import append_lines, read_lines


def move_run(output: Path) -> Path:
    """Move a whole run to the first free OUTPUT.oldN; return where it is."""
    output.rename(old := _free(output))
    return old


def move_stages(output: Path, names: Sequence[str]) -> Path:
    """Move what stages of a run have made, their lines of the log too, to such a folder."""
    old = _free(output)
    for name in names:
        for place in (name, f"resume/{name}", f"tensorboard/{name}"):
            if (output / place).exists():
                (old / place).parent.mkdir(parents=True, exist_ok=True)
                (output / place).rename(old / place)
    log = output / "log.jsonl"
    rows = [*read_lines(log)]
    gone = [row for row in rows if row.get("stage", row.get("name")) in names]
    if gone:
        append_lines(old / "log.jsonl", gone)
        with replacing(log) as scratch:
            append_lines(scratch, [row for row in rows if row not in gone])
    return old


def _free(output: Path) -> Path:
    number = 0
    while (old := output.with_name(f"{output.name}.old{number}")).exists():
        number += 1
    return old
