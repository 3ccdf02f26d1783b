"""Worlds: what every one of them keeps, and GeneralPoints with its exact verifier."""

import io
import itertools
import json
import random
import time
from collections import Counter
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from PIL import Image

from data_shards.build import build
from data_shards.environments import (
    ENVIRONMENTS,
    Checked,
    EnvironmentFault,
    Verdict,
    make_environment,
    noted_environment,
    revised,
)
from data_shards.environments.generalpoints import published as legacy
from data_shards.environments.generalpoints.formula import DEEPEST, FormulaError, parse
from data_shards.environments.generalpoints.solver import solvable, solve
from data_shards.environments.generalpoints.verifier import verify
from data_shards.environments.generalpoints.world import GeneralPoints, counts
from data_shards.environments.source import WORLDS
from data_shards.index.index import Index
from data_shards.read.entry import read_shard
from data_shards.sources import Build, SourceError
from data_shards.verify import verify as verify_shards
from omni.entry import EntryError
from omni.processing.messages import media_refs

HAND = ["A", "2", "3", "5"]
NUMBERS = [1, 2, 3, 5]


def points(**options: Any) -> Checked:
    return make_environment({"kind": "generalpoints", **options})


def hand(cards=HAND, suit="S"):
    return {"seed": 0, "cards": list(cards), "suits": [suit] * len(cards)}


def answered(formula, cards=HAND, **more):
    return json.dumps({"cards": cards, "number": NUMBERS, "formula": formula, **more})


@pytest.fixture(params=["text", "image", "spoken"])
def variant(request):
    if request.param == "spoken":
        pytest.importorskip("hibari")
    return request.param


@pytest.mark.parametrize("kind", ENVIRONMENTS)
def test_a_world_keeps_its_contract(kind):
    world = make_environment(kind)
    for seed in range(8):
        state = world.state(seed)
        assert state == make_environment(kind).state(seed) == json.loads(json.dumps(state))
        assert world.prompt(state) == world.prompt(state)
        verdict = world.verify(state, world.solution(state))
        assert verdict.success and verdict.done and verdict.reward > 0
        for wrong in ("", "{", "}", "\0", "é" * 50, "{" * 30_000, "(" * 30_000, "[" * 5_000,
                      '{"formula": null, "action": 3}', '{"formula": "\ud800", "action": "\ud800"}',
                      '{"formula": "' + "9" * 15_000 + '"}'):  # fmt: skip
            verdict = world.verify(state, wrong)
            assert not verdict.success and not verdict.done and verdict.reward < 0
    assert world.state(1) != world.state(2)


# formula, cards -> what is right to pay, what the published code pays
A1 = [
    ("8/(3-8/3)", [3, 3, 8, 8], 5, 0),
    ("(1+2)*(3+5", NUMBERS, -3, 1),
    ("(2+1)*(3+5", NUMBERS, -3, -1),
    ("(1 + 2)*(3+5)", NUMBERS, 5, -3),
    ("(01+2)*(3+5)", NUMBERS, -3, -1),
    ("7+2+3+5", NUMBERS, -2, -4),
    ("5+5+2+3", NUMBERS, -2, -4),
    ("2**3", NUMBERS, -3, -5),
    ("", NUMBERS, -3, -2),
    ("(1+2)*(3+5)", NUMBERS, 5, 5),
    ("1+2+3+5", NUMBERS, -1, -1),
]


@pytest.mark.parametrize(("formula", "numbers", "right", "paid"), A1)
def test_every_published_fault_is_right_here_and_reproduced_there(formula, numbers, right, paid):
    verdict = verify(formula, "formula", numbers, 24, None)
    assert (verdict.reward, verdict.success) == (right, right == 5)
    assert verify(answered(formula), "json", numbers, 24, None).reward == right
    listed = {"(1+2)*(3+5)", "8/(3-8/3)"}  # with all orders listed the third is paid 1 as well
    assert legacy.step_reward(formula, numbers, 24, lambda: listed)[0] == paid


WRITTEN = {
    "valid json": (answered("(1+2)*(3+5)=24"), 5, -1.5),
    "a comma at the end": (
        '{"cards": ["A", "2", "3", "5"], "number": [1], "formula": "(1+2)*(3+5)",}', 5, -1.5,
    ),
    "single quotes around cards": (
        """{"cards": ['A', '2', '3', '5'], "formula": "(1+2)*(3+5)=24",}""", 5, 5,
    ),
    "words without quotes": ('{"cards": [A, 2, 3, 5], "formula": "(1+2)*(3+5)=24",}', 5, 5),
    "single quotes as the template": (
        """{"cards": ['A', '2', '3', '5'], "formula": '(1+2)*(3+5)=24',}""", 5, -3,
    ),
    "wrong cards first": (answered("7*7", ["A", "2", "3", "4"]), -1.5, -1.5),
    "no cards": ('{"formula": "(1+2)*(3+5)"}', -1.5, -1.5),
}  # fmt: skip


