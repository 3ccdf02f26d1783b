"""Steps that are rollouts: drawn by the model as it is, verified, and learnt from."""

import copy
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object

from data_shards.environments import Checked, EnvironmentFault
from data_shards.read.batch import Row
from data_shards.read.quarantine import TooManyBad
from omni.model.positions import positions_of

from ..engine.distribute import full_tensor
from ..objectives.base import Objective
from ..objectives.credit import soft_overlong
from ..objectives.policy import Policy
from ..recipe.rollout import RolloutConfig, rollout_of
from ..recipe.schema import Recipe, StageConfig
from ..rollouts.credit import credit
from ..rollouts.episode import Episode, Group, episodes_of, record_of
from ..rollouts.play import Play
from ..rollouts.reward import pay, reward_function
from ..rollouts.rows import Rows
from ..rollouts.server import Server
from ..rollouts.watch import Watch, examples, figures_of
from ..rollouts.world import environment_of
from .steps import Step

SHOWN = 2  # groups of a rollout of which the report has the best and the worst episode


class RolloutSteps:
    """Each rollout is `updates` steps; it follows from the weights, the seed and its number.

    What does not follow from them any more is a part of the state: the rollout that is still
    learnt from once the weights have moved, and groups that were too many for it.

    Args:
        environment: asks and verifies.
        config: how.
        processor: of the model.
        objective: says what answers are worth.
        seed: other ones draw other prompts and answers.
        accelerator: knows the ranks, which share the prompts, and all learn from all answers.
        limit: prompts and answers that may be left out before a stage ends, 0: none.
        positions: tokens that a conversation may have; 0: any.
        whole: a copy of the model that answers instead, where its own weights will be sharded over
            ranks; it gets them before each rollout.
    """

    def __init__(
        self,
        environment: Checked,
        config: RolloutConfig,
        processor: Any,
        objective: Policy,
        seed: int,
        accelerator: Accelerator,
        limit: int = 16,
        positions: int = 0,
        whole: Any = None,
    ):
        self.config, self.objective, self.seed, self.limit = config, objective, seed, limit
        self.accelerator, self.processor = accelerator, processor
        self.modalities = processor.modalities
        self.whole = whole
        # as a part of the task, what is compared with will be sharded too
        self._reference = (
            copy.deepcopy(objective.extra).to(accelerator.device)
            if whole and objective.extra else None
        )  # fmt: skip
        self.server = Server(config.server, processor) if config.server else None
        self.play = Play(environment, processor, config, positions, self.server)
        self.rows = Rows(processor, config)
        self.watch = Watch()
        self.groups: list[Group] = []
        """the rollout that is learnt from"""
        self._compared = False
        self._reward = reward_function(config.reward) if config.reward else None
        self._surplus: list[Group] = []
        self._step, self._drawn = 0, 0
        self._totals: Counter[str] = Counter()
        self._excluded: set[str] = set()

    def next(self, model: Any) -> Step:
        """Raises TooManyBad where more prompts, answers or calls fail than `limit`."""
        figures: dict[str, float] = {}
        if self._step % self.config.updates == 0:
            figures = self._roll_out(model)
        self._step += 1
        if not figures:
            return Step(self._step, self._micro())
        shown = [*islice(examples(self.processor, self.groups), SHOWN)]
        return Step(self._step, self._micro(), figures, self.watch.note(figures), shown)

    def _roll_out(self, model: Any) -> dict[str, float]:
        began, config = time.monotonic(), self.config
        if self.whole:
            model = _gathered(model, self.whole)
        if self.server:
            self.server.update(model, self.accelerator)
        drawn: list[Group] = []
        self.groups, self._surplus = (
            self._surplus[: config.prompts],
            self._surplus[config.prompts :],
        )
        for _ in range(config.rounds):
            if len(self.groups) >= config.prompts:
                break
            found = self._draw(model)
            drawn += found
            useful = found if config.rounds == 1 else [g for g in found if not g.flat]
            self.groups += useful
        self._surplus = self.groups[config.prompts :] + self._surplus
        self.groups = self.groups[: config.prompts]
        self._credit()
        figures = figures_of(drawn or self.groups, time.monotonic() - began)
        self._totals.update(rollouts=1, prompts=len(drawn), flat=sum(g.flat for g in drawn))
        return figures

    def _draw(self, model: Any) -> list[Group]:
        """Draw the next prompts, shared by the ranks chunk by chunk; each gets what all found."""
        seeds = [
            _mixed(self.seed, n) for n in range(self._drawn, self._drawn + self.config.prompts)
        ]
        number, self._drawn = self._drawn, self._drawn + self.config.prompts
        size, ranks = self.config.batch, self.accelerator.num_processes
        chunks = [seeds[n : n + size] for n in range(0, len(seeds), size)]
        mine: dict[int, list[Group]] = {}
        for n in range(self.accelerator.process_index, len(chunks), ranks):
            with self.accelerator.autocast():
                mine[n] = self.play.groups(model, chunks[n], f"{self.seed}|{number}")
                self._pay(mine[n])
                self._refer(mine[n])
                self._expect(model, mine[n])
        self._check_losses()
        if self.server and not self._compared:
            self._compared = True
            self.server.compare(self._scored(model, [g for n in sorted(mine) for g in mine[n]]))
        if ranks == 1:
            return [group for n in sorted(mine) for group in mine[n]]
        records = {n: record_of(groups) for n, groups in mine.items()}
        everyone = {n: rows for found in gather_object([records]) for n, rows in found.items()}
        return [*self._remade(row for n in sorted(everyone) for row in everyone[n])]

    def _remade(self, records: Any) -> Iterator[Group]:
        """Return the groups of records: prompts come from their seeds again."""
        for record in records:
            _, messages, prompt = self.play.prompt(record["seed"])
            yield Group(record["seed"], messages, prompt, episodes_of(record))

    def _pay(self, groups: Sequence[Group]) -> None:
        """Let the user's own function pay, and fine answers that are nearly too long."""
        for group in groups:
            if self._reward:
                state = self.play.environment.state(group.seed)
                paid = pay(self._reward, self.config.reward, group.messages, group.episodes, state)
                for episode, reward in zip(group.episodes, paid, strict=True):
                    episode.reward = reward
            for episode in group.episodes:
                last = len(episode.attempts[-1].ids)
                episode.reward += soft_overlong(last, self.config.max_new_tokens,
                                                self.objective.options.overlong_cache)  # fmt: skip

    def _scored(self, model: Any, groups: Sequence[Group]) -> list[tuple[Episode, list[float]]]:
        """Return episodes with the log-probabilities of their tokens under the model."""
        with _evaluating(model):
            return [*self.rows.score(model, groups)]

    def _refer(self, groups: Sequence[Group]) -> None:
        """Score what was drawn under the model that the stage found, where that counts."""
        reference = self._reference or self.objective.extra
        if reference is None:
            return
        options = self.objective.options
        for episode, logps in self.rows.score(reference, groups):
            episode.reference = logps
            if options.kl_in == "reward":
                away = sum(a - b for a, b in zip(episode.logps, logps, strict=True))
                episode.reward -= options.kl * away

    def _expect(self, model: Any, groups: Sequence[Group]) -> None:
        """Let the value head say what it expects of what was drawn, before it learns of it."""
        if "value" not in self.objective.needs:
            return
        with _evaluating(model):
            for episode, values in self.rows.expect(model, groups):
                episode.values = values

    def _credit(self) -> None:
        """Say what each episode is worth; leave out those that are cut, if the recipe wants it."""
        credit(self.objective, self.config, self.groups)
        if self.objective.options.overlong != "filter":
            return
        for group in self.groups:
            self._totals["filtered"] += sum(episode.cut for episode in group.episodes)
            group.episodes = [episode for episode in group.episodes if not episode.cut]

    def _check_losses(self) -> None:
        losses = self.play.losses
        lost = sum(losses.counts.values())
        if lost > self.limit:
            kind, first = next(iter(losses.first.items()))
            raise TooManyBad(f"{lost} of the prompts and answers of {self.config.kind} cannot be "
                             f"used ({kind}), the first: {first}")  # fmt: skip

    def _micro(self) -> list[Any]:
        groups = [g for g in self.groups if self.play.where(g.seed) not in self._excluded]
        ranks, rank = self.accelerator.num_processes, self.accelerator.process_index
        return self.rows.batches(groups, self._step, ranks)[rank::ranks]

    def subset(self, rows: Sequence[Row]) -> dict[str, torch.Tensor]:
        found = {group.seed: n for n, group in enumerate(self.groups)}
        return self.rows.tensors(self.groups, [found[int(row.entry.key)] for row in rows])

    def harmless(self) -> dict[str, torch.Tensor]:
        return self.processor.pack(self.rows.filler(labels=True))

    def exclude(self, source: str, where: str, step: int, reason: str) -> None:
        self._excluded.add(where)

    def again(self, step: Step) -> Step:
        return step._replace(micro=self._micro())

    def finish(self) -> dict[str, int]:
        lost = {f"lost.{name}": n for name, n in self.play.losses.counts.items()}
        return {f"rollout.{name}": n for name, n in (self._totals | lost).items()}

    def close(self) -> None:
        pass

    def state_dict(self) -> dict[str, Any]:
        """Return what does not follow from weights, seed and step: json."""
        going = self._step % self.config.updates
        return {
            "step": self._step, "drawn": self._drawn, "totals": dict(self._totals),
            "watch": self.watch.state(), "lost": dict(self.play.losses.counts),
            "first": self.play.losses.first, "surplus": record_of(self._surplus),
            "groups": record_of(self.groups) if going else [],
        }  # fmt: skip

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where `state` was taken.

        Raises:
            ValueError: the environment asks something else by now.
        """
        self._step, self._drawn = state["step"], state["drawn"]
        self._totals, self.watch = Counter(state["totals"]), Watch(**state["watch"])
        self.play.losses.counts, self.play.losses.first = Counter(state["lost"]), state["first"]
        try:
            self.groups = [*self._remade(state["groups"])]
            self._surplus = [*self._remade(state["surplus"])]
        except EnvironmentFault as error:
            raise ValueError(f"the rollout cannot be gone on with: {error}") from error


def make_rollouts(
    recipe: Recipe,
    stage: StageConfig,
    model: Any,
    processor: Any,
    objective: Objective,
    accelerator: Accelerator,
) -> RolloutSteps:
    """Make the steps of a stage that learns from its own answers."""
    config = rollout_of(stage.rollout)
    assert isinstance(objective, Policy)
    sharded = recipe.sharding != "none" and accelerator.num_processes > 1
    whole = copy.deepcopy(model).requires_grad_(False) if sharded else None
    return RolloutSteps(
        environment_of(config), config, processor, objective, recipe.seed, accelerator,
        recipe.max_offenders, positions_of(model.config.text_config) or 0,
        whole and whole.to(accelerator.device),
    )  # fmt: skip


@torch.no_grad()
def _gathered(model: Any, whole: Any) -> Any:
    """Give a copy the weights of a model, of which this rank has a share; a collective."""
    for parts in ("named_parameters", "named_buffers"):
        held = dict(getattr(whole, parts)())
        for name, tensor in getattr(model, parts)():
            held[name].copy_(full_tensor(tensor.detach()))
    return whole


@contextmanager
def _evaluating(model: Any) -> Iterator[None]:
    """Let a model be in evaluation mode, and then in the mode that it was in."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)


def _mixed(seed: int, number: int) -> int:
    """Return the seed of a prompt: other recipes' seeds ask others."""
    return (seed * 1_000_003 + number) % 2**31
