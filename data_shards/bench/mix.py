"""Realised weights of a mixture at every prefix, and whether a resume changes a draw."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ..plan.plan import Plan
from .lengths import lengths_of, plan_of, stored
from .result import Result

SHARES = {"text": 0.45, "pictures": 0.3, "everything": 0.1999, "rare": 0.05, "rarest": 0.0001}
LATER = {"text": 0.1, "pictures": 0.1, "everything": 0.1, "rare": 0.3, "rarest": 0.4}
FIRST = 1000  # from how many draws on a prefix is judged
STEP = 10  # draws


def run(folder: Path, small: bool = False) -> Result:
    """Draw three mixtures: by samples, by tokens, and with weights that change on the way."""
    count = 2000 if small else 10_000
    change = {name: {0: SHARES[name], count // STEP // 2: LATER[name]} for name in SHARES}
    rows = [
        _mixture("by samples", count, SHARES, [(0, SHARES)]),
        _mixture("by tokens", count, SHARES, [(0, SHARES)], by="tokens"),
        _mixture("changed half way", count, change, [(0, SHARES), (count // 2, LATER)]),
    ]
    same = all(row["same after resumes"] for row in rows)
    error = max(row["max error"] for row in rows if row["mixture"] != "by tokens")
    # by tokens a prefix cannot be nearer to its weights than the sizes of single samples allow
    off = rows[1]["largest samples off"]
    figures = {"max_error": error, "tokens_off_in_samples": off, "same_after_resume": same}
    return Result(error <= 0.001 and off <= 2 and same, figures, rows)


def _mixture(
    name: str,
    count: int,
    mixture: Any,
    due: list[tuple[int, dict[str, float]]],
    by: str = "samples",
) -> dict[str, Any]:
    # sources of other sizes, so that each repeats at other times
    lengths = {source: lengths_of("everything", 300 + 1000 * n) for n, source in enumerate(SHARES)}
    plan = plan_of(lengths, mixture=mixture, by=by, max_tokens=None, max_samples=STEP,
                   max_length=8192)  # fmt: skip
    whole = _draws(plan, count)
    names = list(SHARES)
    drawn = np.zeros((count, len(names)))  # what each draw gave to each source
    for n, (source, _, tokens) in enumerate(whole):
        drawn[n, names.index(source)] = tokens if by == "tokens" else 1
    errors, off = [], 0.0
    for n, (first, shares) in enumerate(due):
        last = due[n + 1][0] if n + 1 < len(due) else count
        total = np.cumsum(drawn[first:last], axis=0)
        due_now = total.sum(1, keepdims=True) * np.array([shares[source] for source in names])
        error = np.abs(total - due_now)
        off = max(off, float(error.max()) / drawn.max())
        errors.append((error / total.sum(1, keepdims=True))[min(FIRST, len(error)) - 1 :].max())
    return {
        "mixture": name,
        "draws": count,
        "max error": round(float(max(errors)), 6),
        "largest samples off": round(float(off), 2),
        "same after resumes": _resumed(plan, count) == whole,
    }


def _draws(plan: Plan, count: int) -> list[tuple[str, int, int]]:
    return [draw for _, draws in _steps(plan, None, count // STEP) for draw in draws]


def _steps(plan: Plan, state: Any, steps: int) -> Iterator[tuple[dict[str, Any], list[Any]]]:
    for step, _ in zip(plan.steps(state), range(steps), strict=False):
        yield step.state_after, [(i.source, i.row, i.tokens) for p in step.packs for i in p.items]


def _resumed(plan: Plan, count: int) -> list[tuple[str, int, int]]:
    """Draw with a stop after every few steps, each time from the state alone."""
    rng, done, found, state = np.random.default_rng(0), 0, [], None
    while done < count // STEP:
        steps = min(int(rng.integers(1, 60)), count // STEP - done)
        for after, draws in _steps(plan, state and stored(state), steps):
            found += draws
            last = after
        state, done = last, done + steps
    return found
