"""Whatever reads, is killed or joins: the same samples in every step, and every bad one named."""

import hashlib
import io
import json
import os
import threading
from itertools import islice
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image

from data_shards.index.index import Index
from data_shards.plan.plan import Plan, PlanConfig
from data_shards.read.batch import rows_of
from data_shards.read.encode import Encode
from data_shards.read.loader import Loader
from data_shards.read.quarantine import TooManyBad
from data_shards.read.reader import Reader
from data_shards.shards.sample import Sample
from data_shards.shards.shard import scan_shard
from data_shards.shards.write import write_shards
from omni.media.decode import load_audio, load_image
from omni.processing.messages import assistant, audio, image, media_refs, user
from omni.processing.processor import Encoded


class Bytes:
    """A processor without a model: tokens are bytes of text, media are decoded and dropped."""

    modalities: ClassVar[dict] = {}
    fingerprint = "bytes"

    def text_length(self, messages, facts=None) -> int:
        return len(text_of(messages))

    def media_lengths(self, kind, facts):
        return np.zeros((2, len(facts)), np.int64)

    def encode(self, messages):
        for kind, ref in media_refs(messages):
            (load_image if kind == "image" else load_audio)(ref)
        ids = torch.tensor(list(text_of(messages)))
        return Encoded(ids, ids.clone())

    def pack(self, encoded):
        ids, labels = (torch.cat([getattr(e, name) for e in encoded])[None]
                       for name in ("input_ids", "labels"))  # fmt: skip
        return {"input_ids": ids, "labels": labels}


def text_of(messages) -> bytes:
    parts = [p for m in messages for p in m["content"]]
    return "".join(p["text"] for p in parts if p["type"] == "text").encode()


def meta(**more):
    return {"source": "t", "license": "MIT", "schema": 1, "kind": "k", **more}


def make_good(n: int, length: int = 0) -> Sample:
    return Sample([user(f"good{n}" + "x" * length), assistant("ok")], {}, meta())