@pytest.mark.parametrize("name", WRITTEN)
@pytest.mark.parametrize("seen", ["image", "spoken"])
def test_cards_that_are_seen_or_heard_are_named_first(name, seen):
    answer, right, paid = WRITTEN[name]
    assert points(variant=seen).verify(hand(), answer).reward == right
    assert points(variant=seen, legacy=True).verify(hand(), answer).reward == paid
    assert points(variant=seen).verify(hand(), answer.replace("(", "( ")).reward == right


@pytest.mark.parametrize(
    ("formula", "reward"),
    [("(1+2)*(3+5)=24", 5), ("(1+2)*(3+5) = 3*8 = 24", 5), ("(1+2)*(3+5)=25", -1),
     ("(1+2)*(3+5)=", -3), ("24=(1+2)*(3+5)", -2), ("-1+5*(2+3)", 5), ("5*(2+3)+-1", 5),
     ("1/(2-2)+3+5", -2), ("1/0", -2), ("(1+2)*(3+5)+0", -2), ("5//2", -3), ("2(3+5)", -3),
     ("1 2+3+5", -3), ("(1+2)×(3+5)", -3), ("١+2", -3), ("²*3", -3), ("(A+2)*(3+5)", -3),
     ("(1+2)*(3+5))", -3), ("()", -3), ("1e1+2", -3), ("0x1+2+3+5", -3), ("__import__('os')", -3),
     ("5/(3-2-1)", -1)],
)  # fmt: skip
def test_formulas_are_read_exactly(formula, reward):
    assert verify(formula, "formula", NUMBERS, 24, None).reward == reward


def test_the_parser_has_limits_and_is_fast():
    assert parse("(" * DEEPEST + "7" + ")" * DEEPEST).value == 7
    for text in ("(" * 200 + "7" + ")" * 200, "-" * 399 + "1", "1+" * 10_000 + "1"):
        with pytest.raises(FormulaError, match=r"deeper than|characters, of 400"):
            parse(text)
    start = time.monotonic()
    for text in ("9" * 400, "*".join(["9" * 30] * 12), '{"formula": "' * 1500, "{}" * 9_000):
        assert verify(text, "json", NUMBERS, 24, None).reward < 0
        assert verify(text, "formula", NUMBERS, 24, None).reward < 0
    assert time.monotonic() - start < 1


def test_solver_and_verifier_agree_on_random_formulas():
    rng, found = random.Random(0), Counter[bool]()
    for _ in range(10_000):
        numbers = [rng.randint(1, 10) for _ in range(4)]
        formula = legacy._written(
            numbers, rng.choices("+-*/", k=3), rng.choice(((), *legacy._SPANS))
        )
        value = parse(formula).value
        target = int(value) if value is not None and value.denominator == 1 and value > 0 else 24
        right = verify(formula, "formula", numbers, target, None).success
        assert right == (value == target)
        solution = solve(numbers, target)
        assert solution is not None or not right
        if solution:
            assert verify(solution, "formula", numbers, target, None).success
        found[right] += 1
    assert min(found.values()) > 1_000


@pytest.mark.parametrize(
    ("high", "cards", "solved", "all_hands"),
    [(10, 4, 566, 715), (13, 4, 1362, 1820), (6, 3, 16, 56), (10, 3, 59, 220)],
)
def test_as_many_hands_can_be_solved_as_are_known_to(high, cards, solved, all_hands):
    hands = list(itertools.combinations_with_replacement(range(1, high + 1), cards))
    assert len(hands) == all_hands
    assert sum(solvable(numbers, 24) for numbers in hands) == solved


def test_hands_solvable_under_both_rules():
    hands = [h for h in itertools.combinations_with_replacement(range(1, 14), 4) if h[-1] > 10]
    both = [h for h in hands if all(solvable(counts(h, rule), 24) for rule in ("ten", "ranks"))]
    assert (len(hands), len(both)) == (1105, 529)


