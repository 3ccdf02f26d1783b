"""Shards are written whole, read by others, and read through damage with nothing intact lost."""

import io
import json
import os
import tarfile
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image

from data_shards.read.entry import BadSample, find_shards, read_entry, read_shard, scan_shard
from data_shards.read.opened import Opener
from data_shards.shards.manifest import read_manifest
from data_shards.shards.sample import Sample, SampleError, parse
from data_shards.shards.write import ShardSet, write_shards
from data_shards.verify import verify
from omni.processing.messages import MessageError, assistant, audio, image, user

BLOCK = 512


def jpeg(seed: int = 0, side: int = 16) -> bytes:
    out = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 255, (side, side, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(out, "JPEG")
    return out.getvalue()


def flac(wave: np.ndarray) -> bytes:
    out = io.BytesIO()
    soundfile.write(out, wave, 16_000, format="FLAC")
    return out.getvalue()


def make(number: int, split: str = "train") -> Sample:
    meta = {
        "source": "t",
        "license": "MIT",
        "schema": 1,
        "kind": "k",
        "identity": f"{split}{number}",
    }
    messages = [user(image("img0.jpg"), f"question {number}"), assistant(f"answer {number}")]
    return Sample(messages, {"img0.jpg": jpeg(number)}, meta, split=split)


def write(folder, count: int = 8):
    write_shards([make(n) for n in range(count)], folder, source="t")
    return folder / "train-000000.tar"


def numbers(samples) -> list[int]:
    return [int(sample.messages[1]["content"][0]["text"].split()[1]) for sample in samples]


def test_round_trip_counts_and_rolls_over(tmp_path):
    samples = [make(n) for n in range(7)] + [make(n, "heldout") for n in range(2)]
    with ShardSet(tmp_path / "s", shard_samples=3) as shards:
        for sample in samples:
            shards.add(sample)
        manifest = shards.commit({"source": "t"})
    assert sorted(p.name for p in (tmp_path / "s").iterdir()) == [
        "heldout-000000.tar", "manifest.json",
        "train-000000.tar", "train-000001.tar", "train-000002.tar",
    ]  # fmt: skip
    assert manifest == read_manifest(tmp_path / "s")
    assert manifest["splits"]["train"] == {"samples": 7, "kinds": {"k": 7}}
    assert manifest["heldout_identities"] == ["heldout0", "heldout1"]
    found = [s for path in find_shards(tmp_path / "s") for s in read_shard(path)]
    assert found == samples[:7]
    assert found[4].where == "train-000001.tar:00000004"
    assert list(verify(tmp_path / "s")) == []


def test_same_samples_are_same_bytes(tmp_path):
    first, second = write(tmp_path / "a"), write(tmp_path / "b")
    assert first.read_bytes() == second.read_bytes()
    with tarfile.open(first) as archive:  # of no time, user or machine: two in one second agree
        facts = {(m.mtime, m.uid, m.gid, m.uname, m.gname, m.mode) for m in archive}
    assert facts == {(0, 0, 0, "", "", 0o644)}


def test_json_comes_first_and_parts_are_contiguous(tmp_path):
    with tarfile.open(write(tmp_path / "s", 2)) as archive:
        assert archive.getnames() == [
            "00000000.json", "00000000.img0.jpg", "00000001.json", "00000001.img0.jpg",
        ]  # fmt: skip


def test_webdataset_reads_the_shards(tmp_path):
    import webdataset as wds

    path = write(tmp_path / "s")
    rows = list(wds.WebDataset(str(path), shardshuffle=False))
    assert [json.loads(row["json"])["id"] for row in rows] == [row["__key__"] for row in rows]
    assert [row["img0.jpg"] for row in rows] == [s.parts["img0.jpg"] for s in read_shard(path)]


def test_an_interrupted_build_leaves_nothing(tmp_path):
    def samples():
        yield make(0)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_shards(samples(), tmp_path / "s")
    assert list(tmp_path.iterdir()) == []


def test_a_failed_rebuild_keeps_the_old_set(tmp_path):
    before = write(tmp_path / "s").read_bytes()
    with pytest.raises(SampleError, match="meta lacks source"):
        write_shards([Sample([user("a"), assistant("b")], {}, {})], tmp_path / "s")
    assert (tmp_path / "s" / "train-000000.tar").read_bytes() == before


def test_a_folder_of_something_else_is_never_replaced(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(FileExistsError, match="something other than shards"):
        write_shards([make(0)], tmp_path)
    assert (tmp_path / "thesis.txt").exists()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"key": "a.b"}, "a dot ends a key"),
        ({"parts": {"../x.jpg": b""}}, "part name"),
        ({"meta": {}}, "meta lacks source, license, schema"),
        ({"parts": {}}, "img0.jpg"),
        ({"parts": {"img0.jpg": b"1", "img1.jpg": b"2"}}, "no message uses img1.jpg"),
    ],
)
def test_writing_refuses_what_breaks_the_contract(tmp_path, change, reason):
    sample = make(0)
    for name, value in change.items():
        setattr(sample, name, value)
    with pytest.raises((SampleError, MessageError), match=reason):
        write_shards([sample], tmp_path / "s")


