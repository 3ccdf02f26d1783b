"""What benches of reinforcement share: the arms of a run, and what they score.

Every arm begins with the same warm-up. One learns from what the verifier pays, the control from
what other answers to the same prompt were paid, others go on with the solver's answers.
"""

import json
import math
import shutil
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from accelerate import Accelerator

from data_shards.environments import Checked, make_environment
from data_shards.environments.source import WORLDS
from data_shards.shards.write import write_shards
from data_shards.sources.base import Build
from eval.scoring.statistics import compare, interval, score
from omni.generation.answer import answer
from omni.generation.settings import Generation
from omni.load import load
from omni.processing.messages import bind

from ..recipe.read import load_recipe
from ..recipe.schema import Recipe, StageConfig
from ..training.chain import run_recipe
from ..training.checkpoint import DONE

MOST_PARAMETERS = 30e6
START, GAIN, CONTROL = (10.0, 40.0), 10.0, 3.0  # percent, and points
SECONDS = 480
ASKED = 64  # prompts at once
ROW = 1024  # tokens of a micro-batch: on a CPU, attention over a long row costs more than its parts
FIRST = 10**6  # seed of the first state that is asked about; training has others
ARMS = {"warm-up": "warm_up", "verifier": "rl", "permuted": "rl", "sft": "sft",
        "diverse sft": "sft_diverse"}  # fmt: skip
"""an arm -> its stage; the recipe of lengths has no supervised ones"""
WORDINGS = {"generalpoints": 12, "navigation": 4}
Tallies = dict[str, list[list[float]]]


class Bench(NamedTuple):
    """A shipped recipe of a warm-up, a stage of reinforcement and arms beside it, made small.

    `environment` is what all learn from, `sources` has folders of its solutions, by the recipe's
    names; `control` is the "module:function" that pays the control, `overrides` whatever else
    differs from the recipe, `folder` where the model and the runs are.
    """

    recipe: str
    folder: Path
    sources: Mapping[str, Path]
    environment: Mapping[str, Any]
    control: str
    overrides: Sequence[str]
    seed: int
    parameters: int

    def train(self, run: str, control: bool = False) -> Path:
        """Run what the recipe has, but for stages that are there; return the run's folder.

        Its arms of supervised training get as many steps as have the compute of reinforcement.

        Args:
            run: its name.
            control: whether `control` pays; there are no arms beside it then.
        """
        recipe = self._recipe(run)
        [at] = [number for number, stage in enumerate(recipe.stages) if stage.rollout]
        warm_up, rl = recipe.stages[at - 1 : at + 1]
        rl.rollout["environment"] = dict(self.environment)
        for arm in recipe.stages[at + 1 :]:
            arm.trainable, arm.data = (
                warm_up.trainable,
                replace(warm_up.data, mixture=arm.data.mixture),
            )
            arm.steps = _equal_steps(rl, warm_up)
        if control:
            rl.rollout["reward"], recipe.stages = self.control, recipe.stages[: at + 1]
        return _run(recipe)

    def _recipe(self, run: str) -> Recipe:
        return load_recipe(self.recipe, [
            f"output={self.folder / run}", f"text={self.folder / 'model'}", "precision=fp32",
            "trackers=[]", "save_seconds=1e9", f"seed={self.seed}",
            *(f"sources.{name}=[{shards}/train-*.tar]" for name, shards in self.sources.items()),
            *self.overrides,
        ])  # fmt: skip


def _equal_steps(rl: StageConfig, sft: StageConfig) -> int:
    """Return how many steps of supervised training take the compute of a stage of reinforcement.

    What is drawn costs a forward pass, a third of what learning from it does.
    """
    answers = rl.rollout["prompts"] * rl.rollout["group"] * rl.steps
    samples = int(sft.data.batch_size or 1) * sft.data.accumulate  # of a step
    return math.ceil(answers / samples * 4 / 3)


def _run(recipe: Recipe) -> Path:
    with redirect_stdout(sys.stderr):
        run_recipe(recipe, Accelerator(cpu=True))
    return Path(recipe.output)


class Measured(NamedTuple):
    """What was measured of each arm, their checkpoints, and what the first two took of a model."""

    found: dict[str, Any]
    checkpoints: dict[str, Path]
    seconds: float
    parameters: int


