"""Shards without an index: everything intact comes, all damage is named, resume is not exact."""

import http.server
import itertools
import logging
import re
import threading

import pytest

from data_shards.sample import Sample
from data_shards.unindexed import UnindexedStream
from data_shards.write import ShardSet
from omni.messages import assistant, image, user

META = {"source": "x", "license": "Apache-2.0", "schema": 1}


@pytest.fixture(scope="module")
def folder(tmp_path_factory, make_picture):
    out = tmp_path_factory.mktemp("shards") / "set"

    def samples():
        for n in range(12):
            talk = [user(image("img0.png"), f"Which? {n}"), assistant(str(n))]
            yield Sample(talk, {"img0.png": make_picture(n)}, META | {})

    with ShardSet(out, shard_samples=3) as shards:
        for sample in samples():
            shards.add(sample)
        shards.commit({})
    return out


@pytest.fixture
def url(folder):
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args):
            super().__init__(*args, directory=str(folder))

        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def keys(stream, count):
    return [sample.key for sample in itertools.islice(stream, count)]


ALL = [f"{n:08d}" for n in range(12)]


def test_every_sample_comes_once_an_epoch_from_any_place(folder, url):
    local, remote = f"{folder}/train-*.tar", f"{url}/train-00000{{0..3}}.tar"
    pipes = [f"pipe:cat {path}" for path in sorted(folder.glob("*.tar"))]
    for shards in (local, remote, pipes, url):
        assert keys(UnindexedStream(shards, shuffle=0), 15) == ALL + ALL[:3]
        shuffled = keys(UnindexedStream(shards, shuffle=5), 24)
        assert sorted(shuffled[:12]) == sorted(shuffled[12:]) == ALL
        assert shuffled[:12] != shuffled[12:] != ALL
    mine = [keys(UnindexedStream(local, rank=r, world_size=2), 6) for r in (0, 1)]
    assert sorted(mine[0] + mine[1]) == ALL
    with pytest.raises(ValueError, match="4 shards without an index cannot feed 5 ranks"):
        UnindexedStream(local, world_size=5)


def test_it_says_that_resume_is_not_exact(folder, caplog):
    stream = UnindexedStream(f"{folder}/train-*.tar", shuffle=5)
    assert "will NOT continue exactly" in caplog.text
    caplog.clear()
    first = keys(stream, 4)
    again = UnindexedStream(f"{folder}/train-*.tar", shuffle=5)
    again.load_state_dict(stream.state_dict())
    assert "after 4 samples: epoch 0 begins again" in caplog.text
    assert keys(again, 12) != first and again.state_dict()["exact"] is False
    with pytest.raises(ValueError, match="'exact' None"):
        again.load_state_dict({"version": 1})


def damaged(folder, tmp_path, change):
    """Copy the shards with the bytes of the second one changed."""
    for path in folder.glob("*.tar"):
        data = bytearray(path.read_bytes())
        (tmp_path / path.name).write_bytes(change(data) if "1.tar" in path.name else data)
    return f"{tmp_path}/train-*.tar"


def bad_header(data):
    at = data.index(b"00000004.json")
    data[at : at + 512] = b"\xff" * 512
    return data


def other_name(data):
    at = data.index(b"img0.png", data.index(b'{"id":"00000004"'))
    data[at : at + 8] = b"img9.png"
    return data


DAMAGE = {
    "a bad header before the last .* bytes; the rest": (bad_header, 2),
    "unexpected end of data; the rest": (lambda data: data[: data.index(b"00000005.img") + 700], 1),
    "the json part is not readable json": (
        lambda data: data.replace(b'{"id":"00000004"', b'["id":"00000004"'), 1
    ),
    "empty file|file could not be opened": (lambda data: b"", 3),
    "no message uses|names the file": (other_name, 1),
}  # fmt: skip


@pytest.mark.parametrize("reason", DAMAGE)
def test_damage_is_named_and_other_shards_are_whole(folder, tmp_path, reason):
    change, lost = DAMAGE[reason]
    bad = []
    stream = UnindexedStream(damaged(folder, tmp_path, change), shuffle=0, on_bad=bad.append)
    got = keys(stream, 12 - lost)
    assert set(ALL) - set(got) <= set(ALL[3:6])
    assert len(set(got)) == 12 - lost
    assert {b.shard for b in bad} == {"train-000001.tar"}
    assert any(re.search(reason, b.reason) for b in bad)


def test_nothing_readable_ends_the_stream(tmp_path):
    (tmp_path / "train-000000.tar").write_bytes(b"\0" * 10_240)
    with pytest.raises(ValueError, match="no readable sample"):
        next(iter(UnindexedStream(tmp_path / "train-000000.tar")))


def test_batches_are_those_of_a_loader(folder, omni_pair, caplog):
    caplog.set_level(logging.ERROR)
    _, processor = omni_pair
    bad = []
    stream = UnindexedStream(f"{folder}/train-*.tar", shuffle=0, on_bad=bad.append)
    (batch, state), _ = itertools.islice(stream.batches(processor, batch_size=3), 2)
    assert batch["meta"]["samples"] == 3 and state["samples"] == 3
    assert batch["input_ids"].shape[1] == batch["meta"]["tokens"]
    assert len(batch["pixel_values"]) == 3
    next(stream.batches(processor, batch_size=2, max_length=batch["meta"]["tokens"] // 3))
    assert all("max_length" in b.reason for b in bad)
