"""Worlds as training had them, and shifted: other rules, other looks, on the same states."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import yaml

from data_shards.environments import Checked, EnvironmentFault, make_environment, revised
from data_shards.environments.base import State
from omni.generation.settings import Generation
from omni.processing.identity import identify
from omni.processing.messages import bind

from ..answering.answerer import Answerer, Messages
from ..rows.own import CONTROLLED, SEED, Doc, MissingDataError, Own, apply_condition
from ..scoring.right import Outcome, Scored, majority, proportion
from ..scoring.statistics import interval

DOCS, TRIES = 100, 10  # prompts of a row, and states tried for each that is new
ROUTES = 20  # of a world with several steps
MOST = {"json": 256, "formula": 64, "action": 32}  # new tokens; json as published
KIND = "generalpoints"
CONTROLS = {"image": ("blind", "shuffled_images"), "spoken": ("shuffled_audio",)}


@dataclass(frozen=True)
class World:
    """The source of all docs: they are made from seeds."""

    label: str
    digest: str


@dataclass
class StateDoc(Doc):
    """A prompt, and the state that verifies its answers."""

    state: State | None = None


@dataclass(frozen=True)
class WorldRow(Own):
    """Prompts of a world, right where one of its `attempts` answers is."""

    world: Callable[[], Checked] = lambda: make_environment(KIND)

    def outcomes(
        self, answerer: Answerer, docs: Sequence[Doc], condition: str, generation: Generation
    ) -> list[Outcome]:
        """Ask; what fails is asked again with the verifier's words, while `attempts` are left."""
        world, talks = self.world(), apply_condition(list(docs), condition, SEED)
        given, right = [""] * len(docs), [False] * len(docs)
        left = list(range(len(docs)))
        for _ in range(world.attempts):
            names = [f"{self.name}:{docs[i].name}" for i in left]
            texts = answerer([talks[i] for i in left], generation, names=names)
            failed = []
            for i, text in zip(left, texts, strict=True):
                verdict = world.verify(_state(docs[i]), text)
                given[i], right[i] = text, verdict.success
                if not verdict.done:
                    talks[i] = revised(talks[i], text, verdict)
                    failed.append(i)
            left = failed
            if not left:
                break
        return [
            Outcome(
                doc.name, doc.question, doc.expected, text, float(correct),
                group=doc.image_identity,
            )
            for doc, text, correct in zip(docs, given, right, strict=True)
        ]  # fmt: skip


def _state(doc: Doc) -> State:
    assert isinstance(doc, StateDoc) and doc.state is not None
    return doc.state


def entry_of(given: Sequence[str]) -> dict[str, Any]:
    """Return the environment of --env: KEY=VALUE each, as training's options are.

    Raises:
        ValueError: one is not of that form.
    """
    entry: dict[str, Any] = {"kind": KIND, "attempts": 1}
    for option in given:
        name, equals, value = option.partition("=")
        if not equals:
            raise ValueError(f"--env {option}: write KEY=VALUE, such as variant=image")
        entry[name.strip()] = yaml.safe_load(value)
    return entry


def open_world(_: Path | None) -> World:
    """Return what stands in for data; there is none to read."""
    return World("states made from seeds", "seeds")


def rows_of(entry: Mapping[str, Any]) -> tuple[WorldRow, ...]:
    """Return the rows of a world that training had with these options.

    Raises:
        EntryError: see `make_environment`.
        ValueError: this suite knows no shifts of such a world.
    """
    usual: Any = make_environment(entry).world
    if entry["kind"] not in SHIFTS:
        raise ValueError(f"--suite ood knows shifts of {', '.join(SHIFTS)}, not of {entry['kind']}")
    score = SCORES.get(entry["kind"], verified)
    found = []
    for name, (changes, against) in SHIFTS[entry["kind"]](usual).items():
        asked = {**entry, "split": "heldout", **(changes if isinstance(changes, dict) else {})}
        world = cache(partial(make_environment, asked))
        docs = partial(_missing, changes) if isinstance(changes, str) \
            else _kept(partial(_docs, world))  # fmt: skip
        controls = CONTROLS.get(usual.variant, ()) if name == "in_distribution" else ()
        found.append(WorldRow(
            name, docs, score, controls, MOST[usual.answer], stop=(),
            how=f"own (verified, {usual.attempts} attempt{'s' * (usual.attempts > 1)})",
            controlled=CONTROLLED, against=against, world=world,
        ))  # fmt: skip
    return tuple(found)


