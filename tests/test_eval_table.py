"""Tables of finished results: the published means, side by side, every form, two runs compared."""

import csv
import io
import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from eval.cli import app
from eval.report.mean import mean_of_ten
from eval.report.published import published
from eval.report.table import grid
from eval.scoring.right import Outcome, proportion
from eval.scoring.units import categories, stored_units
from eval.table_commands import Form

TEN = published().mean_of
PAPER = {
    "Baichuan-Omni-1.5": 73.30, "Qwen2-VL-7B": 72.31, "MiniCPM-Llama3-V 2.5": 64.96,
    "VITA 8x7B": 62.45, "VITA-1.5": 69.19, "Baichuan-Omni": 65.87, "MiniCPM-o 2.6": 73.17,
}  # fmt: skip


def run(*arguments: object) -> str:
    done = CliRunner().invoke(app, [str(a) for a in arguments])
    assert done.exit_code == 0, done.output
    return done.stdout


def outcomes(right: list[float], question: str = "What?") -> list[Outcome]:
    return [
        Outcome(str(k), question, "yes", "yes" if hit else "no", hit, category="odd" * (k % 2))
        for k, hit in enumerate(right)
    ]


def row(name: str, right: list[float], **more) -> dict:
    scored = proportion(outcomes(right), 50.0)
    return {
        "name": name, "title": TEN.get(name, name), "score": scored.score, "n": scored.n,
        "ci_low": scored.ci_low, "ci_high": scored.ci_high, "blind": None, "chance": 50.0,
        "how": "official", "controls": {}, "details": {}, "missing": "", "categories": {}, **more,
    }  # fmt: skip


def write(folder: Path, found: dict[str, list[float]], **more) -> Path:
    folder.mkdir(parents=True)
    lines = [row(name, right) for name, right in found.items()]
    units = {name: stored_units(proportion(outcomes(right), 50)) for name, right in found.items()}
    tallies = {name: proportion(outcomes(right), 50).units for name, right in found.items()}
    result = {"model": folder.name, "suite": "x", "images": "files", "limit": None, "problems": [],
              "data": "d", "rows": lines, "mean": mean_of_ten(lines, tallies), **more}  # fmt: skip
    (folder / "rows.json").write_text(json.dumps(result))
    (folder / "units.json").write_text(json.dumps(units))
    return folder


def test_published_means_are_those_of_the_paper():
    found = json.loads(run("table", "--published", "--format", "json"))
    means = {column["model"]: column["mean"] for column in found["columns"]}
    scores = {model: mean["score"] for model, mean in means.items()}
    assert scores == {
        "GPT-4o": None, "GPT-4o-mini": None,
        **{model: pytest.approx(mean, abs=0.0051) for model, mean in PAPER.items()},
    }  # fmt: skip
    assert means["GPT-4o-mini"]["why"] == "9 of 10, missing ChartQA"
    assert means["GPT-4o"]["missing"] == ["SEED-IMG", "TextVQA (val)"]


def test_the_published_table_prints_means_refusals_and_sources():
    text = run("table", "--published")
    for part in ("73.30", "73.17", "72.31", "9 of 10, missing ChartQA", "2501.15368", "83.4◇"):
        assert part in text
    assert "README" in text


@pytest.mark.parametrize("missing", TEN)
def test_nine_of_ten_have_no_mean(missing):
    rows = [row(name, [1, 0]) for name in TEN if name != missing]
    rows += [row(f"mini-{missing}", [1, 0]), row("category", [1])]
    mean = mean_of_ten(rows)
    assert mean["score"] is None
    assert mean["why"] == f"9 of 10, missing {TEN[missing]}"
    unscored = row(missing, [1, 0], score=None, missing="no files")
    assert mean_of_ten([*rows, unscored])["rows"] == 9
    assert mean_of_ten([unscored])["why"] == "0 of 10"


def test_the_mean_is_of_whole_benchmarks_and_the_mini_suite_has_none():
    rows = [row(name, [1, 0]) for name in TEN]
    units = {name: {"a": [(1, 1)], "b": [(0, 1)]} for name in TEN}
    mean = mean_of_ten([*rows, row("mini-chartqa", [1])], units)
    assert (mean["score"], mean["rows"], mean["why"]) == (50, 10, "")
    assert 20 < mean["ci_low"] < 50 < mean["ci_high"] < 80
    assert mean_of_ten(rows, units, limit=5)["why"] == "limited to 5 questions a row"
    rows[3]["details"] = {"incomplete": "2 of 900 docs"}
    assert mean_of_ten(rows, units)["why"] == "not whole: MMMU (val) 2 of 900 docs"
    for line in rows:
        line["details"] = {"incomplete": "2 of 900 docs"}
    assert mean_of_ten(rows, units)["why"] == "10 of 10 are not whole"
    assert mean_of_ten([row("mini-chartqa", [1])]) is None


