"""Public benchmarks from local files: found, checked, and scored by lmms-eval's own code."""

import base64
import io
import json
from dataclasses import replace
from pathlib import Path

import datasets
import pandas
import PIL.Image
import pyarrow.parquet
import pytest
from typer.testing import CliRunner

from eval.answering.answerer import Answerer
from eval.cli import app
from eval.minisuite import build_minisuite
from eval.rows.heldout import HeldOut, Picture
from eval.run import evaluate
from eval.suites.prepare import prepare
from eval.suites.registry import SUITES
from eval.suites.sources import Local, split_of

KINDS = ("animal", "food", "plant", "vehicle", "tool")


@pytest.fixture(scope="session")
def held(make_picture) -> HeldOut:
    pictures = [
        Picture(f"{kind}{n}", kind, f"The {kind} number {n}.", make_picture(n), "shard:key")
        for kind in KINDS
        for n in range(5)
    ]
    return HeldOut(pictures, source="stamps", digest="0" * 8)


@pytest.fixture(scope="session")
def files(held, tmp_path_factory) -> Path:
    """Small files in the published schemas, named and placed as on the hub."""
    root, scratch = tmp_path_factory.mktemp("public"), tmp_path_factory.mktemp("built")
    for row in SUITES["image10"].rows:
        made = build_minisuite(held, row.name, scratch, 3)
        folder = root / row.benchmark.title / "data"
        folder.mkdir(parents=True)
        made.rename(folder / f"{row.benchmark.split}-00000-of-00001.parquet")
    return root


def constant(text: str) -> Answerer:
    return Answerer(lambda batch, generation, keys: [text] * len(batch), cost=lambda messages: 50)


def ask(
    folder: Path | None, out: Path, *names: str, answerer=None, limit: int | None = None
) -> dict:
    answerer = answerer or constant("A")
    return evaluate(answerer, "w", "image10", folder, out, rows=names, controls=False, limit=limit)


@pytest.fixture
def copy(files, tmp_path):
    """One benchmark's file, to be spoiled, and the folder of its folder."""

    def place(title: str, change=lambda rows: None, drop: str = "", name: str = "") -> Path:
        (source,) = (files / title / "data").iterdir()
        target = tmp_path / "data" / title / (name or source.name)
        target.parent.mkdir(parents=True)
        table = pyarrow.parquet.read_table(source)
        schema = table.schema
        rows = table.to_pylist()
        change(rows)
        table = pyarrow.Table.from_pylist(rows, schema=schema)
        pyarrow.parquet.write_table(table.drop([drop] if drop else []), target)
        return tmp_path / "data"

    return place


@pytest.mark.parametrize("row", [row.name for row in SUITES["image10"].rows])
def test_files_as_on_the_hub_are_found(row, files):
    benchmark = next(spec.benchmark for spec in SUITES["image10"].rows if spec.name == row)
    (found,) = Local(files).find(benchmark)
    assert split_of(found) == benchmark.split
    assert found.parent.parent.name == benchmark.title


def test_folders_may_be_named_by_configuration(tmp_path):
    folder = tmp_path / "MMBench" / "en"
    folder.mkdir(parents=True)
    for split in ("dev", "test"):
        (folder / f"{split}-00000-of-00001-0123456789abcdef.parquet").touch()
    benchmark = SUITES["image10"].rows[0].benchmark
    assert [split_of(file) for file in Local(tmp_path).find(benchmark)] == ["dev"]


def test_a_folder_within_that_of_another_benchmark_is_its_own(tmp_path):
    repository, other = tmp_path / "DocVQA", tmp_path / "InfoVQA"
    for folder in (repository / "DocVQA", repository / "InfographicVQA", other / "data"):
        folder.mkdir(parents=True)
        (folder / "validation-00000-of-00001.parquet").touch()
    specs = {row.name: row.benchmark for row in SUITES["image"].rows}
    source = Local(tmp_path)
    assert [file.parent for file in source.find(specs["docvqa"])] == [repository / "DocVQA"]
    infographics = [file.parent for file in source.find(specs["infovqa"])]
    assert infographics == [repository / "InfographicVQA", other / "data"]


