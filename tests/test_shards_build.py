"""A build ends with the same bytes for any number of threads and after any kill."""

import json
import multiprocessing
import os
import signal
from pathlib import Path

import pytest
from rich.console import Console

from data_shards.build import build
from data_shards.read.entry import find_shards, read_shard
from data_shards.shards.journal import JOURNAL
from data_shards.shards.manifest import read_manifest
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


@pytest.fixture(scope="module")
def whole(rows, tmp_path_factory) -> dict[str, bytes]:
    out = tmp_path_factory.mktemp("whole") / "s"
    manifest = run(rows, out)
    assert len(manifest["shards"]) > 8 and manifest["skipped"]["count"] == 6
    assert list(verify(out)) == []
    return contents(out)


@pytest.mark.parametrize("jobs", [2, 7])
def test_threads_do_not_change_a_byte(rows, whole, tmp_path, jobs):
    run(rows, tmp_path / "s", jobs)
    assert contents(tmp_path / "s") == whole


def killed(rows: Path, out: Path, jobs: int, samples: int) -> None:
    """Build, and die by kill -9 before sample number `samples` is written."""
    add, left = ShardSet.add, samples

    def last(self, *arguments):
        nonlocal left
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        add(self, *arguments)

    ShardSet.add = last
    run(rows, out, jobs)


def test_killed_builds_go_on_and_end_with_the_same_bytes(rows, whole, tmp_path):
    out, made = tmp_path / "s", tmp_path / ".s.building"
    finished: dict[str, int] = {}
    for jobs, samples in ((3, 0), (1, 11), (4, 3), (2, 14), (3, 6)):
        child = multiprocessing.get_context("fork").Process(
            target=killed, args=(rows, out, jobs, samples)
        )
        child.start()
        child.join(60)
        assert child.exitcode == -signal.SIGKILL
        lines = (made / JOURNAL).read_text().splitlines()[1:]
        shards = [json.loads(line)["shard"] for line in lines]
        inodes = {name: (made / name).stat().st_mtime_ns for name in shards}
        assert finished.items() <= inodes.items()  # kept, not written again
        finished = inodes
    assert len(finished) >= 3
    run(rows, out, jobs=2)
    assert contents(out) == whole
    assert {name: (out / name).stat().st_mtime_ns for name in finished} == finished
    assert not made.exists()


def test_another_request_starts_afresh(rows, whole, tmp_path):
    out = tmp_path / "s"
    child = multiprocessing.get_context("fork").Process(target=killed, args=(rows, out, 1, 12))
    child.start()
    child.join(60)
    run(rows, out, count=5)
    assert max(s["samples"] for s in read_manifest(out)["shards"].values()) == 5
    samples = [s for path in find_shards(out) for s in read_shard(path)]
    assert len(samples) == len({s.key for s in samples})


@pytest.mark.parametrize("at", ["building", "old"])
def test_a_kill_between_two_renames_loses_nothing(rows, whole, tmp_path, monkeypatch, at):
    """Replacing an old set takes two renames: at every point one of the two sets is whole."""
    out = tmp_path / "s"
    run(rows, out)
    (out / "notes.txt").write_text("mine")
    rename, settle = Path.rename, ShardSet._settle

    def stop(self, target):
        if at == "building" and self.name == ".s.building":
            raise KeyboardInterrupt
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", stop)
    if at == "old":
        calls = iter([settle])
        monkeypatch.setattr(ShardSet, "_settle", lambda s: next(calls)(s))
    with pytest.raises((KeyboardInterrupt, StopIteration)):
        build(SOURCES["llava"](json=rows), out, heldout=0.3, shard_samples=4, force=True)
    monkeypatch.undo()
    build(SOURCES["llava"](json=rows), out, heldout=0.3, shard_samples=4, force=True)
    left = contents(out)
    assert left.pop("notes.txt") == b"mine"
    assert left == whole


def test_a_journal_line_that_was_cut_is_dropped(rows, whole, tmp_path):
    out, made = tmp_path / "s", tmp_path / ".s.building"
    child = multiprocessing.get_context("fork").Process(target=killed, args=(rows, out, 1, 20))
    child.start()
    child.join(60)
    text = (made / JOURNAL).read_text()
    (made / JOURNAL).write_text(text[:-30])
    run(rows, out)
    assert contents(out) == whole
