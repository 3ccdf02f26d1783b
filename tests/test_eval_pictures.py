"""Rows on easy-VQA and on photographs: what is asked, what counts, and what is none of theirs."""

import shutil

import pytest

from data_shards.build import build
from data_shards.sources import SOURCES
from eval.answering.answerer import Answerer
from eval.rows.heldout import load_heldout
from eval.run import evaluate
from eval.suites.pictures import ROWS, category_docs
from omni.processing.messages import media_refs

NAMES = [row.name for row in ROWS]


@pytest.fixture(scope="module")
def data(tmp_path_factory, kinds, demo):
    """Held-out stamps and speech, easy-VQA's test set and photographs in one folder."""
    folder = tmp_path_factory.mktemp("rows") / "data"
    shutil.copytree(kinds, folder)
    build(SOURCES["easyvqa"](path=demo.easyvqa), folder / "easyvqa")
    build(SOURCES["photos"](path=demo.photos), folder / "photos")
    return folder


def knowing(data, says=lambda expected: expected) -> Answerer:
    """One who knows every answer by its picture and question."""
    held = load_heldout(data)
    key = {repr(doc.messages): doc.expected for row in ROWS for doc in row.docs(held)}

    def answer(batch, generation, keys):
        return [says(key[repr(m)]) if repr(m) in key else "unknown" for m in batch]

    return Answerer(answer, cost=lambda messages: 1)


def test_the_rows_ask_score_and_control(data, tmp_path):
    answerer = knowing(data, says=lambda expected: f"The {expected}.")
    result = evaluate(answerer, "w", "mini", data, tmp_path, rows=NAMES)
    rows = {row["name"]: row for row in result["rows"]}
    assert {name: (row["score"], row["n"]) for name, row in rows.items()} == {
        "easyvqa": (100, 6), "photos_category": (100, 6), "photos_name": (100, 6),
    }  # fmt: skip
    assert all(row["blind"] == 0 for row in rows.values())
    assert all(row["controls"]["shuffled_images"]["score"] < 100 for row in rows.values())
    assert rows["photos_category"]["chance"] == pytest.approx(100 / 3)
    assert rows["photos_name"]["chance"] == pytest.approx(100 / 6)
    assert set(rows["easyvqa"]["categories"]) == {"colour", "shape"}
    assert set(rows["photos_name"]["categories"]) == {"animal", "landmark", "tool"}


def test_chance_on_easyvqa_is_the_best_answer_to_each_question_of_all(data, tmp_path):
    # three pictures share one question with three answers; three questions have one each
    for limit in (None, 2):
        (row,) = evaluate(
            knowing(data), "w", "mini", data, tmp_path / str(limit), rows=["easyvqa"], limit=limit
        )["rows"]
        assert row["chance"] == pytest.approx(100 * (1 + 3) / 6)


def test_a_name_counts_where_its_words_stand_whole(data, tmp_path):
    for number, (says, score) in enumerate(
        ((lambda e: f"I think it is a {e}, yes", 100), (lambda e: f"{e}ish", 0))
    ):
        out = tmp_path / str(number)
        (row,) = evaluate(
            knowing(data, says), "w", "mini", data, out, rows=["photos_name"], controls=False
        )["rows"]
        assert row["score"] == score


def test_their_pictures_are_not_those_of_other_rows(data):
    held = load_heldout(data)
    assert held.source == "stamps" and len(held.pictures) == 12
    others = {ref for doc in category_docs(held) for _, ref in media_refs(doc.messages)}
    assert not others & {picture.data for picture in held.pictures}
    counts = [doc.expected for doc in category_docs(held)]
    assert {counts.count(name) for name in counts} == {2}


@pytest.mark.parametrize(
    ("name", "source"), [*zip(NAMES, ("easyvqa", "photos", "photos"), strict=True)]
)
def test_without_its_data_a_row_says_how_to_make_them(name, source, kinds, tmp_path):
    result = evaluate(Answerer(lambda *_: [], lambda m: 1), "w", "mini", kinds, tmp_path,
                      rows=[name])  # fmt: skip
    (row,) = result["rows"]
    assert row["score"] is None
    assert f"`omni-shards build {source} --out" in row["missing"]
    assert f"{name} is missing" in (tmp_path / "table.md").read_text()
