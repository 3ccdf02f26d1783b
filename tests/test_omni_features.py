"""The feature cache, in memory and in files: the same features, and never those of another."""

import os
import resource
import signal
import time
from typing import Any

import pytest
import torch

from omni import OmniForConditionalGeneration
from omni.features.cache import FeatureCache
from omni.features.store import RECORD, FeatureStore

ABOUT = {"media": "image", "weights": "w", "preprocessing": {"image_size": 8}}


@pytest.fixture
def frozen(make_model, specs, talks):
    """Return a model whose encoders are frozen, and a batch."""
    model, processor = make_model(vision=specs.vision, audio=specs.audio)
    model.encoders.requires_grad_(False)
    return model, processor.pack([processor.encode(talk) for talk in talks])


def losses(model, batch, cache=None):
    model.feature_cache = cache
    with torch.no_grad():
        return model(**batch).token_losses


def counts(cache):
    return cache.misses, cache.hits


def store(root, max_bytes=1 << 20, **about):
    return FeatureStore(root, ABOUT | about, max_bytes)


def features(n, *shape, dtype=torch.float32):
    return torch.randn(tuple(shape or (3, 3, 5)), generator=torch.Generator().manual_seed(n)).to(
        dtype
    )


def same(found, n):
    return found is not None and torch.equal(found, features(n))


def digest(n):
    return n.to_bytes(16, "little")


@pytest.mark.parametrize("where", ["memory", "files"])
def test_the_cache_changes_nothing_but_the_time(where, frozen, tmp_path):
    cache = FeatureCache(1 << 20, tmp_path if where == "files" else None)
    model, batch = frozen
    plain, first, second = (losses(model, batch, c) for c in (None, cache, cache))
    torch.testing.assert_close(first, plain, atol=1e-5, rtol=1e-5)
    assert torch.equal(first, second)
    # 4 pictures, of which one occurs twice; 4 sounds, of which one occurs twice
    assert counts(cache) == (6, 2 + 8)


def test_memory_stays_within_its_bytes(make_model, specs, make_picture):
    model, processor = make_model(vision=specs.vision)
    encoder = model.encoders["vision"].requires_grad_(False)
    pixels = [
        encoder.preprocess(processor.modalities["vision"]["encoder"], make_picture(n))
        for n in range(6)
    ]
    size = encoder(pixels[0]["pixel_values"]).values.nbytes
    small = FeatureCache(3 * size)
    for _ in range(2):
        for one in pixels:
            small(encoder, [one["pixel_values"]])
    assert small._memory.bytes <= 3 * size
    assert small._memory.bytes == sum(f.nbytes for f in small._memory.features.values())
    assert small.hits == 0  # six in turn through room for three: always the wrong ones
    small(encoder, [pixels[-1]["pixel_values"]])
    assert small.hits == 1


def test_another_run_reads_files_bit_by_bit_and_encodes_nothing(frozen, tmp_path, caplog):
    model, batch = frozen
    first = losses(model, batch, FeatureCache(1 << 20, tmp_path / "features"))
    model.save_pretrained(tmp_path / "saved")
    again: Any = OmniForConditionalGeneration.from_pretrained(tmp_path / "saved").eval()
    again.encoders.requires_grad_(False)
    cache = FeatureCache(1 << 20, tmp_path / "features")
    assert torch.equal(losses(again, batch, cache), first)
    assert counts(cache) == (0, 8)
    assert not caplog.records


@pytest.mark.parametrize("change", ["weights", "preprocessing"])
def test_features_of_another_encoder_are_told_of_and_never_served(change, frozen, tmp_path, caplog):
    model, batch = frozen
    losses(model, batch, FeatureCache(1 << 20, tmp_path))
    encoder = model.encoders["vision"]
    if change == "weights":
        with torch.no_grad():
            next(encoder.parameters()).view(-1)[0] += 1
    else:
        encoder.spec = encoder.spec | {"mean": [0.0, 0.0, 0.0]}
    cache = FeatureCache(1 << 20, tmp_path)
    found = losses(model, batch, cache)
    assert counts(cache) == (3, 1 + 4)  # every picture anew; sounds are those of before
    torch.testing.assert_close(found, losses(model, batch), atol=1e-5, rtol=1e-5)
    [told] = [record.getMessage() for record in caplog.records]
    assert f"MB of features of other {change} are not used; remove the folder" in told
    caplog.clear()
    losses(model, batch, FeatureCache(1 << 20, tmp_path))
    assert not caplog.records  # once


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_dtype_and_shape_are_kept(dtype, tmp_path):
    for n, shape in enumerate([(7,), (5, 3), (3, 1, 2), (2, 3, 4, 5)]):
        store(tmp_path).put(digest(n), features(n, *shape, dtype=dtype))
        found = store(tmp_path).get(digest(n))
        assert found is not None
        assert found.dtype == dtype
        assert torch.equal(found, features(n, *shape, dtype=dtype))