def arms(bench: Bench, measure: Callable[[Path], Any]) -> Measured:
    """Train with the verifier, with its rewards permuted, and with more of the solver's answers.

    Args:
        bench: what is trained.
        measure: takes a checkpoint; called with that of each arm, see `ARMS`.
    """
    run, control = bench.train("verifier"), bench.folder / "permuted"
    before = [name for name in ("words", "warm_up") if (run / name).is_dir()]
    for name in before:
        shutil.copytree(run / name, control / name, dirs_exist_ok=True)
    bench.train("permuted", control=True)
    checkpoints = {name: (control if name == "permuted" else run) / stage
                   for name, stage in ARMS.items()}  # fmt: skip
    checkpoints = {name: path for name, path in checkpoints.items() if path.is_dir()}
    found = {name: measure(path) for name, path in checkpoints.items()}
    done = [json.loads((run / name / DONE).read_text()) for name in (*before, "rl")]
    seconds = sum(stage["seconds"] for stage in done)
    return Measured(found, checkpoints, seconds, bench.parameters)


def settings(warm_up: int, steps: int, prompts: int, new_tokens: int) -> list[str]:
    """Return the overrides of a small random Llama's recipe, in steps, prompts and tokens.

    The divergence, rewards that are scaled over the whole rollout and a rate that falls are for the
    control: without, 100 steps of permuted rewards leave nothing of a policy.
    """
    return [
        "stages.warm_up.trainable={language_model: 2.0e-3}", f"stages.warm_up.steps={warm_up}",
        # short rows: on a CPU, attention over a long one costs more than its parts
        "stages.warm_up.data.batch_size=8", "stages.warm_up.data.accumulate=8",
        "stages.rl.trainable={language_model: 2.0e-4}", f"stages.rl.steps={steps}",
        "stages.rl.final_lr=0.1", "stages.rl.objective.kl=0.1",
        "stages.rl.objective.advantage=batch", f"stages.rl.rollout.prompts={prompts}",
        f"stages.rl.rollout.batch={prompts}", f"stages.rl.rollout.max_tokens={ROW}",
        f"stages.rl.rollout.max_new_tokens={new_tokens}",
    ]  # fmt: skip


def costs(measured: Sequence[Measured]) -> dict[str, int]:
    """Return how many seeds there are, how large a model is, and the most seconds of a seed."""
    return {"seeds": len(measured), "parameters": measured[0].parameters,
            "seconds": round(max(one.seconds for one in measured))}  # fmt: skip


def added(found: Sequence[Mapping[str, Tallies]]) -> dict[str, Tallies]:
    """Return the arms of all seeds as one: what is resampled, such as a hand, has all of theirs."""
    arms = dict[str, Tallies]()
    for name in found[0]:
        units = {unit for one in found for unit in one[name]}
        arms[name] = {unit: [np.sum([one[name].get(unit, [[0.0, 0.0]]) for one in found], 0)[0]
                             .tolist()] for unit in sorted(units)}  # fmt: skip
    return arms


def figures_of(found: Mapping[str, Tallies], **more: Any) -> dict[str, Any]:
    """Return what a claim is about: the start, what both arms gain, and how sure that is."""
    gains = {arm: compare(found[arm], found["warm-up"]) for arm in ("verifier", "permuted")}
    return {
        "units": len(found["warm-up"]), "start": round(score(found["warm-up"]), 1),
        "gain": round(gains["verifier"].score, 1), "at_least": round(gains["verifier"].low, 1),
        "control": round(gains["permuted"].score, 1), **more,
    }  # fmt: skip


def holds(figures: Mapping[str, Any]) -> bool:
    """Whether the start leaves room, the verifier's arm gains and the control does not, in time."""
    return (START[0] <= figures["start"] <= START[1] and figures["gain"] >= GAIN
            and figures["at_least"] > 0 and abs(figures["control"]) < CONTROL
            and figures["seconds"] <= SECONDS
            and figures["parameters"] <= MOST_PARAMETERS)  # fmt: skip


def rows_of(found: Mapping[str, Tallies], what: str) -> list[dict[str, Any]]:
    """Return a table of scores with their intervals, and how far each is above the warm-up."""
    rows = []
    for name, tallies in found.items():
        row = {"arm": name, what: _cell(tallies), "gain": ""}
        if name != "warm-up":
            gain = compare(tallies, found["warm-up"])
            row["gain"] = f"{gain.score:+.1f} ({gain.low:+.1f} to {gain.high:+.1f})"
        rows.append(row)
    return rows