@pytest.mark.parametrize("hands", ["face", "paired"])
def test_every_shifted_hand_has_a_face_card(hands):
    ten, ranks = (points(hands=hands, faces=rule) for rule in ("ten", "ranks"))
    for seed in range(60):
        state = ranks.state(seed)
        assert {"J", "Q", "K"} & set(state["cards"])
        if hands == "paired":
            assert state == ten.state(seed)
            solution = ten.solution(state)
            if "K" in state["cards"]:  # 10 is no number of a king that counts 13
                assert ranks.verify(state, solution).reward == -2.0
    king = hand(["K", "2", "A", "3"])
    assert ten.verify(king, answered("10*2+1+3")).success
    assert ranks.verify(king, answered("10*2+1+3")).reward == -2


@pytest.mark.parametrize("form", ["json", "formula"])
@pytest.mark.parametrize("legacy_too", [False, True])
def test_what_games_the_reward_is_not_paid(form, legacy_too, variant):
    if legacy_too and form == "formula":
        pytest.skip("the published code reads json")
    world = points(variant=variant, answer=form, legacy=legacy_too)
    constant = world.solution(world.state(10_000))
    for seed in range(6):
        state = world.state(seed)
        solution = world.solution(state)
        echo = " ".join(p.get("text", "") for p in world.prompt(state)[0][0]["content"])
        tries = [constant, echo, echo + constant, constant * 3]
        if not legacy_too:  # which pays for a formula that was cut: that is what is wrong with it
            cut = [solution[:end] for end in range(len(solution))]
            tries += [text for text in cut if form == "json" or not _whole(text, world, state)]
            tries += [solution + "{", solution.replace("}", "")] if form == "json" else []
        for answer in tries:
            verdict = world.verify(state, answer)
            assert verdict.reward < 0 and not verdict.success, answer


def _whole(text, world, state):
    """Whether a beginning of a solution is one itself."""
    with suppress(FormulaError):
        found = parse(text)
        return found.value == 24 and sorted(found.numbers) == sorted(world.world.numbers(state))
    return False


@pytest.mark.parametrize("attempts", [1, 2, 3, 5])
def test_wrong_wrong_right(attempts):
    world = points(attempts=attempts)
    state = world.state(4)
    policy = iter(["no idea", answered("1+1"), world.solution(state), "more"])
    messages, paid = world.prompt(state)[0], []
    for _ in range(world.attempts):
        answer = next(policy)
        verdict = world.verify(state, answer)
        paid.append(verdict.reward)
        if verdict.done:
            break
        messages = revised(messages, answer, verdict)
    assert (paid[-1] == 5) == (attempts >= 3)
    assert paid == [-3, -2, 5][:attempts]
    said = [(m["role"], m["content"][0]["text"]) for m in messages[1:]]
    assert said[:2] == [("assistant", "no idea"), ("user", world.verify(state, "no idea").message)]
    assert len(said) == 2 * min(attempts - (attempts >= 3) * (attempts - 2), 2)
    assert world.exhausted == -1


def test_prompts_show_the_cards_in_their_way(variant):
    world = points(variant=variant)
    state = world.state(0)
    messages, media = world.prompt(state)
    text = messages[0]["content"][-1]["text"]
    assert (", ".join(state["cards"]) in text) == (variant == "text")
    assert "24" in text and "10" in text and "13" not in text
    assert "13" in points(variant=variant, faces="ranks").prompt(state)[0][0]["content"][-1]["text"]
    assert {"text": [], "image": ["image"], "spoken": ["audio"]}[variant] == [
        kind for kind, _ in media_refs(messages)
    ]
    assert len(media) == (variant != "text")


def test_every_prompt_names_one_of_the_targets_and_its_answers_make_it():
    world = points(cards=3, high=9, target=6, targets=12, answer="formula", split="train")
    states = [world.state(seed) for seed in range(200)]
    assert {state["target"] for state in states} == {*range(6, 18)}
    for state in states:
        other = state | {"target": 6 if state["target"] != 6 else 7}
        assert f"equals {state['target']}." in world.prompt(state)[0][0]["content"][0]["text"]
        assert world.verify(state, world.solution(state)).success
        assert not world.verify(other, world.solution(state)).success
    hands = {world.world.identity(state) for state in states}
    held = points(cards=3, high=9, target=6, targets=12, split="heldout")
    assert not hands & {held.world.identity(held.state(seed)) for seed in range(200)}
    assert points(target=7).state(5)["target"] == 7


def test_wordings_differ_and_keep_rule_and_target():
    world = points(wordings=12, target=18)
    prompts = [world.prompt(dict(hand(), wording=n))[0] for n in range(12)]
    texts = {messages[0]["content"][0]["text"] for messages in prompts}
    assert len(texts) == 12
    assert all("18" in text and "10" in text and "A, 2, 3, 5" in text for text in texts)
    drawn = {points(wordings=12).state(seed)["wording"] for seed in range(200)}
    assert (
        drawn == set(range(12))
        and points().state(3)["cards"] == points(wordings=9).state(3)["cards"]
    )


