"""The plan is a pure function: any state continues it, and its promises hold at every prefix."""

import json
from collections import Counter
from itertools import islice
from types import SimpleNamespace

import numpy as np
import pytest

from data_shards.plan.plan import Plan, PlanConfig, deal


class Index:
    """As much of an index as the plan reads."""

    def __init__(self, count: int, shards: int = 10, digest: str = "h"):
        self.hash = digest
        self.samples = np.zeros(count, [("shard", "u4")])
        self.samples["shard"] = np.arange(count) * shards // count

    def __len__(self) -> int:
        return len(self.samples)


def lengths(tokens, patches=0, frames=0):
    tokens = np.asarray(tokens, "u4")
    return SimpleNamespace(
        tokens=tokens,
        patches=np.broadcast_to(np.asarray(patches, "u4"), tokens.shape),
        frames=np.broadcast_to(np.asarray(frames, "u4"), tokens.shape),
    )


def omni(count: int, seed: int = 0, mean: int = 700):
    """Long-tailed lengths; half of the samples have a picture, a third a clip."""
    rng = np.random.default_rng(seed)
    tokens = np.clip(rng.lognormal(np.log(mean) - 0.5, 1.0, count), 8, 8000)
    patches = (rng.random(count) < 0.5) * 576
    return lengths(tokens, patches, (rng.random(count) < 0.3) * rng.integers(50, 1500, count))


PICTURES = np.random.default_rng(3).choice([0, 576, 2304], 6000, p=[0.3, 0.6, 0.1])
COUNTS = {"a": 700, "b": 150, "c": 2000}


def make(**changes) -> Plan:
    settings = {"mixture": {"a": 0.5, "b": 0.3, "c": 0.2}, "max_tokens": 8192, "packs_per_step": 3}
    config = PlanConfig(**settings | changes)
    sources = {n: Index(k) for n, k in COUNTS.items()}
    return Plan(sources, config, {n: omni(k, seed) for seed, (n, k) in enumerate(COUNTS.items())})


def items(steps):
    return [item for step in steps for pack in step.packs for item in pack.items]


VARIANTS = {
    "tokens": {"by": "tokens"},
    "samples": {"max_tokens": None, "max_samples": 8, "max_length": 8000},
    "all caps": {"max_samples": 20, "max_patches": 4000, "max_frames": 6000, "window": 64},
    "split": {"max_length": 300, "overlong": "split", "window": 8},
    "windows of shards": {"shuffle_shards": 3},
    "schedule": {"mixture": {"a": {0: 1, 7: 0.2}, "b": {7: 0.8}}},
}


@pytest.mark.parametrize("changes", VARIANTS.values(), ids=VARIANTS)
def test_any_state_continues_the_plan(changes):
    whole = list(islice(make(**changes).steps(), 40))
    for at in (0, 1, 6, 7, 8, 23, 38):
        text = json.dumps(whole[at].state_after)
        assert len(text) < 16_000
        rest = list(islice(make(**changes).steps(json.loads(text)), 39 - at))
        assert [s.packs for s in rest] == [s.packs for s in whole[at + 1 :]]
        assert rest[-1].state_after == whole[-1].state_after


@pytest.mark.parametrize("changes", VARIANTS.values(), ids=VARIANTS)
def test_every_epoch_delivers_every_sample_once(changes):
    steps = list(islice(make(**changes).steps(), 300))
    state = steps[-1].state_after
    delivered = Counter((i.source, i.row, i.piece) for i in items(steps))
    waiting = Counter()
    for _, number, row, piece in zip(*state["window"], strict=True):
        waiting["abc"[number] if "c" in state["sources"] else "ab"[number], row, piece] += 1
    for name, counts in state["sources"].items():
        epochs, rest = divmod(counts["position"], COUNTS[name])
        seen = Counter()
        for (source, row, piece), n in (delivered + waiting).items():
            if source == name and not piece:
                seen[row] += n
        assert counts["skipped"] == 0
        assert set(seen.values()) <= {epochs, epochs + 1}
        assert sum(n > epochs for n in seen.values()) == rest


def test_another_seed_is_another_plan():
    assert next(make().steps()).packs == next(make().steps()).packs
    assert next(make(seed=1).steps()).packs != next(make().steps()).packs


def test_the_order_is_fixed_for_ever():
    """A checkpoint may be resumed under another version of numpy: these rows must not change."""
    plan = Plan({"a": Index(10)}, PlanConfig({"a": 1}, max_samples=10), {"a": lengths([1] * 10)})
    steps = islice(plan.steps(), 2)
    assert [[i.row for i in s.packs[0].items] for s in steps] == [
        [9, 0, 8, 7, 5, 2, 3, 4, 6, 1],
        [6, 5, 3, 8, 0, 9, 4, 2, 7, 1],
    ]