def test_yours_stands_beside_the_published(tmp_path):
    ours = write(tmp_path / "mine", {name: [1, 1, 1, 0] for name in TEN} | {"mini-mmmu": [1]})
    text = run("table", ours, "--with", "published", "--format", "markdown")
    head, _, *lines = [line for line in text.splitlines() if line.startswith("|")]
    assert "mine (measured)" in head
    assert head.count("(published)") == 9
    mean = next(line for line in lines if line.startswith("| mean of 10"))
    assert re.match(r"\| mean of 10 \| 75\.00 \(\d\d\.\d\d–\d\d\.\d\d\) \| 73\.30 \|", mean)
    assert [line.split(" | ")[0][2:] for line in lines] == [
        *TEN.values(), "mean of 10", "mini-mmmu"
    ]  # fmt: skip
    assert "other prompts and judges" in text


@pytest.mark.parametrize("form", Form)
def test_every_form_shows_every_model(form, tmp_path):
    nine = {name: [1, 0] for name in list(TEN)[1:]}
    folders = [write(tmp_path / "one" / "eval_a", nine), write(tmp_path / "one" / "eval_b", nine)]
    text = run("table", *folders, "--with", "Qwen2-VL-7B", "--format", form.value)
    escaped = form is Form.latex
    for model in ("eval_a", "eval_b", "Qwen2-VL-7B"):
        assert model.replace("_", r"\_" if escaped else "_") in text
    assert "9 of 10, missing MMBench-EN" in text
    if form is Form.csv:
        lines = [*csv.DictReader(io.StringIO(text))]
        assert len(lines) == 10 + 10 + 12
        mean = next(x for x in lines if (x["model"], x["row"]) == ("Qwen2-VL-7B", "mean"))
        assert float(mean["score"]) == pytest.approx(72.31)
    if form is Form.latex:
        rows = text.partition(r"\midrule")[2].partition(r"\bottomrule")[0].splitlines()
        assert all(line.count("&") == 3 for line in rows if "&" in line)


def test_one_result_is_shown_in_detail(tmp_path):
    folder = write(tmp_path / "a", {"category": [1, 0, 1]})
    assert "66.7" in (text := run("table", folder / "rows.json"))
    assert "blind" in text
    assert "mean" not in text.split("scored:")[0]


def test_what_is_true_of_several_rows_is_said_once(tmp_path):
    rule = {"rule": "all copies must be right"}
    lacks = {"left_out": ["3: no image"], "incomplete": "1 of 9 docs"}
    rows = [row("a", [1], details=rule), row("b", [1], details=rule | lacks, how="judged by gpt")]
    folder = write(tmp_path / "x", {}, rows=rows)
    text = run("table", folder)
    assert "Not whole benchmarks: b 1 of 9 docs." in text
    assert "Not whole: b 1 of 9 docs." in run("table", folder, "--with", "VITA-1.5")
    assert "a, b: all copies must be right." in text
    assert "b: 1 docs left out; the first: 3: no image." in text
    assert "judged, by it with the model that is named" in text
    assert "static" not in text


def test_what_cannot_be_shown_is_refused_in_words(tmp_path):
    bad = tmp_path / "rows.json"
    bad.write_text('{"rows": 3}')
    for arguments, words in [
        ([tmp_path / "no"], "no such file"),
        ([bad], "not what omni-eval writes"),
        ([], "--published"),
        (["--with", "GPT-9"], "there are: Baichuan-Omni-1.5"),
    ]:
        done = CliRunner().invoke(app, ["table", *map(str, arguments)])
        assert done.exit_code == 2
        assert words in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [["run", "[image]", "--rows", "[/tmp/x]"], ["prepare", ".", "--rows", "[/tmp/x]"],
     ["table", "[/tmp/x]"]],
)  # fmt: skip
def test_a_refusal_says_every_word_and_not_among_the_results(arguments):
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 2
    assert "[/tmp/x]" in done.stderr
    assert done.stdout == ""


def test_a_fault_of_ours_is_no_refusal(monkeypatch):
    monkeypatch.setattr("eval.run.choose", lambda *_: {}["x"])
    assert isinstance(CliRunner().invoke(app, ["run", "folder"]).exception, KeyError)


