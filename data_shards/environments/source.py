"""Shards of a world: its prompts with the solver's answers, and the states to verify others by."""

from collections.abc import Iterator
from dataclasses import MISSING, fields, make_dataclass
from itertools import count as numbered
from typing import Annotated, Any, ClassVar, get_type_hints

from omni.entry import EntryError
from omni.processing.messages import assistant

from ..shards.sample import Sample
from ..sources.base import Build, SourceError, digest, facts
from . import ENVIRONMENTS, environment_class, environment_note, make_environment
from .base import Checked, EnvironmentFault, State

LICENCE = "Apache-2.0"
# a build has its own split, and all steps of a route; attempts are a rollout's
SPLIT = ("split", "heldout", "attempts", "begin")


class World:
    """What the sources of all worlds do; each is a dataclass with the options of its world."""

    count: int
    """of training prompts; a world of several steps may end a little above"""
    name: ClassVar[str]
    licenses: ClassVar[dict[str, str]]

    def generate(self, build: Build) -> Iterator[Sample]:
        """Yield samples of both splits, which have no identity in common.

        Which identities are held out depends on them and the share alone, so that `omni-eval
        --suite ood` with the same share asks for what was not trained on.
        """
        number: int = self.count
        if number < 1:
            raise SourceError(f"--count {number}: give the number of training prompts, from 1")
        wanted = {"train": number, "heldout": round(number * build.heldout / (1 - build.heldout))}
        build.total = sum(wanted.values())
        for split, many in wanted.items():
            if many:
                world = self._world(split, build.heldout)
                yield from self._samples(world, split, many, build)

    def _world(self, split: str, share: float) -> Checked:
        given = {option.name: getattr(self, option.name)
                 for option in fields(self) if option.name != "count"}  # type: ignore[arg-type] # fmt: skip
        try:
            return make_environment({**given, "kind": self.name, "split": split, "heldout": share})
        except EntryError as error:
            raise SourceError(f"{self.name}: {error}") from error

    def _samples(self, world: Checked, split: str, many: int, build: Build) -> Iterator[Sample]:
        made = 0
        for number in numbered():
            state: State | None = self._state(world, digest(build.seed, split, number) >> 16)
            while state is not None:
                sample, after = self._sample(world, state, split, build)
                yield sample
                made += 1
                state = after
            if made >= many:
                return

    def _state(self, world: Checked, seed: int) -> State:
        try:
            return world.state(seed)
        except EnvironmentFault as error:  # options that no state can have
            raise SourceError(str(error)) from error

    def _sample(
        self, world: Checked, state: State, split: str, build: Build
    ) -> tuple[Sample, State | None]:
        """Return the sample of a state, and the state of the next step, None at the end."""
        inner: Any = world.world
        messages, media = world.prompt(state)
        answer = world.solution(state)
        licence = inner.licence(state) if hasattr(inner, "licence") else LICENCE
        known = build.licenses.setdefault(self.name, licence)
        if licence not in known.split(" AND "):  # voices have licences of their own
            build.licenses[self.name] = f"{known} AND {licence}"
        meta = facts(self.name, licence, "environment", answer=answer,
                     identity=inner.identity(state),
                     environment=environment_note(world, state))  # fmt: skip
        after = world.advance(state, answer)
        sample = Sample([*messages, assistant(answer)], media, meta, split=split)
        return sample, after if after != state else None


def _source(kind: str) -> type[World]:
    """Make the source of a world: `count`, and the world's options with their help."""
    world: Any = environment_class(kind)
    hints = get_type_hints(world, include_extras=True)
    number = ("count", Annotated[int, "training prompts"], 1000)
    options = [(option.name, hints[option.name], option.default)
               for option in fields(world) if option.name not in SPLIT]  # fmt: skip
    assert all(default is not MISSING for *_, default in options)
    about = {"name": kind, "licenses": {}, "__doc__": world.__doc__, "__module__": __name__}
    return make_dataclass(
        f"{world.__name__}World", [number, *options], bases=(World,), namespace=about
    )


WORLDS: dict[str, type[World]] = {kind: _source(kind) for kind in ENVIRONMENTS}
"""the commands `omni-shards build KIND`"""