@pytest.mark.parametrize(
    ("tokens", "limit"),
    [
        (omni(6000).tokens, 8192),
        (PICTURES + np.random.default_rng(1).integers(10, 400, 6000), 4096),  # 0, 1 or 4 pictures
        (np.random.default_rng(2).integers(3, 60, 9000), 2048),  # more a pack than the window
    ],
)
def test_little_is_padding_and_nothing_waits_longer_than_the_window(tokens, limit):
    def rows(**changes):
        config = PlanConfig({"a": 1}, packs_per_step=1, **changes)
        return Plan({"a": Index(len(tokens))}, config, {"a": lengths(tokens)}).steps()

    drawn = [i.row for i in items(islice(rows(max_samples=1, max_length=limit), len(tokens)))]
    at = {row: n for n, row in enumerate(drawn)}
    count = int(tokens.sum() * 0.9 / limit)
    before, waste, oldest = 0, [], 0
    left = set(range(len(drawn)))
    for step in islice(rows(max_tokens=limit), count):
        [pack] = step.packs
        assert pack.tokens == sum(int(tokens[i.row]) for i in pack.items) <= limit
        taken = {at[i.row] for i in pack.items}
        assert min(left) == at[pack.items[0].row]
        assert all(before - n <= 256 for n in taken)
        left -= taken
        before = step.after.drawn
        waste.append(1 - pack.tokens / limit)
        oldest = max(oldest, before - min(left))
    assert oldest <= 256
    assert np.mean(waste) <= 0.01


def test_caps_hold():
    caps = VARIANTS["all caps"]
    for step in islice(make(**caps).steps(), 100):
        for pack in step.packs:
            assert 0 < len(pack.items) <= 20
            assert sum(i.tokens for i in pack.items) <= 8192
            assert sum(i.patches for i in pack.items) <= 4000
            assert sum(i.frames for i in pack.items) <= 6000


def test_without_max_tokens_packs_are_consecutive_draws():
    plan = VARIANTS["samples"]
    eights = items(islice(make(**plan).steps(), 20))
    ones = items(islice(make(**plan | {"max_samples": 1}).steps(), 160))
    assert eights == ones
    assert {len(p.items) for s in islice(make(**plan).steps(), 9) for p in s.packs} == {8}


@pytest.mark.parametrize("weights", [(1, 1), (1e-3, 1), (0.7, 0.2, 0.1), (3, 1, 0.5, 0.5, 2)])
@pytest.mark.parametrize("by", ["samples", "tokens"])
def test_weights_hold_at_every_prefix(weights, by):
    names = "abcde"[: len(weights)]
    config = PlanConfig(dict(zip(names, weights, strict=True)), by, max_samples=1, max_length=9000)
    sources = {n: Index(1000) for n in names}
    plan = Plan(sources, config, {n: omni(1000, seed) for seed, n in enumerate(names)})
    shares = {n: w / sum(weights) for n, w in zip(names, weights, strict=True)}
    got = Counter()
    for item in items(islice(plan.steps(), 10_000)):
        got[item.source] += 1 if by == "samples" else item.tokens
        most = 1 if by == "samples" else 8000  # one sample
        for name, share in shares.items():
            assert abs(got[name] - share * got.total()) <= most, (name, got)


def test_weights_change_at_their_step():
    config = {"mixture": {"a": {0: 1, 10: 0.25}, "b": {10: 0.75}}, "max_tokens": None}
    plan = make(**config, max_samples=8, max_length=8000)
    names = [Counter(i.source for i in items([s])) for s in islice(plan.steps(), 60)]
    assert all(set(n) == {"a"} for n in names[:10])
    late = sum(names[10:], Counter())
    assert late["b"] / late.total() == pytest.approx(0.75, abs=1e-3)