def plan_of(folders: dict[str, Path], **changes) -> Plan:
    sources = {name: Index.open(folder) for name, folder in folders.items()}
    settings = {"mixture": dict.fromkeys(folders, 1.0), "max_samples": 8, "max_length": 1 << 20}
    lengths = {name: index.lengths(Bytes()) for name, index in sources.items()}
    return Plan(sources, PlanConfig(**settings | changes), lengths)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Three sources of documents of 10 to 99 tokens."""
    root, rng = tmp_path_factory.mktemp("mixture"), np.random.default_rng(0)
    for name, count in (("a", 23), ("b", 7), ("c", 150)):
        write_shards([make_good(n, int(rng.integers(0, 90))) for n in range(count)], root / name)
    return {name: root / name for name in "abc"}


MIXED = {"mixture": {"a": 0.5, "b": 0.3, "c": {0: 0.2, 3: 1.0}}, "seed": 5, "max_samples": None,
         "max_tokens": 256, "max_length": 256, "packs_per_step": 4, "window": 16}  # fmt: skip


def take(loader, count: int):
    """Return (step, content, keys) of the next batches, and the state after them."""
    batches = list(islice(loader, count))
    contents = [
        (b.step, hashlib.sha256(b.tensors["input_ids"].numpy().tobytes()).hexdigest(),
         *b.documents.keys) for b, _ in batches
    ]  # fmt: skip
    return contents, json.loads(json.dumps(batches[-1][1]))


def resumed(plan, state, **options):
    loader = Loader(plan, Bytes(), **options)
    loader.load_state_dict(state)
    return loader


def test_resume_is_exact_at_any_batch_whatever_the_threads(folders):
    plan = plan_of(folders, **MIXED)
    whole, last = take(Loader(plan, Bytes(), workers=0), 40)
    threads = iter((0, 1, 2, 3, 5) * 20)
    for stops in ((1,), (3, 4, 9), (8, 16, 24), tuple(range(1, 40, 3))):
        got, state = [], None
        for a, b in zip((0, *stops), (*stops, 40), strict=True):
            loader = Loader(plan, Bytes(), workers=next(threads), prefetch_bytes=10_000 * b)
            if state:
                loader.load_state_dict(state)
            part, state = take(loader, b - a)
            got += part
        assert got == whole
        assert state == last


def of_steps(runs):
    """Return the keys of every step over all ranks, sorted."""
    steps = {}
    for run in runs:
        for step, _, *keys in run:
            steps.setdefault(step, []).extend(keys)
    return {step: sorted(keys) for step, keys in steps.items()}


def test_the_number_of_ranks_may_change_at_any_batch(folders):
    """1 -> 2 -> 4 -> 2 ranks, changed in the middle of steps too: every step has its samples."""
    plan = plan_of(folders, **MIXED)
    expected = of_steps([take(Loader(plan, Bytes(), workers=0), 40)[0]])
    for changes in (((1, 8), (2, 4), (4, 6)), ((1, 10), (2, 4), (1, 6), (4, 4)), ((4, 3), (1, 28))):
        runs, state = [], None
        for ranks, batches in changes:
            loaders = [Loader(plan, Bytes(), rank, ranks, workers=0) for rank in range(ranks)]
            states = []
            for loader in loaders:
                if state:
                    loader.load_state_dict(state)
                run, after = take(loader, batches)
                runs.append(run)
                states.append({k: after[k] for k in ("plan", "taken")})
            assert all(s == states[0] for s in states)
            state = after
        got = of_steps(runs)
        assert len(got) == 10
        assert got == expected


def test_ranks_that_cannot_share_a_step_are_refused(folders):
    plan = plan_of(folders, **MIXED)
    with pytest.raises(ValueError, match="4 packs of a step cannot be assigned equally to 3 ranks"):
        Loader(plan, Bytes(), world_size=3)
    _, state = take(Loader(plan, Bytes(), workers=0), 1)
    with pytest.raises(ValueError, match="3 packs of a step cannot be assigned equally to 2 ranks"):
        Loader(plan, Bytes(), world_size=2).load_state_dict(state)
    with pytest.raises(ValueError, match="0 <= rank < world_size"):
        Loader(plan, Bytes(), rank=1)


def test_a_mismatch_names_the_field(folders, tmp_path):
    write_shards([make_good(n) for n in range(5)], tmp_path / "s")
    _, state = take(Loader(plan_of({"s": tmp_path / "s"}), Bytes(), workers=0), 1)
    for changes, field in (({"seed": 6}, "seed"), ({"max_samples": 4}, "max_samples")):
        with pytest.raises(ValueError, match=f"'{field}' was"):
            Loader(plan_of({"s": tmp_path / "s"}, **changes), Bytes()).load_state_dict(state)
    with pytest.raises(ValueError, match="'version' was 1 in the checkpoint and is 2 now"):
        Loader(plan_of({"s": tmp_path / "s"}), Bytes()).load_state_dict({"version": 1})
    write_shards([make_good(n) for n in range(9)], tmp_path / "s")
    with pytest.raises(ValueError, match=r"'index\.s' was"):
        Loader(plan_of({"s": tmp_path / "s"}), Bytes()).load_state_dict(state)


def encoded(image_: Image.Image, kind: str, **options) -> bytes:
    out = io.BytesIO()
    image_.save(out, kind, **options)
    return out.getvalue()


def wave(samples: np.ndarray) -> bytes:
    out = io.BytesIO()
    soundfile.write(out, samples, 16_000, format="WAV", subtype="FLOAT")
    return out.getvalue()


def picture(data: bytes) -> Sample:
    return Sample([user(image("img0.jpg")), assistant("x")], {"img0.jpg": data}, meta())


def sound(data: bytes) -> Sample:
    return Sample([user(audio("aud0.wav")), assistant("x")], {"aud0.wav": data}, meta())


NOISE = Image.effect_noise((64, 64), 80)
HOSTILE = {
    "truncated": (picture(encoded(NOISE, "JPEG")[:900]), "not a readable image"),
    "no image": (picture(b"<html>404</html>"), "not a readable image"),
    "bomb": (picture(encoded(Image.new("1", (30_000, 30_000)), "PNG")), "pixels"),
    "empty image": (picture(b""), "not a readable image"),
    "no samples": (sound(wave(np.zeros(0, np.float32))), "empty"),
    "NaN": (sound(wave(np.full(800, np.nan, np.float32))), "NaN"),
    "no audio": (sound(b"RIFFnope"), "aud0.wav: not"),
    "an hour": (sound(wave(np.zeros(1, np.float32))), "limit"),
}


def hour() -> bytes:
    out = io.BytesIO()
    soundfile.write(out, np.zeros(3600 * 8000, np.int16), 8000, format="FLAC")
    return out.getvalue()


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    """160 good samples, the eight bad ones at 0, 20, ... 140, and damage to 10, 11 and 30."""
    folder = tmp_path_factory.mktemp("hostile")
    HOSTILE["an hour"][0].parts["aud0.wav"] = hour()
    samples = [make_good(n) for n in range(160)]
    for place, (sample, _) in enumerate(HOSTILE.values()):
        samples.insert(place * 20, sample)
    samples[30] = picture(encoded(NOISE, "JPEG"))
    write_shards(samples, folder)
    path = folder / "train-000000.tar"
    data = bytearray(path.read_bytes())
    parts = {int(entry.key): entry.parts for entry in scan_shard(path)[0]}
    role = data.index(b'"assistant"', parts[10][0][1])
    data[role : role + 11] = b'"ass1stant"'
    data[parts[11][0][1]] = ord("x")
    header = parts[30][1][1] - 512
    data[header : header + 512] = b"\xa5" * 512
    path.write_bytes(data)
    return folder


def listed(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_bad_samples_leave_their_place_empty_and_are_named(hostile, tmp_path):
    plan, runs, lists = plan_of({"s": hostile}, seed=2), [], []
    found = plan.sources["s"].bad
    batches = -(-len(plan.sources["s"]) // 8)
    for workers in (0, 2):
        path = tmp_path / f"quarantine{workers}.jsonl"
        loader = Loader(plan, Bytes(), workers=workers, quarantine=path, max_bad_share=0.2)
        runs.append(take(loader, batches))
        lists.append(listed(path))
    assert runs[0] == runs[1]
    assert lists[0] == lists[1]
    reasons = {int(row["key"]): row["reason"] for row in lists[0] if row["key"]}
    expected = {place * 20: reason for place, (_, reason) in enumerate(HOSTILE.values())}
    expected |= {10: "unknown role 'ass1stant'", 11: "not readable json", 30: "'img0.jpg'"}
    assert reasons.keys() == expected.keys()
    for key, reason in expected.items():
        assert reason in reasons[key]
    assert any("no tar header" in row["reason"] for row in lists[0])
    assert {row["reason"] for row in lists[0] if row["pack"] is None} == {b.reason for b in found}
    contents, state = runs[0]
    delivered = {int(key.rpartition(":")[2]) for _, _, *keys in contents for key in keys}
    assert delivered == set(range(168)) - expected.keys()
    assert state["bad"] == sum(row["pack"] is not None for row in lists[0]) > 0
    assert all(row["shard"] == "train-000000.tar" and row["offset"] >= 0 for row in lists[0])


def test_resume_is_exact_around_bad_samples(hostile, tmp_path):
    plan, path = plan_of({"s": hostile}, seed=2), tmp_path / "quarantine.jsonl"
    options = {"quarantine": path, "max_bad_share": 0.2}
    whole, last = take(Loader(plan, Bytes(), workers=1, **options), 20)
    listed = path.read_text()
    head, state = take(Loader(plan, Bytes(), workers=2, **options), 7)
    tail, end = take(resumed(plan, state, workers=0, **options), 13)
    assert (head + tail, end) == (whole, last)
    assert path.read_text() == listed  # nothing is listed twice


def spoiled(folder: Path, count: int, every: int) -> Path:
    """Write good samples and spoil every n-th after it was indexed: its checksum tells."""
    write_shards([make_good(n, 50) for n in range(count)], folder)
    Index.open(folder)
    path = folder / "train-000000.tar"
    data, stat = bytearray(path.read_bytes()), path.stat()
    for entry in scan_shard(path)[0][::every]:
        data[entry.parts[0].offset + 5] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    return folder


def test_rot_is_found_by_checksum_and_an_empty_pack_has_no_labels(tmp_path):
    plan = plan_of({"s": spoiled(tmp_path / "s", 40, 2)}, max_samples=1)
    path = tmp_path / "q.jsonl"
    loader = Loader(plan, Bytes(), quarantine=path, max_bad_share=1)
    batches = [batch for batch, _ in islice(loader, 40)]
    assert sum(b.documents.samples for b in batches) == 20
    for batch in batches:
        lost = batch.counts["quarantined"]
        assert lost == 1 - batch.documents.samples
        assert batch.tensors["input_ids"].shape[1] > 0
        assert (batch.counts["label_tokens"] == 0) == bool(lost)
    assert all("differs from its checksum" in row["reason"] for row in listed(path))


@pytest.mark.parametrize(
    ("pair", "reason"),
    [
        ({}, "no assistant turn"),
        ({"chosen": [assistant("a")], "rejected": [assistant("b")]}, "it is a preference"),
    ],
)
def test_what_teaches_nothing_is_named(pair, reason, tmp_path):

    class Answers(Bytes):
        def encode(self, messages):
            encoded = super().encode(messages)
            if messages[-1]["role"] != "assistant":
                encoded.labels[:] = -100
            return encoded

    silent = Sample([user("which?")], {}, meta(), **pair)
    write_shards([*(make_good(n) for n in range(7)), silent], tmp_path / "s")
    loader = Loader(plan_of({"s": tmp_path / "s"}), Answers(), quarantine=tmp_path / "q.jsonl")
    [(batch, _)] = islice(loader, 1)
    assert (batch.documents.samples, batch.counts["quarantined"]) == (7, 1)
    assert reason in listed(tmp_path / "q.jsonl")[0]["reason"]


def test_too_many_bad_samples_stop_the_run(tmp_path):
    plan = plan_of({"s": spoiled(tmp_path / "s", 60, 3)})
    with pytest.raises(TooManyBad, match=r"samples were bad \(limit 5%\); see .*q.jsonl"):
        take(Loader(plan, Bytes(), quarantine=tmp_path / "q.jsonl"), 100)
    plan = plan_of({"s": spoiled(tmp_path / "t", 60, 1)})
    with pytest.raises(TooManyBad, match="'s': 9 samples in a row are bad, the last: train"):
        take(Loader(plan, Bytes(), max_bad_run=9, max_bad_share=1), 100)


def test_too_long_samples_are_told(tmp_path, caplog):
    write_shards([*(make_good(n) for n in range(30)), make_good(30, 500)], tmp_path / "s")
    Loader(plan_of({"s": tmp_path / "s"}, max_length=100), Bytes())
    assert "1 of 31 samples are over-long and will be skipped, the first: train" in caplog.text


def test_pieces_of_a_split_document_are_the_document(tmp_path):
    write_shards([make_good(n, 90 * n) for n in range(9)], tmp_path / "s")
    whole = {bytes(e.input_ids.tolist()) for e in map(Bytes().encode, [
        make_good(n, 90 * n).messages for n in range(9)])}  # fmt: skip
    plan = plan_of({"s": tmp_path / "s"}, max_samples=1, max_length=100, overlong="split")
    pieces = {}
    for step in plan.steps():
        [item] = step.packs[0].items
        if (item.row, item.piece) in pieces:
            break
        pieces[item.row, item.piece] = None
    loader = Loader(plan, Bytes(), workers=0)
    places = (i for s in plan.steps() for i in s.packs[0].items)
    for (batch, _), item in zip(islice(loader, len(pieces)), places, strict=False):
        assert batch.counts["tokens"] == item.tokens <= 100
        pieces[item.row, item.piece] = bytes(batch.tensors["input_ids"][0].tolist())
    found = [b"".join(pieces[key] for key in sorted(pieces) if key[0] == row) for row in range(9)]
    assert set(found) == whole


class Broken(Bytes):
    def encode(self, messages):
        raise KeyError("bug")


class Stuck(Bytes):
    """Never answers for one sample the first `times` times."""

    def __init__(self, times: int):
        self.times, self.never = times, threading.Event()

    def encode(self, messages):
        if b"good3x" in text_of(messages) and self.times:
            self.times -= 1
            self.never.wait(60)
        return super().encode(messages)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_bug_in_the_processor_is_not_taken_for_bad_data(folders, workers):
    with pytest.raises(KeyError, match="bug"):
        take(Loader(plan_of(folders, **MIXED), Broken(), workers=workers), 1)


@pytest.mark.parametrize(("times", "lost"), [(1, 0), (2, 1)])
def test_a_sample_that_hangs_is_tried_again_and_then_given_up(tmp_path, times, lost):
    write_shards([make_good(n, 9) for n in range(24)], tmp_path / "s")
    plan, stuck = plan_of({"s": tmp_path / "s"}), Stuck(times)
    loader = Loader(plan, stuck, quarantine=tmp_path / "q.jsonl", workers=1, timeout=0.1,
                    prefetch_bytes=1)  # fmt: skip
    contents, _ = take(loader, 3)
    stuck.never.set()
    assert sum(len(keys) for _, _, *keys in contents) == 24 - lost
    if lost:
        [row] = listed(tmp_path / "q.jsonl")
        assert row["reason"] == "no answer within 0.1 s"


def test_no_more_is_read_ahead_than_the_limit(folders):
    """With room for one job, what is being read is at most what was asked for and one more."""
    plan, begun = plan_of(folders, **MIXED), []

    class Watched(Bytes):
        def encode(self, messages):
            begun.append(1)
            return super().encode(messages)

    batches = iter(Loader(plan, Watched(), workers=3, prefetch_bytes=1))
    asked = 0
    for _ in range(12):
        batch, _ = next(batches)
        asked += batch.documents.samples
    sizes = [len(p.items) for s in islice(plan.steps(), 5) for p in s.packs]
    assert len(begun) <= asked + max(sizes)
    batches.close()


def test_the_first_batch_waits_for_few_others_and_reading_ahead_grows(folders):
    plan, planned = plan_of(folders, **MIXED), []

    def jobs():
        for step in plan.steps():
            for pack in step.packs:
                planned.append(pack.number)
                yield pack.number, rows_of(plan, pack)

    reader = Reader(Encode(Bytes()), lambda _: 1, workers=2)
    batches, ahead = reader.run(jobs()), []
    for number, _ in islice(batches, 20):
        ahead.append(planned[-1] - number)
    assert ahead[0] <= 3
    assert ahead[19] > 15
    batches.close()
