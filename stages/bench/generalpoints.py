"""Reinforcement on a reduced game of cards: better on hands that were held out, or not."""

from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from data_shards.bench.result import Result

from . import reinforced

WORLD: dict[str, Any] = {"kind": "generalpoints", "answer": "formula", "cards": 3, "high": 10,
                         "target": 6, "targets": 12, "heldout": 0.25}  # fmt: skip
RULE = {"other targets": {"target": 18}}
"""another rule: no card of the game is a face card"""
STEPS, PROMPTS, ASKED, DRAWN = 100, 32, 400, 4
NEW = 24  # tokens of an answer


class Game(NamedTuple):
    """A modality of the cards: the world, what has another look, its warm-up, and its recipe's."""

    world: dict[str, Any]
    look: dict[str, dict[str, Any]]
    solved: int
    warm_up: int
    overrides: list[str]

    @property
    def train(self) -> dict[str, Any]:
        return self.world | {"split": "train"}

    @property
    def heldout(self) -> dict[str, Any]:
        return self.world | {"split": "heldout"}


GAMES = {
    "text": Game(WORLD, {"other wordings": {"wordings": 12}}, 10_000, 250, []),
}
permuted_text = reinforced.Permuted(GAMES["text"].train)


def run(folder: Path, small: bool = False, seeds: int = 1, all: bool = False) -> Result:  # noqa: A002
    """Warm up on the solver's answers, then learn from the verifier; ask hands of neither.

    The game: three cards of 1 to 10 that are to make the number that is asked for, 6 to 17. A
    quarter of the hands is held out. The recipes are generalpoints_text and its like with a small
    random Llama; a control is paid what other answers to the same prompt earn. Beside them, not
    asked for: more of the solver's answers at equal compute, to the same prompt and to several, and
    all arms where the rule or the look has changed. A score is of answers that are drawn as a
    rollout draws them, one attempt; intervals resample hands. Greedy answers are shown beside:
    their score says how often the likeliest answer is right, which reinforcement, learning from all
    that are drawn, moves less.

    Args:
        folder: of shards, models and runs.
        small: a few steps, which learn nothing: the run is ok if all of it ran.
        seeds: of models, of what they draw, and of what is drawn for them.
        all: cards that are seen and cards that are heard too, not in words alone.
    """
    rows, figures, ok = list[dict[str, Any]](), dict[str, Any](), True
    for variant, game in GAMES.items() if all else [("text", GAMES["text"])]:
        measured = [_arms(variant, folder / variant / f"seed-{seed}", seed, small)
                    for seed in range(seeds)]  # fmt: skip
        found = reinforced.added([one.found for one in measured])
        table = reinforced.rows_of(found, "held-out solved %")
        shifts = {name: game.heldout | change for name, change in (RULE | game.look).items()}
        reinforced.add_shifts(
            table, measured, {"greedy": game.heldout}, partial(_measure, small, 0)
        )
        reinforced.add_shifts(table, measured, shifts, partial(_measure, small, DRAWN))
        claim = reinforced.figures_of(found, **reinforced.costs(measured))
        ok &= small or reinforced.holds(claim)
        rows += [{"cards": variant, **row} for row in table]
        figures |= {f"{name}_{variant}" if all else name: value for name, value in claim.items()}
    return Result(ok, figures, rows)


def _arms(variant: str, folder: Path, seed: int, small: bool) -> reinforced.Measured:
    """Return what the arms of a seed score."""
    game = GAMES[variant]
    warm_up, steps = (4, 2) if small else (game.warm_up, STEPS)
    sources = reinforced.write_sources(folder, game.world, 64 if small else game.solved)
    size = (32, 1) if small else (128, 3)
    prompts = reinforced.prompts_of(reinforced.in_all_wordings(game.train))
    parameters = reinforced.write_model(folder / "model", prompts, *size, seed=seed)
    bench = reinforced.Bench(
        f"generalpoints_{variant}", folder, sources, game.train, f"{__name__}:permuted_{variant}",
        [*reinforced.settings(warm_up, steps, PROMPTS, NEW), *game.overrides], seed, parameters,
    )  # fmt: skip
    return reinforced.arms(bench, partial(_measure, small, DRAWN, world=game.heldout))


def _measure(small: bool, drawn: int, checkpoint: Path, world: dict[str, Any]) -> Any:
    return reinforced.solved(checkpoint, world, 32 if small else ASKED, NEW, drawn=drawn)
