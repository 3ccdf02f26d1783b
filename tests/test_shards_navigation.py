"""The navigation world: turns that wrap around, steps that lead on, and what is seen."""

import io
import json
from typing import Any

import numpy as np
import pytest
from PIL import Image

from data_shards.environments import Checked, make_environment
from data_shards.environments.cities import CITIES, FORMS
from data_shards.environments.streets import (
    COMPASS,
    absolute,
    around,
    relative,
    steps_of,
    turned,
)
from omni.entry import EntryError

every = pytest.mark.parametrize("actions", ["absolute", "relative"])


def streets(**options: Any) -> Checked:
    return make_environment({"kind": "navigation", **options})


def walk(world: Checked, seed: int, policy: Any) -> list[float]:
    """What a policy is paid at each step of a route; the right action leads on after each."""
    state, paid = world.state(seed), list[float]()
    while True:
        paid.append(world.verify(state, policy(world, state)).reward)
        after = world.advance(state, world.solution(state))
        if after == state:
            return paid
        state = after


@pytest.mark.parametrize(
    ("heading", "to", "degrees", "word", "compass"),
    [(350, 10, 20, "slightly right", "north"), (10, 350, -20, "slightly left", "north"),
     (0, 45, 45, "slightly right", "northeast"), (0, 315, -45, "slightly left", "northwest"),
     (315, 0, 45, "slightly right", "north"), (0, 90, 90, "right", "east"),
     (0, 270, -90, "left", "west"), (90, 0, -90, "left", "north"),
     (45, 270, -135, "left", "west"), (0, 180, 180, "right", "south"),
     (270, 45, 135, "right", "northeast"), (225, 180, -45, "slightly left", "south")],
)  # fmt: skip
def test_turns_by_hand(heading, to, degrees, word, compass):
    assert (turned(heading, to), relative(heading, to), absolute(to)) == (degrees, word, compass)


def test_where_things_stand():
    assert [around(350, bearing) for bearing in (350, 35, 80, 170, 260)] == [
        "in front of you", "on your right front", "on your right", "behind you", "on your left",
    ]  # fmt: skip


@every
@pytest.mark.parametrize("variant", ["text", "image"])
def test_the_oracle_walks_every_route(actions, variant):
    world = streets(actions=actions, variant=variant)
    for seed in range(10):
        paid = walk(world, seed, lambda world, state: world.solution(state))
        assert paid == [1.0] * len(steps_of(world.state(seed)["route"]))


@every
def test_a_random_policy_is_right_once_in_as_many_as_there_are_actions(actions):
    world = streets(actions=actions, answer="action")
    space: list[str] = world.world.action_space  # type: ignore[attr-defined]
    assert len(space) == {"absolute": 10, "relative": 6}[actions]
    rng = np.random.default_rng(0)
    paid = [p for seed in range(150)
            for p in walk(world, seed, lambda *_: space[rng.integers(len(space))])]  # fmt: skip
    share = np.mean(np.array(paid) > 0)
    assert abs(share - 1 / len(space)) < 4 * np.sqrt(share / len(paid))


@every
def test_only_the_right_action_leads_on(actions):
    world = streets(actions=actions)
    state = world.state(5)
    seen = []
    while True:
        assert world.advance(state, "no idea") == state
        for action in ("forward()", "stop()", "turn_direction(up)"):
            answer = json.dumps({"current observation": "", "action": action})
            led = world.advance(state, answer)
            assert led == state or world.verify(state, answer).success
        seen.append(world.prompt(state)[0][0]["content"][0]["text"])
        after = world.advance(state, world.solution(state))
        if after == state:
            break
        state = after
    assert all(f"A_{n}:" in text and f"A_{n + 1}:" not in text for n, text in enumerate(seen, 1))
    assert f"A_1: {world.world.action(steps_of(state['route'])[0])}" in seen[-1]  # type: ignore[attr-defined]
    assert "stop()" in world.solution(state)


def test_both_rules_are_asked_of_the_same_routes():
    for seed in range(20):
        one, other = (streets(actions=actions) for actions in ("absolute", "relative"))
        assert one.state(seed) == other.state(seed)
        state = one.state(seed)
        assert not other.verify(state, one.solution(state)).success  # the first step is a turn
        second = streets(city="second").state(seed)["route"]
        assert second["heading"] == state["route"]["heading"]
        assert {n[0] for leg in second["legs"] for n in leg["nodes"]} <= {
            "", *CITIES["second"].landmarks
        }  # fmt: skip
    assert not set(CITIES["first"].landmarks) & set(CITIES["second"].landmarks)