def test_two_runs_are_compared_on_their_common_questions(tmp_path):
    better = write(tmp_path / "new", {"a": [1] * 60 + [0] * 40, "b": [1, 0] * 50, "c": [1]})
    worse = write(tmp_path / "old", {"a": [1] * 50 + [0] * 40, "b": [1, 0] * 50})
    found = json.loads(run("compare", better, worse, "--format", "json"))
    a, b = found["rows"]
    assert (a["n"], a["first"], a["score"]) == (
        90,
        pytest.approx(100 * 60 / 90),
        pytest.approx(100 / 9),
    )
    assert a["low"] > 0
    assert a["p"] < 0.01
    assert (b["score"], b["p"], b["detectable"]) == (0, 1, None)
    assert found["mean"]["title"] == "mean of these 2"
    assert found["mean"]["score"] == pytest.approx(100 / 18)
    text = run("compare", better, worse)
    assert "+11.1" in text
    assert "Only in one of the two: c." in text
    lines = [*csv.DictReader(io.StringIO(run("compare", better, worse, "--format", "csv")))]
    assert [line["name"] for line in lines] == ["a", "b", "mean"]
    assert float(lines[0]["score"]) == a["score"]


def test_the_same_number_of_another_question_is_not_compared(tmp_path):
    one = write(tmp_path / "one", {"a": [1, 0, 1]})
    two = write(tmp_path / "two", {"a": [1, 0, 1]}, data="other")
    assert "different files" in run("compare", one, two)
    scored = proportion(outcomes([1, 0, 1], "Another?"), 50)
    (two / "units.json").write_text(json.dumps({"a": stored_units(scored)}))
    done = CliRunner().invoke(app, ["compare", str(one), str(two)])
    assert done.exit_code == 2
    assert "no question in common" in done.stderr


def test_the_mean_of_a_comparison_is_that_of_the_ten_where_both_have_it(tmp_path):
    rows = {name: [1, 0, 1, 0] for name in TEN}
    one = write(tmp_path / "one", rows | {"category": [1, 1, 1, 1]})
    two = write(tmp_path / "two", rows | {"category": [0, 0, 0, 0]})
    found = json.loads(run("compare", one, two, "--format", "json"))
    assert (found["mean"]["title"], found["mean"]["score"]) == ("mean of the 10", 0)


def test_categories_are_scored_like_their_row():
    scored = proportion(outcomes([1, 0, 1, 1]), 50)
    assert categories(scored) == {"": {"score": 100, "n": 2}, "odd": {"score": 50, "n": 2}}
    for outcome in scored.outcomes:
        outcome.category = "same"
    assert categories(scored) == {}


def test_a_category_is_not_judged_by_the_accuracies_of_others():
    """As in MMStar and MME, where every category has accuracies of its own."""
    scored = proportion(outcomes([1, 1, 1, 1]), 50)
    for outcome in scored.outcomes:
        mine, none = [(1.0, 1.0)], [(0.0, 0.0)]
        scored.units[outcome.unit] = none + mine if outcome.category else mine + none
    assert {name: found["score"] for name, found in categories(scored).items()} == {
        "": 100, "odd": 100
    }  # fmt: skip


def test_units_that_do_not_give_the_score_are_not_compared():
    scored = proportion(outcomes([1, 0]), 50)
    scored.score = 12.0
    assert stored_units(scored) == {}


@pytest.mark.parametrize(("second", "shown"), [(50.0, False), (50.04, False), (62.5, True)])
def test_a_second_column_where_vlmevalkit_differs(second, shown):
    lines = [row(name, [1, 0], vlmeval=second) for name in TEN]
    tallies = {name: proportion(outcomes([1, 0]), 50).units for name in TEN}
    mean = mean_of_ten(lines, tallies)
    result = {"images": "files", "limit": None, "problems": [], "rows": lines, "mean": mean}
    table = grid(result)
    assert ("VLMEvalKit" in table.head) == shown
    assert any("without a judge" in note for note in table.notes if "VLMEvalKit" in note) == shown
    if shown:
        assert {line[3] for line in table.rows[:-1]} == {"62.5"}
        assert table.rows[-1][3] == "62.50"
    assert len({len(line) for line in [table.head, *table.rows]}) == 1
    lines[0] |= {"missing": "no files", "score": None}
    lines[1]["vlmeval"] = 0.0
    assert grid(result | {"mean": mean_of_ten(lines, tallies)}).rows[-1][3] == ""
