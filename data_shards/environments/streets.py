"""Routes through streets: legs with turns between them, and the steps of whoever walks them."""

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

COMPASS = ("north", "northeast", "east", "southeast", "south", "southwest", "west", "northwest")
RELATIVE = ("left", "right", "slightly left", "slightly right")
AROUND = ("in front of you", "on your right front", "on your right", "on your right behind",
          "behind you", "on your left behind", "on your left", "on your left front")  # fmt: skip
SIDES = {"right": 90, "left": -90}  # degrees from the heading
TURNS = (-135, -90, -45, 45, 90, 135)


class Node(NamedTuple):
    """A place on a route: a landmark and its bearing in degrees, and whether streets cross."""

    landmark: str = ""
    bearing: int = 0
    crossing: bool = False


class Step(NamedTuple):
    """Where one stands, which way one looks in degrees, and what is to be done.

    `action` is forward, stop or turn; `to` the heading after a turn. `leg` counts from 0.
    """

    node: Node
    heading: int
    action: str
    to: int
    leg: int


def turned(heading: int, to: int) -> int:
    """Return degrees from one heading to another, in (-180, 180]: from 350 to 10 it is 20."""
    return 180 - (180 - (to - heading)) % 360


def relative(heading: int, to: int) -> str:
    """Return the word for a turn; up to 45 degrees it is slight."""
    degrees = turned(heading, to)
    side = "right" if degrees > 0 else "left"
    return f"slightly {side}" if abs(degrees) <= 45 else side


def absolute(to: int) -> str:
    """Return the compass word of a heading, the nearest of eight."""
    return COMPASS[round(to / 45) % 8]


def around(heading: int, bearing: int) -> str:
    """Return where something stands for whoever looks that way, the nearest of eight."""
    return AROUND[round(turned(heading, bearing) / 45) % 8]


def draw_route(
    rng: np.random.Generator, legs: int, blocks: int, landmarks: Sequence[str]
) -> dict[str, Any]:
    """Draw a route that json can hold.

    Each leg ends at a landmark of its own; the places before it are plain, or crossings that may
    have another landmark. What is drawn does not depend on what the landmarks are called.

    Args:
        rng: decides.
        legs: straight parts.
        blocks: most places of a leg.
        landmarks: names, at least two more than legs.

    Returns:
        heading: degrees, of the start; legs: each with its heading and nodes as (landmark,
        bearing, crossing), the last of which ends it.
    """
    order = [landmarks[i] for i in rng.permutation(len(landmarks))]
    ends, others = order[:legs], order[legs:]
    heading = start = int(rng.integers(72)) * 5
    found = []
    for leg in range(legs):
        if leg:
            heading = (heading + int(rng.choice(TURNS))) % 360
        else:  # the start may look anywhere
            heading = (int(rng.choice([d for d in range(0, 360, 45) if d != start]))) % 360
        nodes = []
        for block in range(int(rng.integers(1, blocks + 1)), 0, -1):
            side = int(rng.choice(list(SIDES.values())))
            other = others[int(rng.integers(len(others)))]
            kind = int(rng.integers(3))  # nothing; a crossing; a crossing with a landmark
            if block == 1:
                nodes.append([ends[leg], (heading + side) % 360, leg < legs - 1])
            else:
                nodes.append([other if kind == 2 else "", (heading + side) % 360, kind > 0])
        found.append({"heading": heading, "nodes": nodes})
    return {"heading": start, "legs": found}


def steps_of(route: dict[str, Any]) -> list[Step]:
    """Return every step of a route, the last of which is the stop."""
    node, heading, steps = Node(), int(route["heading"]), list[Step]()
    for number, leg in enumerate(route["legs"]):
        to = int(leg["heading"])
        steps.append(Step(node, heading, "turn", to, number))
        heading = to
        for place in leg["nodes"]:
            steps.append(Step(node, heading, "forward", heading, number))
            node = Node(str(place[0]), int(place[1]), bool(place[2]))
    steps.append(Step(node, heading, "stop", heading, len(route["legs"]) - 1))
    return steps


def instruction(route: dict[str, Any]) -> list[str]:
    """Return the sentences that lead along a route, numbered; the first turn has its own word."""
    lines, heading = list[str](), int(route["heading"])
    for number, leg in enumerate(route["legs"]):
        to = int(leg["heading"])
        first = "First, turn" if not number else "Turn"
        lines.append(f"{first} {relative(heading, to)} to face {absolute(to)}.")
        name, bearing, _ = leg["nodes"][-1]
        last = number == len(route["legs"]) - 1
        where = "destination" if last else "the next intersection"
        lines.append(f"Move forward until you reach {where} where {name} is "
                     f"{around(to, int(bearing))}.")  # fmt: skip
        heading = to
    return [f"{number}. {line}" for number, line in enumerate(lines, 1)]


def observation(step: Step) -> str:
    """Return what is seen at a step, in words."""
    seen = ["No landmarks nearby"]
    if step.node.landmark:
        seen = [f"{step.node.landmark} is {around(step.heading, step.node.bearing)}"]
    return "; ".join(seen + ["You observe an intersection"] * step.node.crossing)


def shape_of(route: dict[str, Any]) -> str:
    """Return what routes have in common that differ in the names of landmarks alone."""
    legs = [[leg["heading"], [place[1:] for place in leg["nodes"]]] for leg in route["legs"]]
    return json.dumps([route["heading"], legs])