def pixels(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)


def test_cards_lie_where_the_paper_has_them_and_suits_have_their_colour():
    world = points(variant="image", side=1200)
    _, media = world.prompt(hand())
    table = pixels(media["img0.png"])
    assert table.shape == (1200, 1200, 3) and tuple(table[0, 0]) == (0x35, 0x65, 0x4D)
    shown = (table != table[0, 0]).any(-1)
    rows, columns = np.flatnonzero(shown.any(1)), np.flatnonzero(shown.any(0))
    assert (rows[0], rows[-1] + 1) == ((1200 - 378) // 2, (1200 + 378) // 2)
    starts = [c for c in columns if not shown[:, c - 1].any()]
    assert starts == [5 + 297 * i for i in range(4)] and columns[-1] + 1 == 5 + 297 * 3 + 270

    def red(suit):
        data = pixels(points(variant="image").prompt(hand(suit=suit))[1]["img0.png"])
        return ((data[..., 0] > 150) & (data[..., 1] < 60)).sum()

    assert min(map(red, "HD")) > 200 and max(map(red, "SC")) == 0
    assert {*points(suits="red").state(1)["suits"]} <= {"H", "D"}
    one, other = points(suits="black").state(7), points(suits="red").state(7)
    assert one["cards"] == other["cards"]
    for cards in (2, 3, 6):
        drawn = pixels(
            points(variant="image", cards=cards).prompt(hand(HAND[:2] * 3))[1]["img0.png"]
        )
        assert tuple(drawn[112, -1]) == (0x35, 0x65, 0x4D)  # none is cut off at the right


def test_other_hands_are_held_out_whatever_their_order():
    train, out = (points(split=split, heldout=0.3) for split in ("train", "heldout"))
    hands = {world: {tuple(sorted(world.state(seed)["cards"])) for seed in range(150)}
             for world in (train, out)}  # fmt: skip
    assert not hands[train] & hands[out] and len(hands[out]) > 50


@pytest.mark.parametrize("kind", WORLDS)
def test_shards_of_a_world_can_be_verified(kind, tmp_path):
    source = WORLDS[kind](count=60, wordings=3)
    manifest = build(source, tmp_path / "s", heldout=0.2)
    assert list(verify_shards(tmp_path / "s")) == []
    samples = [s for path in sorted((tmp_path / "s").glob("*.tar")) for s in read_shard(path)]
    names: dict[str, set[str]] = {"train": set(), "heldout": set()}
    for sample in samples:
        world, state = noted_environment(sample.meta["environment"])
        *prompt, last = sample.messages
        assert world.prompt(state) == (prompt, sample.parts)
        assert world.verify(state, last["content"][0]["text"]).success
        names[sample.split].add(sample.meta["identity"])
    assert names["train"] and names["heldout"] and not names["train"] & names["heldout"]
    assert set(manifest["heldout_identities"]) == names["heldout"]
    assert len({s.messages[0]["content"][-1]["text"].partition("[")[0][:30] for s in samples}) > 1
    assert len(Index.open(f"{tmp_path}/s/train-*.tar")) >= 60
    assert [s.messages for s in source.generate(Build(seed=1))] != [s.messages for s in samples]


def test_every_licence_of_what_was_read_is_named(monkeypatch, tmp_path):
    licences = itertools.cycle(["Apache-2.0", "CMU (BSD-like)"])
    monkeypatch.setattr(GeneralPoints, "licence", lambda self, state: next(licences))
    manifest = build(WORLDS["generalpoints"](count=5), tmp_path / "s")
    assert manifest["licenses"] == {"generalpoints": "Apache-2.0 AND CMU (BSD-like)"}


def test_spoken_and_drawn_shards_hold_their_media(variant, tmp_path):
    build(WORLDS["generalpoints"](count=6, variant=variant), tmp_path / "s", heldout=0.3)
    for path in (tmp_path / "s").glob("*.tar"):
        for sample in read_shard(path):
            world, state = noted_environment(sample.meta["environment"])
            assert world.prompt(state)[1] == sample.parts
            assert len(sample.parts) == (variant != "text")


@pytest.mark.parametrize(
    ("options", "words"),
    [({"variant": "txt"}, "text"), ({"faces": 10}, "no faces 10"), ({"cards": 9}, "from 2 to 6"),
     ({"cards": True}, "from 2 to 6"), ({"low": 5, "high": 4}, "below low"),
     ({"hands": "face", "high": 9}, "high is 9"), ({"heldout": 1}, "share"),
     ({"wordings": 13}, "from 1 to 12"), ({"legacy": True, "cards": 3}, "4 cards"),
     ({"legacy": "no"}, "true or false"), ({"card": 3}, "cards"),
     ({"kind": "generalpoint"}, "generalpoints"),
     ({"kind": "no.such:World"}, "cannot be imported")],
)  # fmt: skip
def test_options_that_cannot_be_are_refused(options, words):
    with pytest.raises(EntryError, match=words):
        points(**options)


def test_no_hand_is_an_error_that_says_so():
    with pytest.raises(
        EnvironmentFault, match=r"generalpoints, seed 3: state .* none that can make"
    ):
        points(cards=2, high=2).state(3)
    with pytest.raises(SourceError, match="cards is a whole number"):
        list(WORLDS["generalpoints"](cards=9).generate(Build()))


class Faulty:
    """A world whose calls misbehave as its options say."""

    name = "faulty"

    def __init__(self, **faults):
        self.faults = faults

    def _do(self, call, usual):
        fault = self.faults.get(call, usual)
        return fault() if callable(fault) else fault

    def state(self, seed):
        return self._do("state", {"x": 1})

    def prompt(self, state):
        return self._do(
            "prompt", ([{"role": "user", "content": [{"type": "text", "text": "?"}]}], {})
        )

    def verify(self, state, answer):
        return self._do("verify", Verdict(1.0, True, True, "Correct."))

    def solution(self, state):
        return self._do("solution", "1")


@pytest.mark.parametrize(
    ("call", "fault", "words"),
    [("verify", Verdict(float("nan"), True, True, "x"), "paid nan"),
     ("verify", Verdict(float("inf"), True, True, "x"), "paid inf"),
     ("verify", Verdict("5", True, True, "x"), "paid '5'"),  # type: ignore[arg-type]
     ("verify", Verdict(True, True, True, "x"), "paid True"),
     ("verify", Verdict(1.0, True, True, ""), "says ''"), ("verify", 1.0, "float, not a Verdict"),
     ("verify", lambda: 1 / 0, "raised ZeroDivisionError"),
     ("verify", lambda: exit(3), "raised SystemExit: 3"),
     ("verify", lambda: time.sleep(9), "did not return within 0.2 seconds"),
     ("state", {"x": {1}}, "json cannot hold"), ("state", {"x": float("nan")}, "json cannot hold"),
     ("state", None, "json cannot hold"), ("prompt", [], "no prompt"),
     ("prompt", ([{"role": "user", "content": [{"type": "image", "image": "a.png"}]}], {}),
      "names the file 'a.png'"),
     ("solution", 3, "int, not a string")],
)  # fmt: skip
def test_a_world_that_misbehaves_is_named_with_its_seed(call, fault, words):
    world = Checked(Faulty(**{call: fault}), "mine:World", seconds=0.2)
    calls = {"state": lambda s: world.state(7), "prompt": world.prompt,
             "verify": lambda s: world.verify(s, "1"), "solution": world.solution}  # fmt: skip
    state = {"seed": 7} if call == "state" else world.state(7)
    with pytest.raises(EnvironmentFault) as caught:
        calls[call](state)
    assert str(caught.value).startswith(f"environment mine:World, seed 7: {call} ")
    assert words in str(caught.value)


def test_a_world_of_ones_own_needs_no_line(tmp_path, monkeypatch):
    (tmp_path / "my_world.py").write_text(
        "from dataclasses import dataclass\n"
        "from data_shards.environments import Verdict\n"
        "from omni.processing.messages import user\n\n\n"
        "@dataclass(frozen=True)\nclass Echo:\n    word: str = 'hello'\n    name = 'echo'\n\n"
        "    def state(self, seed):\n        return {'word': f'{self.word}{seed}'}\n\n"
        "    def prompt(self, state):\n        return [user(f\"Say {state['word']}\")], {}\n\n"
        "    def verify(self, state, answer):\n        right = answer == state['word']\n"
        "        return Verdict(float(right), right, right, 'Yes.' if right else 'No.')\n\n"
        "    def solution(self, state):\n        return state['word']\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    world = make_environment({"kind": "my_world:Echo", "word": "hi"})
    state = world.state(3)
    assert world.verify(state, "hi3").success and not world.verify(state, "hi").success
    assert world.advance(state, "hi3") == state and world.attempts == 1
    with pytest.raises(EntryError, match="word"):
        make_environment({"kind": "my_world:Echo", "words": 1})
