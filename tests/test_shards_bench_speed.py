"""The benches of speed, packing, balance, mixing and shuffling run, and judge what they see."""

import numpy as np
import pytest

from data_shards.bench.lengths import lengths_of, plan_of
from data_shards.bench.result import module_of
from data_shards.plan.plan import Pack, deal


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "figures"),
    [
        ("pack", {"waste"}),
        ("balance", {"spread"}),
        ("mix", {"max_error", "tokens_off_in_samples", "same_after_resume"}),
        ("shuffle", {"neighbour_ratio", "growth_mb"}),
    ],
)
def test_the_plan_holds_its_promises(name, figures, tmp_path):
    result = module_of("data_shards.bench", name).run(tmp_path, small=True)
    assert result.ok, result
    assert set(result.figures) == figures
    assert len({tuple(row) for row in result.rows}) == 1


@pytest.mark.slow
def test_speed_times_every_reader_on_the_same_samples(tmp_path):
    result = module_of("data_shards.bench", "speed").run(tmp_path, small=True)
    figures = {"vs_webdataset", "vs_energon", "of_limit", "threads_kept", "limit_kept"}
    assert set(result.figures) == figures
    assert result.figures["vs_webdataset"] > 0
    assert [row["reader"] for row in result.rows][:4] == [
        "decode alone", "decode alone, 2 threads", "ours, 0 workers", "ours, 2 threads",
    ]  # fmt: skip


def test_swaps_even_out_what_equal_counts_leave():
    costs = [14, 10, 10, 9, 9, 9, 9, 2]  # largest first gives 14 + 9 + 9 + 2 and 38
    hands = deal([Pack(n, [], 0, cost) for n, cost in enumerate(costs)], 2)
    assert {len(hand) for hand in hands} == {4}
    assert sorted(pack.number for hand in hands for pack in hand) == list(range(8))
    assert max(sum(pack.cost for pack in hand) for hand in hands) == 36
    plan = plan_of({"text": lengths_of("text", 3000)}, packs_per_step=32)
    step = next(plan.steps())
    loads = [sum(pack.cost for pack in hand) for hand in deal(step.packs, 8)]
    least = sum(sorted(p.cost for p in step.packs)[:3]) + max(p.cost for p in step.packs)
    assert max(loads) <= 1.02 * max(least, np.mean(loads))
