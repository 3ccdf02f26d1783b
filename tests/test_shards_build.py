"""A build ends with the same bytes for any number of threads, at any time, after any kill."""

import json
import multiprocessing
import os
import signal
import time
from collections.abc import Iterable
from pathlib import Path

import pytest
from rich.console import Console

from data_shards.build import build
from data_shards.shards.journal import JOURNAL
from data_shards.shards.write import ShardSet
from data_shards.sources import SOURCES
from data_shards.verify import verify

ROWS = 40


@pytest.fixture(scope="module")
def rows(tmp_path_factory, make_picture) -> Path:
    """A LLaVA file of 40 rows, every seventh of them bad, of which 25 look at 20 pictures."""
    folder = tmp_path_factory.mktemp("rows")
    for n in range(20):
        (folder / f"{n}.png").write_bytes(make_picture(n))
    turns = [{"from": "human", "value": "<image>\nWhat?"}, {"from": "gpt", "value": "A thing."}]
    lines = [
        {"id": n, "image": f"{n % 20}.png" if n % 7 else "none.png", "conversations": turns}
        for n in range(ROWS)
    ]
    (folder / "rows.json").write_text(json.dumps(lines))
    return folder / "rows.json"


def run(rows: Path, out: Path, jobs: int = 1, count: int = 4):
    console = Console(file=open(os.devnull, "w"))  # noqa: SIM115 - lives as long as the console
    source = SOURCES["llava"](json=rows)
    return build(source, out, heldout=0.3, jobs=jobs, shard_samples=count, console=console)


def contents(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.iterdir() if p.is_file()}


def finished(made: Path) -> dict[str, tuple[int, int]]:
    """Return inode and time of each finished shard: both stay, unless it is written again."""
    lines = (made / JOURNAL).read_text().splitlines()[1:]
    return files(made, [json.loads(line)["shard"] for line in lines])


def files(folder: Path, names: Iterable[str]) -> dict[str, tuple[int, int]]:
    stats = {name: (folder / name).stat() for name in names}
    return {name: (stat.st_ino, stat.st_mtime_ns) for name, stat in stats.items()}


@pytest.fixture(scope="module")
def whole(rows, tmp_path_factory) -> dict[str, bytes]:
    out = tmp_path_factory.mktemp("whole") / "s"
    manifest = run(rows, out)
    assert len(manifest["shards"]) > 8 and manifest["skipped"]["count"] == 6
    assert list(verify(out)) == []
    return contents(out)


@pytest.mark.parametrize("jobs", [2, 7])
def test_neither_threads_nor_the_clock_change_a_byte(rows, whole, tmp_path, jobs, monkeypatch):
    for name in ("time", "time_ns"):
        monkeypatch.setattr(time, name, lambda: 10**9)  # in 2001, or just after 1970
    run(rows, tmp_path / "s", jobs)
    assert contents(tmp_path / "s") == whole


def killed(rows: Path, out: Path, jobs: int, samples: int) -> None:
    """Build, and die by kill -9 before sample number `samples` is written."""

    def build() -> None:
        add, left = ShardSet.add, samples

        def last(self, *arguments):
            nonlocal left
            left -= 1
            if left < 0:
                os.kill(os.getpid(), signal.SIGKILL)
            add(self, *arguments)

        ShardSet.add = last
        run(rows, out, jobs)

    child = multiprocessing.get_context("fork").Process(target=build)
    child.start()
    child.join(60)
    assert child.exitcode == -signal.SIGKILL


def test_killed_builds_go_on_and_end_with_the_same_bytes(rows, whole, tmp_path):
    out, made = tmp_path / "s", tmp_path / ".s.building"
    kept: dict[str, tuple[int, int]] = {}
    for jobs, samples in ((3, 0), (1, 11), (4, 3), (2, 14), (3, 6)):
        killed(rows, out, jobs, samples)
        now = finished(made)
        assert kept.items() <= now.items()  # not written again
        kept = now
    assert len(kept) >= 3
    run(rows, out, jobs=2)
    assert contents(out) == whole
    assert files(out, kept) == kept
    assert not made.exists()


def test_another_request_starts_afresh(rows, tmp_path):
    out, other = tmp_path / "s", tmp_path / "other" / "s"
    killed(rows, out, jobs=1, samples=12)
    assert finished(tmp_path / ".s.building")
    run(rows, out, count=5)
    run(rows, other, count=5)
    assert contents(out) == contents(other)


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("name", ["s", ".s.building", "notes.txt"])
def test_a_kill_beside_a_rename_loses_nothing(rows, whole, tmp_path, monkeypatch, name, when):
    """Replacing an old set takes several renames: around each, one of the two sets is whole."""
    out = tmp_path / "s"
    run(rows, out)
    (out / "notes.txt").write_text("mine")
    rename = Path.rename

    def stop(self, target):
        if self.name != name or when == "after":
            rename(self, target)
        if self.name == name:
            raise KeyboardInterrupt

    source = SOURCES["llava"](json=rows)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Path, "rename", stop)
        build(source, out, heldout=0.3, shard_samples=4, force=True)
    build(source, out, heldout=0.3, shard_samples=4, force=True)
    left = contents(out)
    assert left.pop("notes.txt") == b"mine"
    assert left == whole


def test_a_journal_line_that_was_cut_is_dropped(rows, whole, tmp_path):
    out, made = tmp_path / "s", tmp_path / ".s.building"
    killed(rows, out, jobs=1, samples=20)
    *kept, cut = finished(made).items()
    text = (made / JOURNAL).read_text()
    (made / JOURNAL).write_text(text[:-30])
    run(rows, out)
    assert contents(out) == whole
    assert kept and dict(kept) == files(out, dict(kept))  # the others are not written again
    assert files(out, [cut[0]]) != dict([cut])
