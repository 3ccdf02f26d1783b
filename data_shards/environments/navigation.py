"""Navigation along streets, after V-IRL (arXiv 2501.17161): what to do at each step of a route."""

import json
import re
from dataclasses import dataclass
from typing import Annotated, ClassVar

from omni.processing.messages import Message, image, user

from ..sources.base import digest
from .answers import Unread, check_length, last_object
from .base import State, Verdict, draws, in_split
from .cities import CITIES, FORMS
from .options import check_options
from .streets import (
    COMPASS,
    RELATIVE,
    Step,
    absolute,
    draw_route,
    instruction,
    observation,
    relative,
    shape_of,
    steps_of,
)

CORRECT, WRONG_ACTION, WRONG_OBSERVATION, EXHAUSTED = 1.0, -1.0, -1.5, -1.0
TRIES = 10_000
CHOICES = {
    "variant": ("text", "image"),
    "actions": ("absolute", "relative"),
    "city": tuple(CITIES),
    "answer": ("json", "action"),
    "begin": ("start", "anywhere"),
    "split": ("all", "train", "heldout"),
}
TASKS = (
    "You find your way through a city. Follow the instruction, sentence by sentence.",
    "Here is how to get somewhere. Say what to do next.",
    "You walk along streets and are told the way. Which action comes now?",
    "A route is described below. Decide on the action that it asks for at this place.",
)
ASKED = {
    "json": 'Answer in json: {"current observation": what you observe now, "current instruction": '
            'the sentence to follow now, "action": the action}',
    "action": "Answer with the action alone.",
}  # fmt: skip
_ACTION = re.compile(r"""\s*(forward|stop|turn_direction)\(\s*["']?\s*([a-z ]*?)\s*["']?\s*\)\s*""")


