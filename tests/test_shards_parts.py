"""Parts built anywhere, in any order and after any kill, merge to the bytes of one build."""

import json
import multiprocessing
import os
import shutil
import signal

import pytest
from typer.testing import CliRunner

from data_shards import parts
from data_shards.bench import cluster
from data_shards.build import OtherBuild, build
from data_shards.cli import app
from data_shards.parts import Parts, build_part, merge
from data_shards.sources import SOURCES, SourceError

ROWS = 90
contents = cluster.contents


@pytest.fixture(scope="module")
def sources(tmp_path_factory, make_picture) -> dict:
    """Sources of both kinds: rows of users' files, some bad, and samples that a source makes."""
    folder = tmp_path_factory.mktemp("rows")
    for n in range(20):
        (folder / f"{n}.png").write_bytes(make_picture(n))
    turns = [{"from": "human", "value": "<image>\nWhat?"}, {"from": "gpt", "value": "A thing."}]
    rows = [{"id": n, "image": f"{n % 20}.png" if n % 7 else "none.png", "conversations": turns}
            for n in range(ROWS)]  # fmt: skip
    rows[3]["conversations"] = [turns[0], {"from": "gpt", "value": "half a pair: \ud83d"}]
    rows[5]["conversations"] = [turns[0], {"from": "gpt", "value": "ünïcode \U0001f600 \x85"}]
    (folder / "rows.json").write_text(json.dumps([*rows, 7]))
    pairs = [{"prompt": f"{n}?", "chosen": "yes", "rejected": "no"} for n in range(9)]
    (folder / "pairs.jsonl").write_text("\n".join(map(json.dumps, pairs)))
    return {
        "llava": SOURCES["llava"](json=folder / "rows.json", license="mine"),
        "preference": SOURCES["preference"](json=folder / "pairs.jsonl"),
        "shapes": SOURCES["shapes"](count=16, variants=2, turns=1),
    }


OPTIONS = {"heldout": 0.3, "shard_samples": 8}


@pytest.mark.parametrize(
    ("name", "of"), [("llava", 1), ("llava", 3), ("preference", 20), ("shapes", 2)]
)
def test_parts_merge_to_the_bytes_of_one_build(sources, name, of, tmp_path):
    build(sources[name], tmp_path / "alone", **OPTIONS)
    for number in range(of, 0, -1):
        build_part(sources[name], tmp_path / "set", number, of, jobs=1 + number % 3, **OPTIONS)
    merge([tmp_path / "set"], tmp_path / "set")
    assert contents(tmp_path / "set") == contents(tmp_path / "alone")
    assert not Parts(tmp_path / "set").folder.exists()
    if name == "llava":
        manifest = json.loads(contents(tmp_path / "set")["manifest.json"])
        assert manifest["skipped"]["count"] == 13 + 2
        assert any("surrogate" in reason for reason in manifest["skipped"]["first"])


def shell(*words) -> str:
    done = CliRunner().invoke(app, [str(word) for word in words])
    return done.output if done.exit_code else ""


def test_parts_of_machines_that_share_no_folder_are_merged(sources, tmp_path):
    rows = sources["llava"].json
    words = ["build", "llava", "--json", rows, "--license", "mine", "--heldout", 0.3,
             "--shard-samples", 8]  # fmt: skip
    assert not shell(*words, "--out", tmp_path / "alone")
    outs = [tmp_path / f"p{number}" for number in (1, 2, 3)]
    for number, out in enumerate(outs, 1):
        assert not shell(*words, "--out", out, "--part", f"{number}/3")
    shutil.move(Parts(outs[1]).folder, tmp_path / "away")
    assert "p2.parts is not there" in shell("merge", *outs, "--out", tmp_path / "set")
    assert "chunks are missing, the first of rows " in shell(
        "merge", outs[0], outs[2], "--out", tmp_path / "set"
    )
    shutil.move(tmp_path / "away", Parts(outs[1]).folder)
    assert "say with --out" in shell("merge", *outs)
    assert not shell("merge", *outs, "--out", tmp_path / "set")
    assert contents(tmp_path / "set") == contents(tmp_path / "alone")
    assert not shell(*words, "--out", tmp_path / "set", "--part", "2/3")  # it is built already
    assert not Parts(tmp_path / "set").folder.exists()
    for wrong in ("0/3", "4/3", "1", "a/b", "1/0"):
        assert "give i/n" in shell(*words, "--out", tmp_path / "x", "--part", wrong)
    assert "give one" in shell(*words, "--out", tmp_path / "x", "--part", "1/2", "--ray", "auto")


