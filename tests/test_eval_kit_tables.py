"""TSV files as VLMEvalKit publishes them: every benchmark it shares with us is read, or refused."""

import base64
import json
from pathlib import Path

import pandas
import pyarrow.parquet
import pytest

from eval.suites.kit import TABLES
from eval.suites.prepare import prepare
from eval.suites.registry import SUITES

SPECS = {row.name: row for name in ("image10", "image") for row in SUITES[name].rows}
OPTIONS = dict(zip("ABCD", ("a dog", "None", "three cats, one owl", "4"), strict=True))
WORDS = list(OPTIONS.values())
LETTER = "Please answer directly with only the letter of the correct option and nothing else."
ASKED = "Hint: Please answer.\nQuestion: How many are there?\nChoices:\n(A) 7\n(B) 14"

# name -> (its file, a row there, what becomes of it, further rows that do not count)
CASES = {
    "mmbench_en": (
        "MMBench_DEV_EN",
        {"question": "Which?", "hint": "", **OPTIONS, "answer": "B", "category": "ocr",
         "l2-category": "x", "split": "dev"},
        {"question": "Which?", "hint": None, **OPTIONS, "L2-category": "x"},
        [{"split": "test"}],
    ),
    "mmbench_cn": (
        "MMBench_DEV_CN",
        {"question": "哪个？", **OPTIONS, "answer": "C", "category": "ocr", "split": "dev"},
        {"question": "哪个？", "answer": "C", **OPTIONS},
        [],
    ),
    "seedbench": (
        "SEEDBench_IMG",
        {"question": "Which?", **OPTIONS, "answer": "D", "category": "Instances Counting"},
        {**{f"choice_{k.lower()}": text for k, text in OPTIONS.items()}, "answer": "D",
         "question_type_id": 5, "data_type": "image"},
        [],
    ),
    "mmmu": (
        "MMMU_DEV_VAL",
        {"question": "<image 1> Which?", **OPTIONS, "answer": "B", "split": "validation",
         "category": "Art Theory"},
        {"options": str(WORDS), "question_type": "multiple-choice", "answer": "B",
         "id": "validation_Art_Theory_1", "image_2": None},
        [{"split": "dev"}],
    ),
    "hallusionbench": (
        "HallusionBench",
        {"index": "VD_illusion_1_3_1_2", "question": "Is it?", "answer": "Yes", "category": "VD",
         "l2-category": "illusion"},
        {"category": "VD", "subcategory": "illusion", "visual_input": "1", "set_id": "3",
         "figure_id": "1", "question_id": "2", "gt_answer": "1"},
        [{"index": "VS_chart_0_1_0_0", "image": "", "image_path": ""}],
    ),
    "realworldqa": (
        "RealWorldQA",
        {"question": "Which?", **OPTIONS, "answer": "B"},
        {"question": "\n".join(["Which?", *(f"{k}. {v}" for k, v in OPTIONS.items()), LETTER]),
         "answer": "B"},
        [],
    ),
    "mathvista": (
        "MathVista_MINI",
        {"question": ASKED, "answer": "14", "answer_option": "B", "choices": "['7', '14']",
         "question_type": "multi_choice", "answer_type": "text", "task": "geometry",
         "skills": "['arithmetic reasoning']"},
        {"question": "How many are there?", "query": ASKED, "choices": ["7", "14"], "answer": "14",
         "precision": 0.0},
        [],
    ),
    "textvqa": (
        "TextVQA_VAL",
        {"question": "what brand?", "answer": str(["nokia", "it's a [1] phone"] * 5)},
        {"answers": ["nokia", "it's a [1] phone"] * 5, "question_id": 1},
        [],
    ),
    "chartqa": (
        "ChartQA_TEST",
        {"question": "How many?", "answer": "['14']", "split": "test_human"},
        {"answer": "14", "type": "human_test"},
        [],
    ),
    "ocrbench": (
        "OCRBench",
        {"question": "What is written?", "answer": "['x ^ 2', 'x']",
         "category": "Handwritten Mathematical Expression Recognition"},
        {"answer": ["x ^ 2", "x"], "dataset": "HME100k"},
        [],
    ),
    "ai2d": (
        "AI2D_TEST",
        {"question": "Which?", **OPTIONS, "answer": "C"},
        {"options": WORDS, "answer": "2"},
        [],
    ),
    "mmstar": (
        "MMStar",
        {"question": "Which?", **OPTIONS, "answer": "C", "category": "math",
         "l2_category": "geometry"},
        {"question": "Which?\nOptions: A: a dog, B: None, C: three cats, one owl, D: 4",
         "answer": "C"},
        [],
    ),
    "scienceqa_img": (
        "ScienceQA_TEST",
        {"question": "Which?", "A": "ice", "B": "tea", "answer": "B", "hint": ""},
        {"choices": ["ice", "tea"], "answer": 1, "hint": ""},
        [{"image": "", "image_path": ""}],
    ),
    "pope": (
        "POPE",
        {"question": "Is there a dog?", "answer": "Yes", "category": "random"},
        {"answer": "yes", "category": "random"},
        [],
    ),
    "mme": (
        "MME",
        {"question": "Is it? Please answer yes or no.", "answer": "No", "category": "count",
         "image_path": "pair.png"},
        {"answer": "No", "question_id": "pair.png"},
        [],
    ),
    "docvqa": (
        "DocVQA_VAL",
        {"question": "When?", "answer": "['May 9, 1999']"},
        {"answers": ["May 9, 1999"]},
        [],
    ),
    "infovqa": ("InfoVQA_VAL", {"question": "How?", "answer": "['9']"}, {"answers": ["9"]}, []),
}  # fmt: skip


