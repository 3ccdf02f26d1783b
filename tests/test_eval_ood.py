"""The suite ood: the same states under training's rules and others, verified and paired."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from typer.testing import CliRunner

from data_shards.environments import make_environment
from eval.answering.answerer import Answerer
from eval.cli import app
from eval.run import evaluate
from eval.suites import ood
from eval.suites.registry import asked_suite

Policy = Callable[[Any, list[dict[str, Any]]], str]


@pytest.fixture(autouse=True)
def few(monkeypatch):
    """Few prompts are enough."""
    monkeypatch.setattr(ood, "DOCS", 24)
    monkeypatch.setattr(ood, "ROUTES", 6)


@pytest.fixture
def measure(tmp_path):
    """Return a function: options, policy(doc, conversation) -> the rows by name, and the table."""

    def run(policy: Policy, *env: str, **more: Any) -> tuple[dict[str, Any], str]:
        suite = asked_suite("ood", None, env=env)
        docs = {}
        for row in suite.rows:  # type: ignore[union-attr]
            try:
                found = row.docs(suite.open(None))  # type: ignore[union-attr]
            except LookupError:
                continue
            docs |= {repr(doc.messages): doc for doc in found}

        def answer(batch, generation, keys):
            return [policy(docs.get(repr(talk[:1])), talk) for talk in batch]

        out = tmp_path / str(len(list(tmp_path.iterdir())))
        result = evaluate(Answerer(answer, lambda m: 1), out.name, suite, None, out, **more)
        table = " ".join((out / "table.txt").read_text().split())
        return {row["name"]: row for row in result["rows"]}, table

    return run


def oracle(doc, talk):
    return doc.expected if doc else "?"


KINDS = {
    ("variant=text",): ["in_distribution", "same_hands", "rule_shift"],
    ("variant=image", "side=64"): ["in_distribution", "same_hands", "rule_shift", "visual_shift"],
    ("kind=navigation",): ["in_distribution", "rule_shift", "visual_shift"],
    ("kind=navigation", "variant=image", "side=64", "legs=2", "answer=action"): [
        "in_distribution", "rule_shift", "visual_shift",
    ],
}  # fmt: skip


@pytest.mark.parametrize("env", KINDS)
def test_the_solver_is_right_in_every_row(measure, env):
    rows, table = measure(oracle, *env)
    assert list(rows) == KINDS[env]
    for row in rows.values():
        assert row["score"] == 100 and row["n"] >= 24 and 50 < row["ci_low"] < 100
        if row["blind"] is not None:
            assert row["blind"] < 60  # what the oracle here knows it from is gone
    assert "against" in rows["rule_shift"]["details"] and "paired by" in table


def test_what_knows_the_old_rule_alone_falls_where_the_rule_is_new(measure):
    old = make_environment({"kind": "generalpoints", "faces": "ten"})

    def memorised(doc, talk):
        return old.solution(doc.state)

    rows, table = measure(memorised, "hands=any")
    assert rows["in_distribution"]["score"] == rows["same_hands"]["score"] == 100
    shift = rows["rule_shift"]
    assert shift["score"] == 0 and shift["n"] == rows["same_hands"]["n"]
    found = shift["details"]["against"]
    assert (found["row"], found["score"]) == ("same_hands", -100) and found["p"] < 0.05
    assert "rule_shift: -100.0 (-100.0 to -100.0) against same_hands" in table


def test_shifted_states_are_the_same_and_what_was_never_trained_on():
    rows = {row.name: row for row in ood.rows_of(ood.entry_of(["variant=image", "side=64"]))}
    docs = {name: row.docs(None) for name, row in rows.items()}  # type: ignore[arg-type]
    for one, other in (("same_hands", "rule_shift"), ("in_distribution", "visual_shift")):
        assert [d.name for d in docs[one]] == [d.name for d in docs[other]]
        for a, b in zip(docs[one], docs[other], strict=True):
            assert a.state["cards"] == b.state["cards"] and a.image_identity == b.image_identity
            assert repr(a.messages) != repr(b.messages)
    assert all({"J", "Q", "K"} & set(d.state["cards"]) for d in docs["rule_shift"])
    assert all(set(d.state["suits"]) <= {"H", "D"} for d in docs["visual_shift"])
    assert all(set(d.state["suits"]) <= {"S", "C"} for d in docs["in_distribution"])
    train = make_environment({"kind": "generalpoints", "split": "train"})
    trained = {train.world.identity(train.state(seed)) for seed in range(300)}  # type: ignore[attr-defined]
    assert not trained & {doc.image_identity for some in docs.values() for doc in some}


@pytest.mark.parametrize(("attempts", "score"), [(1, 0), (2, 0), (3, 100)])
def test_what_fails_is_asked_again_with_the_words_of_the_verifier(measure, attempts, score):
    told = []

    def wrong_wrong_right(doc, talk):
        told.append([turn["content"][-1]["text"] for turn in talk])
        return "?" if len(talk) < 5 else doc.expected

    rows, _ = measure(wrong_wrong_right, f"attempts={attempts}", rows="in_distribution", limit=4)
    row = rows["in_distribution"]
    assert row["score"] == score and f"{attempts} attempt" in row["how"]
    assert {len(texts) for texts in told} == set(range(1, 2 * attempts, 2)[:3])
    assert all("You failed this trial because" in texts[2] for texts in told if len(texts) > 2)


def test_routes_succeed_where_every_step_does(measure):
    def stops_late(doc, talk):
        return "forward()" if doc.expected == "stop()" else doc.expected

    rows, table = measure(stops_late, "kind=navigation", "answer=action", rows="in_distribution")
    row = rows["in_distribution"]
    assert row["details"]["route_success"] == 0
    assert row["score"] == pytest.approx(100 * (1 - ood.ROUTES / row["n"]))
    assert f"0.0 % of {ood.ROUTES} routes have every step right" in table
    forward, _ = measure(lambda doc, talk: "forward()", "kind=navigation", "answer=action")
    assert forward["in_distribution"]["score"] == pytest.approx(row["chance"])


def test_what_has_no_shift_is_missing_with_its_reason(measure):
    rows, _ = measure(oracle, "cards=3", "high=6", "variant=image", "suits=any")
    assert "no card up to rank 6 is a face card" in rows["rule_shift"]["missing"]
    assert "black and red" in rows["visual_shift"]["missing"]
    assert rows["in_distribution"]["score"] == 100


@pytest.mark.parametrize(
    ("arguments", "words"),
    [(["--suite", "ood", "--env", "cards"], "write KEY=VALUE"),
     (["--suite", "ood", "--env", "card=3"], "cards"),
     (["--suite", "ood", "--env", "attempts=0"], "from 1 to 100"),
     (["--suite", "ood", "--env", "kind=chess"], "generalpoints"),
     (["--env", "cards=3"], "--env says which world")],
)  # fmt: skip
def test_what_cannot_be_asked_is_refused(arguments, words, tmp_path):
    result = CliRunner().invoke(app, ["nothing", *arguments, "--out", str(tmp_path)])
    assert result.exit_code != 0
    assert words in " ".join(result.output.split()) + str(result.exception)


def test_a_checkpoint_is_measured(tiny_checkpoint, tmp_path):
    result = CliRunner().invoke(
        app, [str(tiny_checkpoint), "--suite", "ood", "--env", "variant=image", "--env", "side=64",
              "--env", "attempts=2", "--limit", "2", "--max-new-tokens", "3",
              "--out", str(tmp_path)],
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    rows = json.loads((tmp_path / "rows.json").read_text())["rows"]
    assert [(row["name"], row["score"], row["n"]) for row in rows] == [
        (name, 0.0, 2) for name in ("in_distribution", "same_hands", "rule_shift", "visual_shift")
    ]
