"""`omni-train bench resolution`: plans and features are the reference's, and it would tell."""

import pytest

from omni.encoders.naflex import NaflexEncoder
from stages.bench.resolution import run, web_sizes


def test_packed_images_are_those_of_transformers_without_its_padding(tmp_path):
    result = run(tmp_path, small=True)
    figures = result.figures
    assert (figures["mismatches"], figures["padding"]) == (0, 0)
    assert figures["features_off_by"] <= 1e-5
    assert 0 < figures["padding_of_padded"] < 0.1
    by = {row["scheme"]: row for row in result.rows}
    assert by["fixed, letterbox"]["most"] == 256
    assert by["tiles"]["most"] == 256 * 5
    assert by["naflex, packed"]["padding"] == 0
    assert 0.1 < by["fixed, letterbox"]["padding"] < 0.6


@pytest.mark.parametrize("broken", ["features", "plan"])
def test_other_features_or_another_plan_are_found(broken, tmp_path, monkeypatch):
    if broken == "features":
        own = NaflexEncoder.encode
        monkeypatch.setattr(NaflexEncoder, "encode", lambda e, p, g: own(e, p.flip(0), g))
    else:
        own = NaflexEncoder.grids_of
        monkeypatch.setattr(NaflexEncoder, "grids_of",
                            classmethod(lambda cls, *a: (own(*a)[0], own(*a)[1] + 1)))  # fmt: skip
    result = run(tmp_path, small=True)
    assert not result.ok
    assert (result.figures["mismatches"] > 0) == (broken == "plan")
    assert (result.figures["features_off_by"] > 1e-3) == (broken == "features")


def test_the_sizes_are_those_of_the_web():
    sizes = web_sizes(100)
    assert sizes == web_sizes(100)
    assert len({*sizes}) > 90
    assert max(w / h for w, h in sizes) > 2 > 0.7 > min(w / h for w, h in sizes)