GOOD = {"messages": [user("a"), assistant("b")]}


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (b"{", "not readable json"),
        (b"[" * 100_000, "not readable json"),
        (b"\xff\xfe", "not readable json"),
        (b"[1]", "object with the key 'messages'"),
        (
            {"messages": [{"role": "robot", "content": [{"type": "text", "text": "a"}]}]},
            "unknown role",
        ),
        ({"messages": [user(image("img7.jpg")), assistant("b")]}, "img7.jpg"),
        ({"messages": [user(image(["x"])), assistant("b")]}, "must name a file"),
        ({**GOOD, "meta": {"schema": 2}}, "schema 2 is not 1"),
        ({**GOOD, "meta": [1]}, "'meta' must be"),
    ],
)
def test_parse_names_what_is_wrong(row, reason):
    raw = row if isinstance(row, bytes) else json.dumps(row).encode()
    with pytest.raises((SampleError, MessageError), match=reason):
        parse("k", {"json": raw})


@pytest.mark.parametrize("value", [2**64, -(2**63) - 1, float("nan"), "\ud800", 1e-7, "é"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_json_is_read_as_python_reads_it(value, encoding):
    raw = json.dumps({**GOOD, "meta": {"value": value}}).encode(encoding)
    meta = parse("k", {"json": raw}).meta
    assert repr(meta) == repr(json.loads(raw)["meta"])


def test_a_shard_without_meta_can_be_read():
    assert parse("k", {"json": json.dumps(GOOD).encode()}).meta == {}


def damaged(path, offset: int, junk: bytes = b"\xa5" * BLOCK):
    data = bytearray(path.read_bytes())
    data[offset : offset + len(junk)] = junk
    path.write_bytes(data)


def read_all(path):
    bad = []
    return numbers(read_shard(path, bad.append)), bad


@pytest.mark.parametrize("part", ["json", "img0.jpg"])
@pytest.mark.parametrize("junk", [b"\xa5" * BLOCK, b"\0" * BLOCK])
def test_a_bad_header_costs_one_sample(tmp_path, part, junk):
    path = write(tmp_path / "s")
    entry = scan_shard(path)[0][3]
    damaged(path, next(at for name, at, _, _ in entry.parts if name == part) - BLOCK, junk)
    got, bad = read_all(path)
    assert got == [0, 1, 2, 4, 5, 6, 7]
    assert any(b.key == "00000003" for b in bad)
    assert all(b.shard == "train-000000.tar" and b.reason for b in bad)
    assert {b.key for b in bad} <= {"", "00000003"}


def test_a_truncated_shard_yields_what_is_whole(tmp_path):
    path = write(tmp_path / "s")
    entry = scan_shard(path)[0][5]
    path.write_bytes(path.read_bytes()[: entry.parts[1][1] + 20])
    got, bad = read_all(path)
    assert got == [0, 1, 2, 3, 4]
    assert [b.key for b in bad] == ["00000005"]
    assert "truncated" in bad[0].reason


def test_a_shard_cut_between_samples_is_noticed(tmp_path):
    path = write(tmp_path / "s")
    path.write_bytes(path.read_bytes()[: scan_shard(path)[0][5].offset])
    got, bad = read_all(path)
    assert got == [0, 1, 2, 3, 4]
    assert "was cut" in bad[0].reason


@pytest.mark.parametrize(("content", "reason"), [(b"", "empty"), (b"hello" * 300, "no tar header")])
def test_a_file_that_is_no_tar_is_named(tmp_path, content, reason):
    path = tmp_path / "train-000000.tar"
    path.write_bytes(content)
    got, bad = read_all(path)
    assert got == []
    assert reason in bad[0].reason


def tar(path, members: list[tuple[str, bytes]], **options):
    with tarfile.open(path, "w", **options) as archive:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def test_bad_members_are_named_and_the_rest_is_read(tmp_path):
    good = [
        json.dumps({"messages": [user("q"), assistant(f"answer {n}")]}).encode() for n in range(5)
    ]
    path = tar(
        tmp_path / "train-000000.tar",
        [
            ("a.json", good[0]),
            ("b.json", b"{broken"),
            ("c.img0.jpg", b"no json"),
            ("d.json", good[1]), ("d.json", good[1]),
            ("noext", b""),
            ("a.json", good[2]),
            ("../../etc/e.json", good[3]),
            ("f.json", good[4]),
        ],
    )  # fmt: skip
    got, bad = read_all(path)
    assert got == [0, 3, 4]
    reasons = {b.key: b.reason for b in bad}
    assert "json" in reasons["b"] and "no .json part" in reasons["c"]
    assert "same name" in reasons["d"] and "duplicate key" in reasons["a"]
    assert "KEY.PART" in reasons["noext"]


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_names_of_other_writers(tmp_path, form):
    key = "folder/" + "k" * 300
    row = json.dumps({"messages": [user(image("img0.jpg")), assistant("answer 5")]}).encode()
    members = [(f"{key}.json", row), (f"{key}.img0.jpg", jpeg())]
    path = tar(tmp_path / "train-000000.tar", members, format=form)
    found = list(read_shard(path))
    assert [sample.key for sample in found] == [key]
    assert numbers(found) == [5]


def test_a_shard_that_vanishes_is_a_bad_sample(tmp_path):
    path = write(tmp_path / "s")
    entry = scan_shard(path)[0][0]
    path.unlink()
    with pytest.raises(BadSample, match=r"train-000000.tar:00000000"):
        read_entry(entry)


def test_few_shards_stay_open_and_a_lost_one_is_opened_anew(tmp_path):
    paths = [write(tmp_path / str(n)) for n in range(5)]
    entries = [scan_shard(path)[0][0] for path in paths]
    opener = Opener(2)
    samples = [read_entry(entry, opener) for entry in entries]
    held = [os.readlink(link) for link in Path("/proc/self/fd").iterdir() if link.exists()]
    assert sorted(name for name in held if name in map(str, paths)) == [str(p) for p in paths[3:]]
    paths[4].rename(tmp_path / "replaced.tar")
    write(tmp_path / "4", count=1)
    assert read_entry(entries[4], opener) == samples[4]  # as it was when it was opened
    folder = os.open(tmp_path, os.O_RDONLY)
    os.dup2(folder, opener(str(paths[3])).number)  # what a network file system may do
    os.close(folder)
    with pytest.raises(BadSample, match="directory"):
        read_entry(entries[3], opener)
    assert read_entry(entries[3], opener) == samples[3]


def test_a_pattern_without_shards_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match="no shard matches"):
        find_shards(tmp_path / "trian-*.tar")


def test_verify_finds_every_kind_of_damage(tmp_path):
    samples = [make(n) for n in range(4)]
    samples[1].parts["img0.jpg"] = samples[1].parts["img0.jpg"][:-60]
    samples[2].parts["img0.jpg"] = b"not an image"
    wave = Sample([user(audio("aud0.flac")), assistant("x")], {"aud0.flac": flac(np.zeros(0))}, {})
    wave.meta = {**samples[0].meta, "identity": "audio"}
    leak = make(9, "heldout")
    leak.meta["identity"] = "train0"
    write_shards([*samples, wave, leak], tmp_path / "s")
    (tmp_path / "s" / "train-000007.tar").write_bytes(b"")
    damaged(tmp_path / "s" / "heldout-000000.tar", BLOCK + 10, b"x")  # only the checksum shows it
    good, bad = [], {}
    for found in verify(tmp_path / "s", good.append):
        bad.setdefault(f"{found.shard}:{found.key}", []).append(found.reason)
    assert "not a readable image" in bad["train-000000.tar:00000001"][0]
    assert "not a readable image" in bad["train-000000.tar:00000002"][0]
    assert "is empty" in bad["train-000000.tar:00000004"][0]
    assert "not in the manifest" in bad["train-000007.tar:"][0]
    assert "checksum" in bad["heldout-000000.tar:"][0]
    assert "'train0' is in heldout too" in bad["train-000000.tar:00000000"][0]
    assert sorted(sample.where for sample in good) == [
        "heldout-000000.tar:heldout-00000000",
        "train-000000.tar:00000003",
    ]