def test_docs_that_are_there_twice_are_not_the_benchmark(files, tmp_path):
    (spec,) = [row for row in SUITES["image10"].rows if row.name == "realworldqa"]
    (file,) = (files / "RealWorldQA" / "data").iterdir()
    for number in range(2):
        copied = tmp_path / "data" / "realworldqa" / f"test-{number:05}-of-00002.parquet"
        copied.parent.mkdir(parents=True, exist_ok=True)
        copied.write_bytes(file.read_bytes())
    twice = replace(spec, benchmark=replace(spec.benchmark, rows=3))
    (found,) = prepare(tmp_path / "data", [twice])
    assert (found.docs, found.complete) == (6, False)
    source = Local(tmp_path / "data")
    scored = twice.run(constant("A"), source, "normal", None, tmp_path / "out" / "work")
    assert scored.details["incomplete"] == "6 of 3 docs"


def test_rows_of_part_of_a_benchmark_say_so(files, tmp_path):
    result = ask(files, tmp_path)
    for row, spec in zip(result["rows"], SUITES["image10"].rows, strict=True):
        assert not row["missing"]
        assert row["details"]["incomplete"].endswith(f"of {spec.benchmark.rows} docs")
    limits = {
        row["name"]: [row["details"].get(f"{of}max_new_tokens") for of in ("", "official_")]
        for row in result["rows"]
    }
    assert limits["realworldqa"] == [16, None]  # as the official yaml says
    assert limits["ocrbench"] == [128, None]
    assert limits["mathvista"] == [128, 16384]
    table = (tmp_path / "table.txt").read_text()
    assert "answers end after 128 tokens, officially 16384" in " ".join(table.split())
    assert str(files) in result["images"]


def test_a_limit_takes_whole_units_from_the_whole_split(files, tmp_path):
    result = ask(files, tmp_path, "mmbench_en", "hallusionbench", limit=2)
    assert [row["n"] for row in result["rows"]] == [2, 8]
    assert result["rows"][0]["details"]["copies"] == 8
    lines = [json.loads(line) for line in (tmp_path / "answers.jsonl").read_text().splitlines()]
    docs = [int(line["doc"]) for line in lines if line["row"] == "hallusionbench"]
    assert docs == [*range(4), *range(4, 8)] or docs == [*range(4), *range(8, 12)]


def test_a_broken_image_costs_one_answer_and_is_named(copy, tmp_path):
    def spoil(rows):
        rows[0]["image"]["bytes"] = b"\x89PNG nothing"  # the first is decoded to make the task
        rows[2]["image"]["bytes"] = rows[2]["image"]["bytes"][:60]

    answers = Answerer(lambda batch, generation, keys: ["B"] * len(batch), cost=lambda m: 50)
    folder = copy("RealWorldQA", lambda rows: (spoil(rows), [r.update(answer="B") for r in rows]))
    result = ask(folder, tmp_path / "out", "realworldqa", answerer=answers)
    (row,) = result["rows"]
    assert (row["n"], round(row["score"])) == (3, 33)
    named = row["details"]["unreadable"]
    assert [problem.split(": ")[0] for problem in named] == ["realworldqa:0", "realworldqa:2"]
    assert all("not a readable image" in problem for problem in named)
    assert result["problems"] == named


@pytest.mark.parametrize(
    ("title", "column"), [("MMBench-EN", "hint"), ("MMBench-EN", "L2-category"),
                          ("HallusionBench", "image"), ("OCRBench", "question_type")],
)  # fmt: skip
def test_a_missing_column_is_named_before_anything_is_asked(title, column, copy, tmp_path):
    def never(batch, generation, keys):
        raise AssertionError("asked")

    name = next(spec.name for spec in SUITES["image10"].rows if spec.benchmark.title == title)
    folder = copy(title, drop=column)
    result = ask(folder, tmp_path / "out", name, answerer=Answerer(never, lambda m: 50))
    assert result["rows"][0]["score"] is None
    assert f"column '{column}' is missing" in result["rows"][0]["missing"]


def test_docs_without_an_answer_are_left_out_and_named(copy, tmp_path):
    folder = copy("RealWorldQA", lambda rows: rows[1].update(answer=None))
    (row,) = ask(folder, tmp_path / "out", "realworldqa")["rows"]
    assert row["n"] == 2
    assert row["details"]["left_out"][0].startswith("realworldqa:1: ")