@pytest.mark.parametrize(
    ("policy", "found"),
    [
        ("skip", {"skipped": 3, "truncated": 0, "split": 0}),
        ("truncate", {"skipped": 1, "truncated": 2, "split": 0}),
        ("split", {"skipped": 1, "truncated": 1, "split": 1}),
    ],
)
def test_overlong_samples_are_counted(policy, found):
    """Row 0 fits, 1 is long text, 2 is long with a picture, 3 has more pictures than a pack."""
    of = lengths([50, 250, 250, 50], [0, 0, 10, 99])
    config = PlanConfig({"a": 1}, max_tokens=100, max_patches=20, overlong=policy, window=4)
    plan = Plan({"a": Index(4)}, config, {"a": of})
    assert {k: len(rows) for k, rows in plan.fates("a").items()} == found
    *_, last = islice(plan.steps(), 50)
    counts = last.state_after["sources"]["a"]
    epochs = counts["position"] // 4
    assert epochs > 5
    assert all(epochs * n <= counts[k] <= (epochs + 1) * n for k, n in found.items())
    pieces = {(i.row, i.piece, i.tokens) for s in islice(plan.steps(), 20) for i in items([s])}
    expected = {(0, 0, 50)}
    if policy != "skip":
        expected |= {(1, 0, 100), (2, 0, 100)}
    if policy == "split":
        expected |= {(1, 1, 100), (1, 2, 50)}
    assert pieces == expected


def test_windows_of_shards_bound_what_is_open():
    plan = make(shuffle_shards=3, mixture={"c": 1}, max_tokens=None, max_samples=1, max_length=9000)
    rows = [i.row for i in items(islice(plan.steps(), 2000))][: COUNTS["c"]]
    shards = [row * 10 // COUNTS["c"] for row in rows]
    windows = [set(shards[at : at + 600]) for at in range(0, 2000, 600)]
    assert [len(w) for w in windows] == [3, 3, 3, 1]
    assert sorted(rows) == list(range(2000))
    neighbours = np.mean(np.diff(shards[:600]) == 0)
    assert neighbours == pytest.approx(1 / 3, abs=0.06)


def test_ranks_get_equally_many_packs_of_nearly_equal_cost():
    plan, spread = make(packs_per_step=32), []
    for step in islice(plan.steps(), 30):
        hands = deal(step.packs, 8)
        assert {len(hand) for hand in hands} == {4}
        assert sorted(p.number for hand in hands for p in hand) == [p.number for p in step.packs]
        loads = [sum(p.cost for p in hand) for hand in hands]
        spread.append(max(loads) / np.mean(loads) - 1)
    assert np.mean(spread) <= 0.03
    with pytest.raises(ValueError, match=r"32 packs .* cannot be assigned equally to 5 ranks"):
        deal(step.packs, 5)


@pytest.mark.parametrize(
    ("changes", "field"),
    [({"seed": 1}, "seed"), ({"window": 9}, "window"), ({"packs_per_step": 4}, "packs_per_step"),
     ({"mixture": {"a": 0.5, "b": 0.5}}, "mixture"), ({"by": "tokens"}, "by")],
)  # fmt: skip
def test_a_mismatch_names_the_field(changes, field):
    state = next(make().steps()).state_after
    with pytest.raises(ValueError, match=f"'{field}' was"):
        next(make(**changes).steps(state))


def test_other_data_or_lengths_are_a_mismatch():
    config = PlanConfig({"a": 1}, max_samples=2)
    state = next(Plan({"a": Index(9)}, config, {"a": lengths([5] * 9)}).steps()).state_after
    other = Plan({"a": Index(9, digest="g")}, config, {"a": lengths([5] * 9)})
    with pytest.raises(ValueError, match=r"'index\.a' was 'h' in the checkpoint and is 'g' now"):
        next(other.steps(state))
    other = Plan({"a": Index(9)}, config, {"a": lengths([5] * 8 + [6])})
    with pytest.raises(ValueError, match=r"'lengths\.a' was"):
        next(other.steps(state))


WRONG = [
    ({"mixture": {"a": 1, "z": 1}}, "names 'z'; there are: a, b, c"),
    ({"mixture": {"a": -1}}, "'a': 0: -1 is no from_step: weight >= 0"),
    ({"mixture": {"a": {5: 1}}}, "no weight above 0 at step 0"),
    ({"mixture": {}}, "no weight above 0 at step 0"),
    ({"max_tokens": None}, "a pack needs a limit"),
    ({"max_length": 9000}, "max_length 9000 does not fit into a pack of 8192 tokens"),
    ({"window": 0}, "window must be at least 1"),
    ({"by": "bytes"}, "use samples or tokens"),
    ({"overlong": "drop"}, "use skip, truncate or split"),
    ({"max_length": 4}, "'a': every one of its 700 samples is longer"),
]


@pytest.mark.parametrize(("changes", "reason"), WRONG)
def test_wrong_settings_are_errors(changes, reason):
    with pytest.raises(ValueError, match=reason):
        make(**changes)
