"""A draw is a pure function of its number; a resumed loader repeats the uninterrupted one."""

import hashlib
import io
import json
from collections import Counter
from itertools import islice

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image

from data_shards.loader import Loader, TooManyBad
from data_shards.read import scan_shard
from data_shards.sample import Sample
from data_shards.stream import Stream
from data_shards.write import write_shards
from omni.media import load_audio, load_image
from omni.messages import assistant, audio, image, media_refs, user


class Bytes:
    """A processor without a model: tokens are bytes of text, media are decoded and dropped."""

    def encode(self, messages):
        for kind, ref in media_refs(messages):
            (load_image if kind == "image" else load_audio)(ref)
        text = "".join(p["text"] for m in messages for p in m["content"] if p["type"] == "text")
        return torch.tensor(list(text.encode()))

    def pack(self, encoded):
        row = torch.cat(encoded)[None]
        return {"input_ids": row, "labels": row.clone()}


def meta(**more):
    return {"source": "t", "license": "MIT", "schema": 1, "kind": "k", **more}


def source(folder, name: str, count: int):
    samples = [Sample([user(f"{name}{n} "), assistant("ok")], {}, meta()) for n in range(count)]
    write_shards(samples, folder / name)
    return folder / name


@pytest.fixture
def mixture(tmp_path):
    counts = {"a": (23, 0.5), "b": (7, 0.3), "c": (50, 0.2)}
    return {n: ([source(tmp_path, n, c)], w) for n, (c, w) in counts.items()}


def test_a_draw_depends_on_its_number_only(mixture):
    forward = [Stream(mixture, seed=3).sample(n).where for n in range(120)]
    stream = Stream(mixture, seed=3)
    backward = [stream.sample(n).where for n in reversed(range(120))]
    assert forward == backward[::-1]
    assert forward != [Stream(mixture, seed=4).sample(n).where for n in range(120)]


def test_weights_hold_at_every_prefix(mixture):
    stream, counts = Stream(mixture, seed=0), Counter()
    for n in range(2000):
        name = stream.name(n)
        assert stream.draw(n)[1] == counts[name]
        counts[name] += 1
        for other, (_, weight) in mixture.items():
            assert abs(counts[other] - weight * (n + 1)) <= 1.5


@pytest.mark.parametrize("weights", [(1, 1), (1e-3, 1), (0.1, 0.2), (3, 1)])
def test_any_weights_are_normalised(mixture, weights):
    pair = {n: (mixture[n][0], w) for n, w in zip("ab", weights, strict=True)}
    stream = Stream(pair)
    share = Counter(stream.name(n) for n in range(4000))["a"] / 4000
    assert share == pytest.approx(weights[0] / sum(weights), abs=1e-3)


def test_every_epoch_is_a_new_permutation(mixture):
    stream = Stream({"a": mixture["a"]}, seed=1)
    epochs = [[stream.entry(e * 23 + i).key for i in range(23)] for e in range(3)]
    assert all(len(set(epoch)) == 23 for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]


def test_wrong_mixtures_are_errors(mixture, tmp_path):
    with pytest.raises(ValueError, match="at least one source"):
        Stream({})
    with pytest.raises(ValueError, match="'a': weight 0 must be above 0"):
        Stream({"a": (mixture["a"][0], 0)})
    (tmp_path / "empty-000000.tar").write_bytes(b"")
    with pytest.raises(ValueError, match=r"'x' holds no readable sample[\s\S]*empty"):
        Stream({"x": (tmp_path / "empty-*.tar", 1)})


def take(loader, count: int):
    batches = list(islice(loader, count))
    contents = [
        (hashlib.sha256(batch["input_ids"].numpy().tobytes()).hexdigest(), *batch["meta"]["keys"])
        for batch, _ in batches
    ]
    return contents, batches[-1][1]


def test_resume_is_exact_whatever_the_threads(mixture):
    def loader(threads):
        return Loader(Stream(mixture, 5), Bytes(), batch_size=4, threads=threads, prefetch=3)

    whole, last = take(loader(0), 24)
    for first, second in ((1, 2), (2, 0), (0, 1)):
        head, state = take(loader(first), 9)
        again = loader(second)
        again.load_state_dict(json.loads(json.dumps(state)))
        tail, end = take(again, 15)
        assert head + tail == whole
        assert end == last


def test_ranks_share_the_draws(mixture):
    stream = Stream(mixture, 5)
    whole, _ = take(Loader(stream, Bytes(), batch_size=4), 8)
    ranks = [take(Loader(stream, Bytes(), 4, rank=r, world_size=2), 4) for r in range(2)]
    assert [batch for pair in zip(ranks[0][0], ranks[1][0], strict=True) for batch in pair] == whole
    assert ranks[0][1] == ranks[1][1]
    alone = Loader(stream, Bytes(), batch_size=4)
    alone.load_state_dict(ranks[0][1])
    assert alone.drawn == 32