def test_what_a_kill_or_a_power_cut_left_half_written_is_never_served(tmp_path):
    written = store(tmp_path)
    for n in range(3):
        written.put(digest(n), features(n))
    [index], [data] = (list(written.folder.glob(f"*.{kind}")) for kind in ("index", "data"))
    rows, bytes_ = index.read_bytes(), data.read_bytes()

    def found(rows=rows, bytes_=bytes_):
        index.write_bytes(rows)
        data.write_bytes(bytes_)
        fresh = store(tmp_path)
        got = [fresh.get(digest(n)) for n in range(3)]
        assert all(g is None or same(g, n) for n, g in enumerate(got))
        return [g is not None for g in got]

    assert found() == [True, True, True]
    for cut in range(1, RECORD.size, 7):
        assert found(rows=rows[:-cut]) == [True, True, False]
        torn = rows[:-cut] + bytes(cut)  # a page that never reached the disk is zero
        assert found(rows=torn) == [True, True, False]
    for cut in (100, 180, len(bytes_)):  # the last 12 bytes are padding
        assert found(bytes_=bytes_[:-cut])[2] is False
    flipped = bytearray(bytes_)
    flipped[5] ^= 1
    assert found(bytes_=bytes(flipped)) == [False, True, True]
    again = store(tmp_path)
    assert again.get(digest(0)) is None
    again.put(digest(0), features(0))
    assert same(again.get(digest(0)), 0)


def test_processes_read_while_others_write_and_are_killed(tmp_path):
    """Two writers are killed at some instant; whatever a reader is given meanwhile is right."""
    store(tmp_path)
    children = []
    for writer in range(2):
        if (child := os.fork()) == 0:
            mine = store(tmp_path, 1 << 30)
            for n in range(writer, 1 << 20, 2):
                mine.put(digest(n), features(n))
        children.append(child)
    reader, seen, end = store(tmp_path), 0, time.monotonic() + 30
    while seen < 200 and time.monotonic() < end:
        got = reader.get(digest(seen))
        if got is not None:
            assert same(got, seen)
            seen += 1
    for child in children:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    after = store(tmp_path)
    assert seen == 200
    assert len(after._records) >= 200
    for number in after._records:
        n = int.from_bytes(number, "little")
        assert same(after.get(number), n)


def test_files_stay_within_their_bytes_all_encoders_together(tmp_path, caplog):
    size = 192  # of one, padded
    first, second = store(tmp_path, 5 * size), store(tmp_path, 5 * size, weights="other")
    for n in range(4):
        first.put(digest(n), features(n))
        second.put(digest(n), features(n))
    assert sum(f.stat().st_size for f in tmp_path.rglob("*.data")) == 5 * size
    assert first.get(digest(3)) is None
    told = [r.getMessage() for r in caplog.records if "stores no more" in r.getMessage()]
    assert len(told) == 2  # once for each
    assert "feature_cache_mb" in told[0]


def test_a_folder_that_cannot_be_written_costs_time_and_no_more(tmp_path, caplog):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ValueError, match=r"feature_cache .*: cannot be a folder"):
        FeatureCache(1, tmp_path / "file" / "below")
    full, limit = store(tmp_path / "full"), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, limit[1]))  # as if the disk were full
    try:
        full.put(digest(1), features(1))
        full.put(digest(2), features(2))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert full.get(digest(1)) is None
    [told] = [r.getMessage() for r in caplog.records]
    assert "stores no more features" in told and "File too large" in told