def test_parts_of_other_builds_are_refused(sources, tmp_path):
    build_part(sources["llava"], tmp_path / "a", 1, 2, **OPTIONS)
    with pytest.raises(OtherBuild, match=r"another build \(request\)"):
        build_part(sources["llava"], tmp_path / "a", 2, 2, seed=1, **OPTIONS)
    build_part(sources["llava"], tmp_path / "b", 2, 2, seed=1, **OPTIONS)
    with pytest.raises(OtherBuild, match="parts of different builds"):
        merge([tmp_path / "a", tmp_path / "b"], tmp_path / "set")
    build(sources["shapes"], tmp_path / "a", **OPTIONS)
    build_part(sources["llava"], tmp_path / "a", 2, 2, force=True, **OPTIONS)
    with pytest.raises(OtherBuild, match="holds another build"):
        merge([tmp_path / "a"], tmp_path / "a")
    merge([tmp_path / "a"], tmp_path / "a", force=True)
    assert merge([tmp_path / "a"], tmp_path / "a")["source"] == "llava"  # was merged already


def killed(work, at: int) -> None:
    """Do something in a process that dies by kill -9 when it is in chunk number `at`."""

    def run() -> None:
        left = at
        for name in ("write_chunk", "read_chunk"):
            real = getattr(parts, name)

            def counted(*given, real=real):
                nonlocal left
                left -= 1
                if left < 0:
                    os.kill(os.getpid(), signal.SIGKILL)
                return real(*given)

            setattr(parts, name, counted)
        work()

    child = multiprocessing.get_context("fork").Process(target=run)
    child.start()
    child.join(60)
    assert child.exitcode == -signal.SIGKILL


def test_killed_parts_and_killed_merges_go_on(sources, tmp_path):
    source, out = sources["llava"], tmp_path / "set"
    build(source, tmp_path / "alone", **OPTIONS)
    killed(lambda: build_part(source, out, 1, 1, **OPTIONS), at=11)
    made = {path: path.stat().st_ino for path in Parts(out).finished().values()}
    assert len(made) == 11
    build_part(source, out, 1, 1, **OPTIONS)
    assert {path: path.stat().st_ino for path in made} == made
    killed(lambda: merge([out], out), at=30)
    merge([out], out)
    assert contents(out) == contents(tmp_path / "alone")


def test_rows_that_all_fail_are_an_error_of_the_merge(tmp_path):
    (tmp_path / "rows.json").write_text(json.dumps([{"image": "none.png"}] * 3))
    source = SOURCES["llava"](json=tmp_path / "rows.json")
    build_part(source, tmp_path / "set", 1, 1)
    with pytest.raises(SourceError, match=r"no usable row; rows.json:0"):
        merge([tmp_path / "set"], tmp_path / "set")


def test_a_merge_that_loses_a_row_is_found_by_the_bench(tmp_path, monkeypatch):
    monkeypatch.setattr(cluster, "find_spec", lambda name: None)  # as if there were no Ray
    whole = cluster.run(tmp_path / "x", small=True)
    assert not whole.ok  # half of it was not measured
    assert whole.figures["same"] is True and whole.figures["killed"] == 0
    assert "not installed" in whole.figures["ray"]
    real = parts.read_chunk
    monkeypatch.setattr(parts, "read_chunk", lambda path: [o for o in real(path) if o.number != 31])
    assert cluster.run(tmp_path / "y", small=True).figures["same"] is False


def test_a_cluster_that_does_not_answer_is_an_error(sources, tmp_path):
    pytest.importorskip("ray")
    words = ["build", "llava", "--json", sources["llava"].json, "--out", tmp_path / "x"]
    assert "no cluster answers" in shell(*words, "--ray", "127.0.0.1:1")


@pytest.mark.slow
def test_a_cluster_that_loses_a_worker_makes_the_same_bytes(tmp_path):
    pytest.importorskip("ray")
    result = cluster.run(tmp_path / "x", small=True)
    assert result.ok, result
    assert result.figures == {"same": True, "killed": 1, "parts": 3, "workers": 2}