def test_a_mismatch_names_the_field(mixture):
    _, state = take(Loader(Stream(mixture, 5), Bytes(), batch_size=4), 1)
    with pytest.raises(ValueError, match="'seed' was 5"):
        Loader(Stream(mixture, 6), Bytes(), batch_size=4).load_state_dict(state)
    with pytest.raises(ValueError, match="'batch_size' was 4"):
        Loader(Stream(mixture, 5), Bytes(), batch_size=2).load_state_dict(state)
    with pytest.raises(ValueError, match="'drawn' is 4"):
        Loader(Stream(mixture, 5), Bytes(), 4, world_size=3).load_state_dict(state)
    other = {**mixture, "a": (mixture["a"][0], 0.6)}
    with pytest.raises(ValueError, match="'mixture' was"):
        Loader(Stream(other, 5), Bytes(), batch_size=4).load_state_dict(state)
    write_shards([Sample([user("new"), assistant("ok")], {}, meta())], mixture["b"][0][0])
    with pytest.raises(ValueError, match=r"'index\.b' was"):
        Loader(Stream(mixture, 5), Bytes(), batch_size=4).load_state_dict(state)


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
    "empty image": (picture(b""), "empty"),
    "no samples": (sound(wave(np.zeros(0, np.float32))), "no samples"),
    "NaN": (sound(wave(np.full(800, np.nan, np.float32))), "NaN"),
    "no audio": (sound(b"RIFFnope"), "not readable audio"),
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


def test_bad_samples_are_counted_named_and_replaced(hostile, tmp_path):
    stream = Stream({"s": (hostile, 1)}, seed=2)
    assert len(stream.sources[0].entries) == 168
    runs = []
    for threads in (0, 2):
        path = tmp_path / f"quarantine{threads}.jsonl"
        loader = Loader(stream, Bytes(), 8, threads=threads, quarantine=path, max_bad_share=0.2)
        runs.append(take(loader, 21))  # one epoch
    assert runs[0] == runs[1]
    batches, state = runs[0]
    rows, others = (
        [json.loads(line) for line in (tmp_path / f"quarantine{n}.jsonl").read_text().splitlines()]
        for n in (0, 2)
    )
    assert [(row["key"], row["draw"]) for row in rows] == [(r["key"], r["draw"]) for r in others]
    reasons = {int(row["key"]): row["reason"] for row in rows if row["draw"] is not None}
    expected = {place * 20: reason for place, (_, reason) in enumerate(HOSTILE.values())}
    expected |= {10: "unknown role 'ass1stant'", 11: "not readable json", 30: "'img0.jpg'"}
    assert reasons.keys() == expected.keys()
    for key, reason in expected.items():
        assert reason in reasons[key]
    assert [r["reason"] for r in rows if r["draw"] is None] == [
        str(stream.bad[0].reason)
    ] and "no tar header" in stream.bad[0].reason
    delivered = {int(key.rpartition(":")[2]) for _, *keys in batches for key in keys}
    assert delivered == set(range(168)) - expected.keys()
    assert all(len(keys) == 8 for _, *keys in batches)
    assert state["quarantined"] == len(rows) - 1
    assert all(row["shard"] == "train-000000.tar" and row["offset"] >= 0 for row in rows)


def test_resume_is_exact_around_bad_samples(hostile, tmp_path):
    def loader(threads):
        path = tmp_path / "quarantine.jsonl"
        stream = Stream({"s": (hostile, 1)}, seed=2)
        return Loader(stream, Bytes(), 8, threads=threads, quarantine=path, max_bad_share=0.2)

    whole, last = take(loader(1), 20)
    listed = (tmp_path / "quarantine.jsonl").read_text()
    head, state = take(loader(2), 7)
    again = loader(0)
    again.load_state_dict(state)
    tail, end = take(again, 13)
    assert head + tail == whole
    assert end == last
    assert (tmp_path / "quarantine.jsonl").read_text() == listed  # nothing is listed twice


def test_too_many_bad_samples_stop_the_run(tmp_path):
    samples = [picture(b"x") if n % 3 else make_good(n) for n in range(60)]
    write_shards(samples, tmp_path / "s")
    loader = Loader(Stream({"s": (tmp_path / "s", 1)}), Bytes(), quarantine=tmp_path / "q.jsonl")
    with pytest.raises(TooManyBad, match=r"draws were bad \(limit 5%\); see .*q.jsonl"):
        take(loader, 100)


def test_a_source_of_bad_samples_only_stops_the_run(tmp_path):
    write_shards([picture(b"x"), picture(b"y")], tmp_path / "s")
    with pytest.raises(TooManyBad, match="'s': 16 samples in a row are bad, the last: train"):
        take(Loader(Stream({"s": (tmp_path / "s", 1)}), Bytes()), 1)


def make_good(n: int) -> Sample:
    return Sample([user(f"good{n}"), assistant("ok")], {}, meta())


def test_too_long_samples_are_named(tmp_path):
    long = Sample([user("x" * 500), assistant("ok")], {}, meta())
    write_shards([*(make_good(n) for n in range(30)), long], tmp_path / "s")
    path = tmp_path / "q.jsonl"
    stream = Stream({"s": (tmp_path / "s", 1)})
    take(Loader(stream, Bytes(), quarantine=path, max_length=100), 4)
    assert "502 tokens; max_length is 100" in path.read_text()


def test_a_bug_in_the_processor_is_not_taken_for_bad_data(mixture):
    class Broken(Bytes):
        def encode(self, messages):
            raise KeyError("bug")

    for threads in (0, 2):
        with pytest.raises(KeyError, match="bug"):
            take(Loader(Stream(mixture), Broken(), threads=threads), 1)