def test_what_only_the_whole_set_shows_leaves_one_row_missing(copy, tmp_path):
    folder = copy("HallusionBench", lambda rows: rows[5].update(category=None))
    (row,) = ask(folder, tmp_path / "out", "hallusionbench")["rows"]
    assert row["missing"].startswith("lmms-eval cannot score these answers: TypeError")


def test_a_wrong_split_is_named_with_those_that_there_are(copy, tmp_path):
    folder = copy("RealWorldQA", name="train-00000.parquet")
    (row,) = ask(folder, tmp_path / "out", "realworldqa")["rows"]
    assert "no file of the split 'test', there is: train" in row["missing"]


def test_a_damaged_file_leaves_one_row_missing(copy, tmp_path):
    folder = copy("RealWorldQA")
    (file,) = (folder / "RealWorldQA").iterdir()
    file.write_bytes(file.read_bytes()[:200])
    result = ask(folder, tmp_path / "out", "realworldqa", "ocrbench")
    assert "RealWorldQA from" in result["rows"][0]["missing"]
    assert "put ocrbench/test-*.parquet there" in result["rows"][1]["missing"]


def test_without_a_folder_the_official_dataset_is_read(files, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr("eval.lmms.bridge.TRIES", 1)

    def load_dataset(path, name, **rest):
        asked.append((path, name, rest.get("data_files")))
        if "OCRBench" in path:
            raise ConnectionError("no route to the hub")
        (file,) = (files / "MMBench-EN" / "data").iterdir()
        read = datasets.Dataset.from_parquet(str(file), cache_dir=str(tmp_path))
        return datasets.DatasetDict({"dev": read, "test": read})

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    result = ask(None, tmp_path / "out", "mmbench_en", "ocrbench", limit=2)
    assert asked == [("lmms-lab-encoder/MMBench", "en", None), ("echo840/OCRBench", None, None)]
    assert (result["rows"][0]["n"], result["rows"][0]["details"]["copies"]) == (2, 8)
    assert "no route to the hub" in result["rows"][1]["missing"]
    assert result["images"] == "the Hugging Face datasets that lmms-eval 0.7.3 names"


def columns(file: Path) -> list[dict]:
    return pyarrow.parquet.read_table(file).to_pylist()


def test_prepare_makes_the_published_parquet_of_a_tsv(files, tmp_path):
    (original,) = (files / "MMBench-EN" / "data").iterdir()
    rows = columns(original)
    for row in rows:
        row["image"] = base64.b64encode(row["image"]["bytes"]).decode()
    rows[0]["A"] = "None"
    rows[3]["image"] = str(rows[0]["index"])  # how the published TSV says "the same image"
    pandas.DataFrame(rows).rename(columns={"L2-category": "l2-category"}).to_csv(
        tmp_path / "MMBench_DEV_EN.tsv", sep="\t", index=False
    )
    (spec,) = [row for row in SUITES["image10"].rows if row.name == "mmbench_en"]
    (found,) = prepare(tmp_path, [spec])
    assert found.problems == []
    assert (found.docs, found.of, found.complete) == (12, 4329, False)
    written = columns(tmp_path / found.converted)
    assert list(written[0]) == list(columns(original)[0])
    assert written[0]["A"] == "None"
    assert written[0]["hint"] is None
    assert written[3]["image"] == written[0]["image"]
    assert written[1:3] == columns(original)[1:3]
    (again,) = prepare(tmp_path, [spec])
    assert (again.converted, again.docs) == ("", 12)


@pytest.mark.parametrize("kind", ["jsonl", "arrow"])
def test_prepare_reads_other_files(kind, files, tmp_path):
    (original,) = (files / "OCRBench" / "data").iterdir()
    folder = tmp_path / "ocrbench"
    if kind == "arrow":
        read = datasets.Dataset.from_parquet(str(original), cache_dir=str(tmp_path / "cache"))
        datasets.DatasetDict({"test": read}).save_to_disk(str(folder))
    else:
        rows = columns(original)
        (folder / "images").mkdir(parents=True)
        for number, row in enumerate(rows):
            (folder / "images" / f"{number}.png").write_bytes(row["image"]["bytes"])
            row["image"] = f"images/{number}.png"
        lines = "\n".join(json.dumps(row) for row in rows)
        (folder / "test.jsonl").write_text(lines)
    (spec,) = [row for row in SUITES["image10"].rows if row.name == "ocrbench"]
    (found,) = prepare(tmp_path, [spec])
    assert (found.docs, found.problems, found.missing) == (3, [], "")
    written, rows = columns(tmp_path / found.converted), columns(original)
    assert [row["image"]["bytes"] for row in written] == [row["image"]["bytes"] for row in rows]
    assert [row["answer"] for row in written] == [row["answer"] for row in rows]


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("test.jsonl", '{"question": "What?"}\n{"question": ', "JSONDecodeError"),
        ("test.jsonl", '{"question": "What?", "image": "../secret.png"}', "is outside"),
        ("test.jsonl", '{"question": "What?", "image": "SECRET"}', "is outside"),
        ("test.tsv", "question\tanswer\timage\nWhat?\t[1,\tQUJD\n", "SyntaxError"),
    ],
)
def test_a_file_that_cannot_be_converted_costs_one_row(name, text, reason, files, copy, tmp_path):
    folder = copy("RealWorldQA")
    (folder / "secret.png").write_bytes(b"of somebody else")
    (folder / "ocrbench").mkdir()
    text = text.replace("SECRET", str(folder / "secret.png"))
    (folder / "ocrbench" / name).write_text(text)
    specs = {row.name: row for row in SUITES["image10"].rows}
    bad, good = prepare(folder, [specs["ocrbench"], specs["realworldqa"]])
    assert bad.missing.startswith(f"{folder / 'ocrbench' / name} cannot be converted: ")
    assert reason in bad.missing
    assert not list((folder / "ocrbench").glob("*.p*"))
    assert (good.docs, good.missing) == (3, "")


