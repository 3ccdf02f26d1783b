"""Every public row on rows of its schema: the truth scores 100, what is wrong does not."""

import importlib.util
import re
from pathlib import Path

import datasets
import pytest

from eval.answering.answerer import Answerer, key_of
from eval.bench.oracle import Oracle
from eval.benchmarks import EVERY
from eval.harness import Harness
from eval.lmms.bridge import tasks_folder
from eval.lmms.official import Official
from eval.scoring.units import categories
from eval.suites.registry import SUITES
from eval.suites.sources import Local
from omni.processing.messages import media_refs

spec = importlib.util.spec_from_file_location("eval_rows", Path(__file__).with_name("eval_rows.py"))
rows = importlib.util.module_from_spec(spec)
spec.loader.exec_module(rows)

ROWS = [
    row
    for name, suite in SUITES.items()
    for row in suite.rows
    if isinstance(row, Official) and row.public and name != "image10"
]
# tasks of one folder share their code: MVBench's twenty, MMLU's subjects
ONE_EACH = list({row.benchmark.folder: row for row in reversed(ROWS)}.values())
COUNT = 12


@pytest.fixture(scope="session")
def public(make_picture, make_sound, tmp_path_factory) -> Path:
    """A folder with every public row, and three videos that are files of these names."""
    root = tmp_path_factory.mktemp("suites")
    kinds = {"image": datasets.Image(), "audio": datasets.Audio()}
    makers = {"image": make_picture, "audio": lambda n: make_sound(0.2, 200.0 + n)}
    for spec in ONE_EACH:
        benchmark = spec.benchmark
        table = [rows.ROWS[benchmark.name](n) for n in range(COUNT)]
        for row in table:
            for kind in kinds.keys() & row.keys():
                row[kind] = {"bytes": makers[kind](row[kind]), "path": None}
        read = datasets.Dataset.from_list(table)
        for kind in kinds.keys() & set(read.column_names):
            read = read.cast_column(kind, kinds[kind])
        folder = root / benchmark.name
        folder.mkdir()
        read.to_parquet(str(folder / f"{benchmark.split}-00000.parquet"))
        if benchmark.video:
            for n in range(2):
                (folder / f"clip{n}.mp4").write_bytes(b"a video")
    return root


@pytest.mark.parametrize("row", ONE_EACH, ids=lambda row: row.name)
def test_truth_scores_100_and_nonsense_does_not(row, public, tmp_path):
    source = Local(public)
    oracle = Answerer(Oracle([row], source, tmp_path), lambda m: 50)
    right = row.run(oracle, source, "normal", None, tmp_path / "right")
    assert "left_out" not in right.details
    assert right.score == pytest.approx(100)
    assert all(found["score"] == pytest.approx(100) for found in categories(right).values())
    assert [outcome.correct for outcome in right.outcomes] == [1.0] * COUNT
    assert right.chance < 60
    nonsense = Answerer(lambda batch, generation, keys: ["Hm"] * len(batch), lambda m: 50)
    wrong = row.run(nonsense, source, "normal", None, tmp_path / "wrong")
    assert wrong.score < 10
    assert len(wrong.outcomes) == COUNT
    assert wrong.details["incomplete"] == f"{COUNT} of {row.benchmark.rows} docs"


@pytest.mark.slow
@pytest.mark.parametrize("row", ONE_EACH, ids=lambda row: row.name)
def test_odd_answers_lose_no_row(row, public, tmp_path):
    source = Local(public)
    odd = [text for text in rows.ODD if len(text) < 1000]  # transcripts are compared for minutes
    for first in range(0, len(odd), COUNT):
        texts = [odd[(first + n) % len(odd)] for n in range(COUNT)]
        answerer = Answerer(lambda batch, *_, texts=texts: texts[: len(batch)], lambda m: 50)
        scored = row.run(answerer, source, "normal", None, tmp_path / str(first))
        assert len(scored.outcomes) == COUNT
        assert set(answerer.store.answers.values()) <= set(texts)