def _missing(why: str, _: Any) -> list[Doc]:
    raise MissingDataError(why)


Shifts = dict[str, tuple[dict[str, Any] | str, str]]
"""row -> (the options that differ, or why there is none; the row on the same states)"""


def _cards(usual: Any) -> Shifts:
    other = "ranks" if usual.faces == "ten" else "ten"
    found: Shifts = {"in_distribution": ({}, "")}
    if usual.high < 11:
        why = f"no card up to rank {usual.high} is a face card, so no rule can change"
        found["rule_shift"] = why, ""
    else:
        found["same_hands"] = {"hands": "paired"}, ""
        found["rule_shift"] = {"hands": "paired", "faces": other}, "same_hands"
    if usual.variant == "image":
        suits = {"black": "red", "red": "black"}.get(usual.suits)
        found["visual_shift"] = (
            ({"suits": suits}, "in_distribution") if suits
            else ("training has seen black and red suits", "")
        )  # fmt: skip
    return found


def _streets(usual: Any) -> Shifts:
    other = "relative" if usual.actions == "absolute" else "absolute"
    city = "second" if usual.city == "first" else "first"
    return {
        "in_distribution": ({}, ""),
        "rule_shift": ({"actions": other}, "in_distribution"),
        "visual_shift": ({"city": city}, "in_distribution"),
    }


SHIFTS: dict[str, Callable[[Any], Shifts]] = {"generalpoints": _cards, "navigation": _streets}
"""kind -> how the world that training had may be shifted"""


def _kept(make: Callable[[], list[Doc]]) -> Callable[[Any], list[Doc]]:
    """Make docs once, however often a row is asked for them."""
    made = cache(make)
    return lambda _: made()


def _docs(world: Callable[[], Checked]) -> list[Doc]:
    """Prompts that differ, of the same seeds in every row.

    Raises:
        MissingDataError: the options leave no state.
    """
    found: dict[str, StateDoc] = {}
    for seed in range(DOCS * TRIES):
        try:
            state: State = world().state(seed)
        except EnvironmentFault as error:
            raise MissingDataError(str(error)) from error
        steps = 0
        while True:
            doc = _doc(world(), state, f"{seed}" if not steps else f"{seed}.{steps}")
            found.setdefault(identify(doc.messages).whole, doc)
            steps, before = steps + 1, state
            state = world().advance(state, doc.expected)
            if state == before:
                break
        if seed + 1 == ROUTES if steps > 1 else len(found) == DOCS:
            break
    return list(found.values())


def _doc(world: Checked, state: State, name: str) -> StateDoc:
    messages, media = world.prompt(state)
    inner: Any = world.world
    identity = inner.identity(state)  # of what is shown or heard, and what is resampled together
    asked: Messages = bind(messages, media)
    question = " ".join(p["text"] for p in messages[-1]["content"] if p["type"] == "text")
    return StateDoc(name, asked, question, world.solution(state), identity, identity, state=state)


def verified(outcomes: list[Outcome]) -> Scored:
    """The share that was right at one attempt; states of one identity are resampled together."""
    return proportion(outcomes, 0.0)


def steps(outcomes: list[Outcome]) -> Scored:
    """The same of steps, and beside it how many routes had every step right."""
    actions = [outcome.expected.rpartition('"action": ')[2] for outcome in outcomes]
    scored = proportion(outcomes, majority(actions))
    routes: dict[str, float] = {}
    for outcome in outcomes:
        routes[outcome.unit] = min(outcome.correct, routes.get(outcome.unit, 1.0))
    low, high = interval({name: [(right, 1.0)] for name, right in routes.items()})
    share = 100 * sum(routes.values()) / len(routes)
    scored.details["route_success"] = share
    scored.details["rule"] = (
        f"{share:.1f} % of {len(routes)} routes have every step right ({low:.1f}–{high:.1f})"
    )
    return scored


SCORES: dict[str, Callable[[list[Outcome]], Scored]] = {"navigation": steps}
