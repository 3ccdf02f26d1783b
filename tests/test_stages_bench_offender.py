"""The bench plants two samples, finds both, and says so when the search does not."""

import pytest

from stages.bench import offender


@pytest.mark.slow
def test_both_are_named_and_left_out(tmp_path):
    result = offender.run(tmp_path / "x", small=True)
    assert result.ok, (result.rows, (tmp_path / "x" / "stderr").read_text()[-2000:])
    assert result.figures["named"] == result.figures["quarantined"] == 2
    assert result.figures["steps"] == result.figures["of"]
    assert [row["others"] for row in result.rows] == [0, 0]


@pytest.mark.slow
def test_a_search_that_finds_nothing_is_not_ok(tmp_path):
    result = offender.run(tmp_path / "x", small=True, fault="blind")
    assert not result.ok
    assert result.figures["named"] == 0