@dataclass(frozen=True)
class Navigation:
    """A route with landmarks; an answer is one action, and only the right one leads on."""

    variant: Annotated[
        str, "what is seen is text, or an image of four views: front, right; back, left"
    ] = "text"
    actions: Annotated[
        str, "absolute: turns to one of 8 compass words; relative: to the left or right"
    ] = "absolute"
    city: Annotated[
        str, "whose landmarks there are, or in images whose colours: first or second"
    ] = "first"
    legs: Annotated[int, "straight parts of a route, 1 to 5"] = 3
    blocks: Annotated[int, "most places of a part, 1 to 5"] = 3
    side: Annotated[int, "of the image, in pixels"] = 224
    answer: Annotated[str, "json as published, or action: that alone"] = "json"
    wordings: Annotated[int, "how many wordings of the task there are, 1 to 4"] = 1
    attempts: Annotated[int, "answers at a step; 2 as published"] = 2
    begin: Annotated[
        str, "start of a route, or anywhere on it, so that single answers are learnt of all steps"
    ] = "start"
    split: Annotated[str, "routes that training may see, those that it may not, or all"] = "all"
    heldout: Annotated[float, "share of the routes that training may not see"] = 0.15

    name: ClassVar[str] = "navigation"
    exhausted: ClassVar[float] = EXHAUSTED

    def __post_init__(self) -> None:
        check_options(self, CHOICES, {
            "legs": (1, 5), "blocks": (1, 5), "side": (64, 4096), "wordings": (1, len(TASKS)),
            "attempts": (1, 100),
        })  # fmt: skip

    def state(self, seed: int) -> State:
        rng = draws(self.name, seed)
        named = [f"the {form}" for form in FORMS] if self.variant == "image" \
            else CITIES[self.city].landmarks  # fmt: skip
        for _ in range(TRIES):
            route = draw_route(rng, self.legs, self.blocks, named)
            if in_split(self.identity({"route": route}), self.split, self.heldout):
                wording = int(rng.integers(1 << 30)) % self.wordings
                many = len(steps_of(route)) if self.begin == "anywhere" else 1
                step = int(rng.integers(many))
                return {"seed": seed, "route": route, "step": step, "wording": wording}
        raise ValueError(f"{TRIES:,} routes, and none of the split {self.split}")

    def identity(self, state: State) -> str:
        """Return what is held out: the route, whatever its landmarks are called."""
        return f"route {digest(shape_of(state['route'])):016x}"

    def action(self, step: Step) -> str:
        """Return the right action of a step, as it is written."""
        if step.action != "turn":
            return f"{step.action}()"
        word = absolute(step.to) if self.actions == "absolute" else relative(step.heading, step.to)
        return f"turn_direction({word})"

    @property
    def action_space(self) -> list[str]:
        """Every action there is."""
        words = COMPASS if self.actions == "absolute" else RELATIVE
        return ["forward()", *(f"turn_direction({word})" for word in words), "stop()"]

    def prompt(self, state: State) -> tuple[list[Message], dict[str, bytes]]:
        steps, at = steps_of(state["route"]), int(state["step"])
        parts = [TASKS[int(state.get("wording", 0)) % self.wordings], "[Instruction]",
                 *instruction(state["route"]), "[Actions]", ", ".join(self.action_space),
                 "[Observations and actions]", *self._history(steps[: at + 1])]  # fmt: skip
        parts.append(ASKED[self.answer])
        text = "\n".join(parts)
        if self.variant == "text":
            return [user(text)], {}
        from .views import views

        drawn = views(steps[at], CITIES[self.city], self.side)
        return [user(image("img0.png"), text)], {"img0.png": drawn}

    def _history(self, steps: list[Step]) -> list[str]:
        """What was observed and done; of images only what was done, and the last is to look at."""
        lines = list[str]()
        for number, step in enumerate(steps, 1):
            if self.variant == "text":
                lines.append(f"O_{number}: {observation(step)}")
            elif number == len(steps):
                lines.append(f"O_{number}: the image shows front, right; back, left")
            lines.append(f"A_{number}: {self.action(step)}")
        lines[-1] = f"A_{len(steps)}:"
        return lines

    def verify(self, state: State, answer: str) -> Verdict:
        step = steps_of(state["route"])[int(state["step"])]
        try:
            action, seen = self._read(answer)
        except Unread as error:
            return _failed(WRONG_OBSERVATION, str(error))
        match = _ACTION.fullmatch(action)
        if match and f"{match[1]}({match[2]})" == self.action(step):
            return Verdict(CORRECT, True, True, "Correct.")
        if seen is not None and ("intersection" in seen.lower()) != step.node.crossing:
            what = "an" if step.node.crossing else "no"
            return _failed(WRONG_OBSERVATION, f"there is {what} intersection here")
        return _failed(WRONG_ACTION, "the action is not the right one here")

    def _read(self, answer: str) -> tuple[str, str | None]:
        """The action, and what is observed; None where that is not asked for."""
        if self.answer == "action":
            check_length(answer)
            return answer, None
        row = last_object(answer, "action")
        return row["action"], str(row.get("current observation", ""))

    def solution(self, state: State) -> str:
        steps, at = steps_of(state["route"]), int(state["step"])
        step = steps[at]
        if self.answer == "action":
            return self.action(step)
        sentence = instruction(state["route"])[2 * step.leg + (step.action != "turn")]
        return json.dumps({"current observation": observation(step),
                           "current instruction": sentence.partition(" ")[2],
                           "action": self.action(step)})  # fmt: skip

    def advance(self, state: State, answer: str) -> State:
        """Return the next step's state after the right action; else, and after the stop, this."""
        last = len(steps_of(state["route"])) - 1
        if int(state["step"]) >= last or not self.verify(state, answer).success:
            return state
        return {**state, "step": int(state["step"]) + 1}


def _failed(reward: float, why: str) -> Verdict:
    return Verdict(reward, False, False, f"You failed this step because {why}.")