@pytest.fixture
def table(tmp_path, make_picture):
    """(name, rows, ways to have the image) -> what `prepare` says; the files are in tmp_path."""
    picture = make_picture(0)
    text = base64.b64encode(picture).decode()
    (tmp_path / "images" / "some").mkdir(parents=True)
    (tmp_path / "images" / "some" / "pair.png").write_bytes(picture)
    ways = {
        "base64": {"image": text}, "list": {"image": str([text])}, "index": {"image": "1"},
        "path": {"image_path": "pair.png"}, "paths": {"image_path": "['pair.png']"},
        "json": {"image": json.dumps([text])},
    }  # fmt: skip

    def write(name: str, rows: list[dict], *how: str):
        ids = {"index": range(1, 99)}
        lines = [
            {"index": ids["index"][k], **ways[way], **row}
            for k, (row, way) in enumerate(zip(rows, how, strict=True))
        ]
        file = tmp_path / f"{CASES[name][0]}.tsv"
        pandas.DataFrame(lines).to_csv(file, sep="\t", index=False)
        (found,) = prepare(tmp_path, [SPECS[name]])
        return found

    write.picture = picture
    return write


def images(row: dict) -> list[bytes]:
    cells = [row[k] for k in row if k in ("image", "decoded_image", "image_1") and row[k]]
    cells = [cell for cell in cells if not isinstance(cell, str)]
    return [i["bytes"] for cell in cells for i in (cell if isinstance(cell, list) else [cell])]


def test_every_benchmark_that_both_have_is_tried():
    assert set(CASES) == set(TABLES) == set(SPECS)


@pytest.mark.parametrize("name", list(CASES))
def test_its_tsv_becomes_the_published_schema(name, table, tmp_path):
    _, row, wanted, ignored = CASES[name]
    ways = ["base64", "list", "path", "index", "json", "paths"]
    rows = [dict(row) for _ in ways]
    if name == "hallusionbench":  # a figure for each row; its indices are words
        rows = [{**row, "index": f"VD_illusion_1_{k}_1_2"} for k in range(len(ways))]
        rows[0]["index"], ways[3] = row["index"], "base64"
    found = table(name, [*rows, *({**row, **more} for more in ignored)],
                  *ways, *("base64" for _ in ignored))  # fmt: skip
    assert (found.missing, found.problems) == ("", [])
    written = pyarrow.parquet.read_table(tmp_path / found.converted).to_pylist()
    assert len(written) == found.docs == len(ways)
    assert {k: written[0][k] for k in wanted} == wanted
    assert all(images(doc) == [table.picture] for doc in written)