def test_a_small_image_in_base64_is_no_path(tmp_path):
    picture = io.BytesIO()
    PIL.Image.new("RGB", (16, 16)).save(picture, "BMP")
    text = base64.b64encode(picture.getvalue()).decode()
    assert 255 < max(map(len, text.split("/"))) < 4096  # too long for the name of a file
    (tmp_path / "realworldqa").mkdir()
    line = json.dumps({"image": text, "question": "What?", "answer": "A"})
    (tmp_path / "realworldqa" / "test.jsonl").write_text(line)
    (spec,) = [row for row in SUITES["image10"].rows if row.name == "realworldqa"]
    (found,) = prepare(tmp_path, [spec])
    assert (found.docs, found.problems, found.missing) == (1, [], "")


def test_prepare_tells_which_rows_are_complete(files, copy, monkeypatch):
    def spoil(rows):
        rows[1]["image"]["bytes"] = b"nothing"
        rows[2]["answer"] = None

    folder = copy("RealWorldQA", spoil)
    result = CliRunner().invoke(app, ["prepare", str(folder), "--rows", "realworldqa, ocrbench,"])
    assert result.exit_code == 1
    text = " ".join(result.output.split())
    assert "2 of 765 docs, 2 unusable" in text
    assert "realworldqa:1: MediaError" in text
    assert "nothing of OCRBench" in text

    (spec,) = [row for row in SUITES["image10"].rows if row.name == "realworldqa"]
    whole = replace(spec, benchmark=replace(spec.benchmark, rows=3))
    assert prepare(files, [whole])[0].complete


def test_the_mini_suite_has_no_public_files(files):
    result = CliRunner().invoke(app, ["prepare", str(files), "--suite", "mini"])
    assert result.exit_code == 2
    assert "made here" in result.output


def test_suites_are_listed():
    result = CliRunner().invoke(app, ["suites"])
    assert result.exit_code == 0
    for name, suite in SUITES.items():
        assert name in result.output
        assert all(row.name in result.output for row in suite.rows)


@pytest.mark.parametrize(
    ("suite", "said"), [("mini", "no heldout-"), ("image10", "no such folder")]
)
def test_a_wrong_folder_is_told_before_the_model_is_opened(suite, said, tmp_path):
    words = ["--model", "hf:none", "--suite", suite, "--data", str(tmp_path / "none")]
    result = CliRunner().invoke(app, [*words, "--out", str(tmp_path / "out")])
    assert result.exit_code == 2
    assert said in result.output
    assert not (tmp_path / "out").exists()