@pytest.mark.slow
def test_another_process_shows_the_same_pictures_and_sounds(public, tmp_path):
    (row,) = [row for row in SUITES["omni"].rows if row.name == "omnibench"]

    def digests(batch, generation, keys):
        assert all({kind for kind, _ in media_refs(m)} == {"image", "audio"} for m in batch)
        return [key_of(key, generation) for key in keys]

    asked = Answerer(digests, lambda m: 50), Local(public), "normal", None, tmp_path
    with Harness("omni", public) as harness:
        assert harness.run(row, *asked) == row.run(*asked)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_lmms_eval_has_such_a_task(row):
    folder = tasks_folder() / row.benchmark.folder
    files = [file.read_text() for file in folder.glob("*") if file.is_file()]
    task = re.compile(rf"""^"?task"? ?: ?["']?{re.escape(row.benchmark.task)}["']?$""", re.M)
    (mine,) = [text for text in files if task.search(text)]
    split = re.compile(rf"^test_split: {row.benchmark.split}$", re.M)
    assert split.search(mine) or any(split.search(text) for text in files if text != mine)
    assert row.name not in [other.name for other in ROWS if other is not row]
    assert row.benchmark in EVERY  # of which a folder is read as one


def test_transcripts_may_be_as_long_as_officially(public, tmp_path):
    (row,) = [row for row in ROWS if row.name == "librispeech_test_clean"]
    limits = set()

    def answer_batch(batch, generation, keys):
        limits.add(generation.max_new_tokens)
        return ["a"] * len(batch)

    scored = row.run(Answerer(answer_batch, lambda m: 50), Local(public), "normal", None, tmp_path)
    assert limits == {256}
    assert scored.details["max_new_tokens"] == 256
    assert "official_max_new_tokens" not in scored.details


def test_the_official_error_rate_is_divided_among_the_docs(public, tmp_path):
    (row,) = [row for row in ROWS if row.name == "librispeech_test_clean"]
    said = "Mister Quilter, is the apostle."
    answerer = Answerer(lambda batch, generation, keys: [said] * len(batch), lambda m: 50)
    scored = row.run(answerer, Local(public), "normal", None, tmp_path)
    # "he said it is $25" and "nor is he" as the official normaliser writes them
    assert [scored.units[str(n)] for n in range(3)] == [[(5, 5)], [(0, 5)], [(-1, 3)]]
    assert scored.details["error_rate"] == pytest.approx(100 * 9 / 13)
    assert scored.score == pytest.approx(100 * 4 / 13)


def test_a_missing_video_costs_one_answer_and_is_named(public, tmp_path):
    (row,) = [row for row in ROWS if row.name == "videomme"]
    folder = tmp_path / "data" / "videomme"
    folder.mkdir(parents=True)
    for file in (public / "videomme").iterdir():
        if file.name != "clip1.mp4":
            (folder / file.name).write_bytes(file.read_bytes())
    shown = []

    def answer_batch(batch, generation, keys):
        shown.extend(ref for messages in batch for _, ref in media_refs(messages))
        return ["A"] * len(batch)

    answerer = Answerer(answer_batch, lambda m: 50)
    scored = row.run(answerer, Local(tmp_path / "data"), "normal", None, tmp_path)
    assert set(shown) == {str(folder / "clip0.mp4")}
    assert len(answerer.problems) == COUNT // 2
    assert answerer.problems[0].startswith("videomme:1: ")
    assert "no video clip1 among the files of videomme" in answerer.problems[0]
    assert len(scored.outcomes) == COUNT


def test_a_video_may_be_a_folder_of_frames(public, make_picture, tmp_path):
    (row,) = [row for row in ROWS if row.name == "mvbench_action_sequence"]
    folder = tmp_path / "data" / row.name
    for n in range(20):
        frame = folder / "videos" / "clip1" / f"{n:05}.jpg"
        frame.parent.mkdir(parents=True, exist_ok=True)
        frame.write_bytes(make_picture(n))
    for name in ("train-00000.parquet", "clip0.mp4"):
        (folder / name).write_bytes((public / row.name / name).read_bytes())
    shown = set()

    def answer_batch(batch, generation, keys):
        shown.update(tuple(kind for kind, _ in media_refs(messages)) for messages in batch)
        return ["A"] * len(batch)

    answerer = Answerer(answer_batch, lambda m: 50)
    row.run(answerer, Local(tmp_path / "data"), "normal", None, tmp_path)
    assert shown == {("video",), ("image",) * 16}
    assert answerer.problems == []

    frame = folder / "videos" / "clip1" / "00000.jpg"
    frame.write_bytes(frame.read_bytes()[:150])
    row.run(answerer, Local(tmp_path / "data"), "normal", None, tmp_path)
    assert len(answerer.problems) == COUNT // 2
    assert f"MediaError: {frame}: not a readable image" in answerer.problems[0]
