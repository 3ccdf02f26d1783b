"""`bench cache` holds, and says so when a cache serves the features of other weights."""

import pytest

from omni.features.cache import FeatureCache
from stages.bench.cache import run


class Blind(FeatureCache):
    """Ignores the weights of an encoder."""

    def _store(self, encoder, example):
        try:
            encoder.parameters, encoder.buffers = lambda *_: iter(()), lambda *_: iter(())
            encoder.named_parameters, encoder.named_buffers = encoder.parameters, encoder.buffers
            return super()._store(encoder, example)
        finally:
            for name in ("parameters", "buffers", "named_parameters", "named_buffers"):
                del encoder.__dict__[name]


@pytest.mark.slow
def test_reading_beats_computing_and_other_weights_are_seen(tmp_path):
    result = run(tmp_path / "x", small=True)
    assert result.figures["cpu_x"] > 2, result  # the clock on the wall is for quiet machines
    assert result.figures["loss_off_by"] < 1e-4
    assert result.figures["stale_served"] is False


@pytest.mark.slow
def test_a_cache_that_ignores_the_weights_is_found(tmp_path):
    result = run(tmp_path / "x", small=True, cache=Blind)
    assert not result.ok
    assert result.figures["stale_served"] is True