def add_shifts(
    rows: Iterable[dict[str, Any]], measured: Sequence[Measured], worlds: Mapping[str, Any],
    measure: Callable[[Path, Any], Tallies],
) -> None:  # fmt: skip
    """Add a column for each world that differs from that of the training, over all seeds."""
    for row in rows:
        arm = row["arm"]
        for name, world in worlds.items():
            found = [{arm: measure(one.checkpoints[arm], world)} for one in measured]
            row[f"{name} %"] = _cell(added(found)[arm])


def _cell(tallies: Tallies) -> str:
    low, high = interval(tallies)
    return f"{score(tallies):.1f} ({low:.1f} to {high:.1f})"


def write_sources(folder: Path, world: Mapping[str, Any], count: int) -> dict[str, Path]:
    """Write the recipe's sources: solutions, and the same to prompts in all wordings there are."""
    worlds = {"solutions": world, "diverse": in_all_wordings(world)}
    return {name: write_solutions(folder / name, one, count) for name, one in worlds.items()}


def in_all_wordings(world: Mapping[str, Any]) -> dict[str, Any]:
    """Return a world that asks in as many ways as it knows."""
    return {**world, "wordings": WORDINGS[world["kind"]]}


def write_solutions(folder: Path, world: Mapping[str, Any], count: int) -> Path:
    """Write what training may see of a world, with the solver's answers; return the folder."""
    options = {name: value for name, value in world.items()
               if name not in ("kind", "heldout", "split", "attempts")}  # fmt: skip
    made: Any = WORLDS[world["kind"]]
    build = Build(seed=0, heldout=world["heldout"])
    write_shards(made(count=count, **options).generate(build), folder)
    return folder


def prompts_of(world: Mapping[str, Any], count: int = 64) -> list[str]:
    """Return the texts of some prompts of a world."""
    environment = make_environment(world)
    states = (environment.state(seed) for seed in range(count))
    return [part["text"] for state in states for message in environment.prompt(state)[0]
            for part in message["content"] if part["type"] == "text"]  # fmt: skip


def solved(
    checkpoint: Path, world: Mapping[str, Any], count: int, new_tokens: int,
    every_step: bool = False, drawn: int = 0,
) -> Tallies:  # fmt: skip
    """Answer the prompts of so many states: identity -> (right, asked).

    What states have in common, such as a hand in any order, is the unit that is resampled.

    Args:
        checkpoint: that answers.
        world: that asks.
        count: of states.
        new_tokens: most of an answer.
        every_step: ask about all steps of each state, as the solver takes them.
        drawn: answers to each prompt, drawn as rollouts draw them, at temperature 1; 0: a greedy
            one.
    """
    how = Generation(max_new_tokens=new_tokens)
    if drawn:
        how = replace(how, temperature=1.0, n=drawn)
    model, processor = load(checkpoint)
    environment, found = make_environment(world), dict[str, list[list[float]]]()
    inner: Any = environment.world
    states = [state for seed in range(FIRST, FIRST + count)
              for state in _steps(environment, seed, every_step)]  # fmt: skip
    for n in range(0, len(states), ASKED):
        some = states[n : n + ASKED]
        asked = [bind(*environment.prompt(state)) for state in some]
        given = answer(model, processor, asked, how)
        for k, text in enumerate(given):
            state = some[k // how.n]
            hit = float(environment.verify(state, text).success)
            found.setdefault(inner.identity(state), []).append([hit, 1.0])
    return {unit: [np.sum(pairs, 0).tolist()] for unit, pairs in found.items()}


def _steps(environment: Checked, seed: int, every_step: bool) -> Iterable[dict[str, Any]]:
    state = environment.state(seed)
    while True:
        yield state
        after = environment.advance(state, environment.solution(state))
        if not every_step or after == state:
            return
        state = after


class Permuted:
    """Pays the answers of a group what others of it earn, drawn at random: a control."""

    def __init__(self, world: Mapping[str, Any]):
        self.world = world

    def __call__(self, completions: Any, seed: Sequence[int], **columns: Any) -> list[float]:
        environment = make_environment(self.world)
        state = environment.state(seed[0])
        texts = [given[0]["content"] for given in completions]
        return permuted([environment.verify(state, text).reward for text in texts], seed[0])


def permuted(paid: Sequence[float], seed: int) -> list[float]:
    """Return rewards in another order, which follows from a seed."""
    rng = np.random.default_rng([seed, len(paid)])
    return [paid[n] for n in rng.permutation(len(paid))]
