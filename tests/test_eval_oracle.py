"""The oracle bench, with one planted fault: nine rows are right and one is found out."""

import pytest

from eval.bench import oracle
from eval.benchmarks import mathvista


@pytest.mark.slow
def test_a_scorer_that_reads_nothing_is_found_out(tmp_path, monkeypatch, offline):
    monkeypatch.setattr(mathvista, "extract", lambda *_: "")
    found = oracle.run(tmp_path)
    assert not found.ok
    assert found.figures == {"oracle_min": 0.0, "rows": 10, "off": ["mathvista"]}
    assert [row["oracle"] for row in found.rows if row["row"] != "mathvista"] == [100.0] * 9