@pytest.mark.parametrize(
    ("name", "more", "said"),
    [
        ("realworldqa", {"D": "", "E": "five"}, "with a gap"),
        ("realworldqa", {"image": "77"}, "its image 77 is no row's index, and no file"),
        ("realworldqa", {"image": "", "image_path": "none.png"}, "its image none.png is no row's"),
        ("chartqa", {"split": "val"}, "test_human or test_augmented"),
        ("seedbench", {"category": "Cooking"}, "'Cooking' is none of Scene Understanding"),
        ("seedbench", {"D": ""}, "3 options, not 4"),
        ("hallusionbench", {"index": "7"}, "VD_illusion_1_0_1_2 is wanted"),
        ("hallusionbench", {"answer": "Maybe"}, "neither Yes nor No"),
        ("ai2d", {"answer": "E"}, "'E' is none of 4 options"),
        ("pope", {"answer": "?"}, "neither yes nor no"),
        ("ocrbench", {"image": "['QUJD" + "A" * 80}, "its list of images does not end"),
        ("docvqa", {"image": str(["QUJD" * 20] * 2)}, "2 images where the published"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_refused_by_its_row(name, more, said, table):
    found = table(name, [{**CASES[name][1], **more}], "base64")
    assert said in found.missing
    assert "the row of index" in found.missing
    assert found.docs == 0


@pytest.mark.parametrize("name", ["mathvista", "mme", "ocrbench", "mmstar"])
def test_a_column_that_is_missing_is_named(name, table):
    gone = {"mathvista": "task", "mme": "image_path", "ocrbench": "category"}.get(name, "category")
    row = {k: v for k, v in CASES[name][1].items() if k != gone}
    assert f"no column '{gone}'" in table(name, [row], "base64").missing


def test_several_images_of_a_question_keep_their_order(table, tmp_path, make_picture):
    texts = [base64.b64encode(make_picture(k)).decode() for k in range(2)]
    row = {**CASES["mmmu"][1], "question": "<image 1> or <image 2>?", "image": str(texts)}
    found = table("mmmu", [row], "base64")
    (doc,) = pyarrow.parquet.read_table(tmp_path / found.converted).to_pylist()
    assert [doc[f"image_{k}"]["bytes"] for k in (1, 2)] == [make_picture(k) for k in range(2)]
    assert found.problems == []


def test_open_questions_have_no_options(table, tmp_path):
    none = dict.fromkeys(OPTIONS, "")
    row = {**CASES["mmmu"][1], **none, "answer": "9.5", "id": "validation_Math_4"}
    found = table("mmmu", [row], "base64")
    (doc,) = pyarrow.parquet.read_table(tmp_path / found.converted).to_pylist()
    assert [doc[k] for k in ("question_type", "options", "id")] == ["open", "[]", row["id"]]
    found = table("realworldqa", [{**CASES["realworldqa"][1], **none, "answer": "2"}], "base64")
    (doc,) = pyarrow.parquet.read_table(tmp_path / found.converted).to_pylist()
    assert doc["question"] == "Which?\nPlease answer directly with a single word or number."


def test_no_file_loses_its_options_in_silence(tmp_path):
    (tmp_path / "realworldqa").mkdir()
    row = {"question": "Which?", **OPTIONS, "answer": "B", "image": "QUJD"}
    (tmp_path / "realworldqa" / "test.jsonl").write_text(json.dumps(row))
    (found,) = prepare(tmp_path, [SPECS["realworldqa"]])
    assert "realworldqa has no columns A, B, C, D" in found.missing


def test_tables_whose_images_are_unpacked_are_known_by_name(table, tmp_path):
    name = "textvqa"
    table(name, [CASES[name][1]], "path")
    Path(tmp_path / "TextVQA_VAL.tsv").rename(tmp_path / "TextVQA_VAL_local.tsv")
    (tmp_path / name / "validation-00000.parquet").unlink()
    (found,) = prepare(tmp_path, [SPECS[name]])
    assert (found.docs, found.missing, found.problems) == (1, "", [])