def test_a_route_may_be_asked_about_at_any_of_its_steps():
    start, anywhere = (streets(begin=begin) for begin in ("start", "anywhere"))
    begun = set()
    for seed in range(60):
        state = anywhere.state(seed)
        assert state | {"step": 0} == start.state(seed)
        actions = [step.action for step in steps_of(state["route"])]
        begun.add(actions[state["step"]])
        assert anywhere.verify(state, anywhere.solution(state)).success
    assert begun == {"turn", "forward", "stop"}


def at(crossing: bool):
    """A step with a landmark, at a crossing or not, at which to go on."""
    nodes = [["the Mill", 90, crossing], ["the Bank", 90, False]]
    return {
        "seed": 0,
        "step": 2,
        "route": {"heading": 90, "legs": [{"heading": 0, "nodes": nodes}]},
    }


@pytest.mark.parametrize(
    ("crossing", "seen", "action", "reward"),
    [(True, "the Mill is on your right; You observe an intersection", "stop()", -1.0),
     (True, "the Mill is on your right", "stop()", -1.5),
     (False, "You observe an intersection", "stop()", -1.5), (False, "No landmarks", "stop()", -1),
     (True, "nothing", "forward()", 1.0), (True, "an INTERSECTION", " forward( ) ", 1.0),
     (True, "intersection", "forward", -1.0), (True, "intersection", "forward(north)", -1.0)],
)  # fmt: skip
def test_what_is_seen_counts_where_the_action_is_wrong(crossing, seen, action, reward):
    answer = json.dumps({"current observation": seen, "action": action})
    assert streets().verify(at(crossing), answer).reward == reward
    short = streets(answer="action").verify(at(crossing), action)
    assert short.success == (reward == 1)


def test_an_answer_that_cannot_be_read_is_no_better_than_a_wrong_one():
    world = streets()
    for answer in ("", "forward()", '{"action": "forward()"', '{"action": forward()}'):
        assert world.verify(at(False), answer).reward == -1.5


def view(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)


def differing(one: np.ndarray, other: np.ndarray) -> list[bool]:
    """Which of the four views differ: front, right; back, left."""
    changed = (one != other).any(-1)
    half = len(changed) // 2
    return [bool(changed[y : y + half, x : x + half].any()) for y in (0, half) for x in (0, half)]


@pytest.mark.parametrize(
    ("bearing", "where"),
    [(0, 0), (90, 1), (180, 2), (270, 3), (45, 0), (135, 1), (225, 2), (315, 3)],
)  # fmt: skip
def test_a_landmark_is_in_the_view_that_looks_at_it(bearing, where):
    world = streets(variant="image")
    bare, shown = at(True), at(True)
    bare["route"]["legs"][0]["nodes"][0][0] = ""
    shown["route"]["legs"][0]["nodes"][0][:2] = "the tower", bearing
    pictures = [view(world.prompt(state)[1]["img0.png"]) for state in (bare, shown)]
    assert differing(*pictures) == [place == where for place in range(4)]


def test_streets_lead_to_the_sides_at_crossings_alone():
    world = streets(variant="image")
    pictures = []
    for crossing in (False, True):
        state = at(crossing)
        state["route"]["legs"][0]["nodes"][0][0] = ""
        pictures.append(view(world.prompt(state)[1]["img0.png"]))
    assert differing(*pictures) == [False, True, False, True]


def test_every_landmark_and_both_palettes_are_drawn_in_their_own_way():
    found = set()
    for city in CITIES:
        for form in FORMS:
            state = at(True)
            state["route"]["legs"][0]["nodes"][0][:2] = f"the {form}", 0
            world = streets(variant="image", city=city)
            found.add(world.prompt(state)[1]["img0.png"])
    assert len(found) == len(CITIES) * len(FORMS)


def test_routes_turn_as_often_as_is_asked_and_differ_between_the_splits():
    for legs in (1, 5):
        world = streets(legs=legs, blocks=5)
        route = world.state(3)["route"]
        assert len(route["legs"]) == legs
        assert {step.action for step in steps_of(route)} == {"turn", "forward", "stop"}
    train, out = (streets(split=split, legs=1, blocks=1) for split in ("train", "heldout"))
    names = [{world.world.identity(world.state(seed)) for seed in range(60)}  # type: ignore[attr-defined]
             for world in (train, out)]  # fmt: skip
    assert names[0] and names[1] and not names[0] & names[1]


@pytest.mark.parametrize(
    ("options", "words"),
    [({"actions": "both"}, "absolute"), ({"city": "third"}, "first"), ({"legs": 9}, "from 1 to 5"),
     ({"answer": "formula"}, "action"), ({"cards": 3}, "no option 'cards'")],
)  # fmt: skip
def test_options_that_cannot_be_are_refused(options, words):
    with pytest.raises(EntryError, match=words):
        streets(**options)


def test_the_compass_is_all_of_it():
    assert sorted({absolute(degrees) for degrees in range(0, 360, 5)}) == sorted(COMPASS)
