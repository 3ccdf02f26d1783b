"""The mini suite end to end, without a model: an oracle must score 100, constants must not."""

import io
import json
import random
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_shards.build import build
from data_shards.shards.sample import Sample
from data_shards.shards.write import write_shards
from data_shards.sources import SOURCES
from data_shards.sources.base import flac
from data_shards.sources.demo.shapes import COLOURS, draw
from eval.answering.answerer import Answerer
from eval.bench.oracle import Oracle
from eval.rows.examples import SHOWN
from eval.rows.heldout import TRANSCRIPTS, load_heldout
from eval.rows.own import Own
from eval.run import evaluate
from eval.suites.registry import SUITES
from omni.processing.messages import assistant, audio, image, user

KINDS = {"circle": "animal", "square": "food", "star": "plant", "heart": "vehicle", "ring": "tool"}
QUESTIONS = ("What kind of thing is this?", "What is this?")


def png(picture: Image.Image) -> bytes:
    out = io.BytesIO()
    picture.save(out, "PNG")
    return out.getvalue()


def tone(pitch: int) -> bytes:
    return flac(0.3 * np.sin(np.arange(8000) * pitch / 400).astype(np.float32))


def facts(kind: str, **more) -> dict:
    return {"source": "stamps", "license": "GPL-2.0", "schema": 1, "kind": kind, **more}


def pictures() -> list[tuple[dict, bytes]]:
    found = []
    for k, (shape, category) in enumerate(KINDS.items()):
        for colour in list(COLOURS)[: 4 + k]:
            meta = {"identity": f"{colour}-{shape}", "category": category}
            meta["caption"] = f"The {colour} {shape}."
            found.append((meta, png(draw(shape, colour, "large", "0.5-0.5", "white"))))
    return found


def picture_samples() -> list[Sample]:
    return [
        Sample([user(image("img0.png"), "What is this?"), assistant(meta["caption"])],
               {"img0.png": data}, facts("caption", **meta), split="heldout")
        for meta, data in pictures()
    ]  # fmt: skip


def spoken_samples() -> list[Sample]:
    samples = []
    for pitch, word in enumerate(["lion", "tree", "house", "apple"], 20):
        for number, kind in enumerate(TRANSCRIPTS):
            more = {"category": ("made", "caption")[pitch % 2]} if kind == "sentence" else {}
            if kind in ("human_word", "human_sentence"):
                more = {"speaker": f"speaker{pitch % 2}", "train_speakers": ["someone"]}
            else:
                more |= {"voice": "pico:en-GB", "unseen_voice": True}
            samples.append(
                Sample([user(audio("aud0.flac"), "Repeat what was said."), assistant(f"{word}.")],
                       {"aud0.flac": tone(pitch + 40 * number)}, facts(kind, text=word, **more),
                       split="heldout")
            )  # fmt: skip
    for k, (meta, data) in enumerate(pictures()[::2]):
        asked = QUESTIONS[k % 2]
        answer = meta["category"] if k % 2 == 0 else meta["caption"]
        samples.append(
            Sample([user(image("img0.png"), audio("aud0.flac")), assistant(answer)],
                   {"img0.png": data, "aud0.flac": tone(5 + k % 2)},
                   facts("spoken_question", text=asked, **meta), split="heldout")
        )  # fmt: skip
    return samples


@pytest.fixture(scope="session")
def data(tmp_path_factory, demo) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_shards(picture_samples(), folder / "stamps")
    write_shards(spoken_samples(), folder / "speech")
    for name in ("easyvqa", "photos"):
        build(SOURCES[name](path=getattr(demo, name)), folder / name)
    return folder


def text_of(messages) -> str:
    return "".join(part.get("text", "") for turn in messages for part in turn["content"])


def answerer(answer_batch) -> Answerer:
    return Answerer(answer_batch, cost=lambda messages: len(text_of(messages)) + 50)


def constant(text: str) -> Answerer:
    return answerer(lambda batch, generation, keys: [text] * len(batch))


def answers(out: Path) -> list[dict]:
    return [json.loads(line) for line in (out / "answers.jsonl").read_text().splitlines()]


def by_name(result: dict) -> dict[str, dict]:
    return {row["name"]: row for row in result["rows"]}


@pytest.fixture(scope="session")
def oracle_run(data, tmp_path_factory):
    out = tmp_path_factory.mktemp("oracle")
    oracle = Oracle(SUITES["mini"].rows, load_heldout(data), out / "work")
    result = evaluate(
        answerer(oracle), "oracle", "mini", data, out, on_condition=oracle.enter
    )  # fmt: skip
    return result, out


def test_oracle_scores_100_on_every_row(oracle_run):
    rows = by_name(oracle_run[0])
    assert len(rows) == 20
    assert {name: row["score"] for name, row in rows.items()} == dict.fromkeys(rows, 100.0)
    assert all(row["ci_low"] > row["chance"] for row in rows.values() if row["n"] > 10)


def test_oracle_without_its_senses_is_near_chance(oracle_run):
    rows = by_name(oracle_run[0])
    for name, row in rows.items():
        if row["blind"] is not None:
            assert row["controls"]["blind"]["ci_low"] <= row["chance"], name
    controls = {name: set(row["controls"]) for name, row in rows.items()}
    assert controls["spoken_question"] == {"blind", "shuffled_images", "shuffled_audio"}
    assert rows["spoken_word"]["controls"]["shuffled_audio"]["score"] == 0
    assert rows["category"]["controls"]["shuffled_images"]["score"] < 60
    assert rows["spoken_question"]["controls"]["shuffled_audio"]["score"] < 60


def test_speech_says_who_was_heard_and_asked(oracle_run):
    rows = by_name(oracle_run[0])
    for name in ("human_word", "human_transcription"):
        assert rows[name]["categories"].keys() == {"speaker0", "speaker1"}
        assert "training hears someone, who are not asked here" in rows[name]["details"]["rule"]
    assert "4 of 4 are words that spoken words teach" in rows["human_word"]["details"]["rule"]
    assert rows["transcription"]["details"]["wer"] == 0
    assert "pico:en-GB: voices never heard in training" in rows["transcription"]["details"]["rule"]
    assert rows["spoken_question"]["categories"].keys() == {"category", "caption"}


def test_figures_and_files(oracle_run):
    result, out = oracle_run
    assert result["figures"]["spoken_word_accuracy"] == 100
    assert "category_accuracy_shuffled_images" in result["figures"]
    saved = json.loads((out / "rows.json").read_text())
    assert saved["rows"] == json.loads(json.dumps(result["rows"]))
    assert "mini-ocrbench" in (out / "table.md").read_text()
    assert "held-out pictures (stamps)" in (out / "table.txt").read_text()
    lines = answers(out)
    keys = {"row", "doc", "question", "expected", "answer", "correct", "condition", "group"}
    assert keys | {"category", "image"} <= set(lines[0])
    mine = [line for line in lines if line["row"] == "mini-mmbench_en"]
    assert len(mine) == (40 + 16) * 4  # four copies of all questions, and of 16 of them blind
    assert "blind on 16 of 40 questions, drawn with a seed" in (out / "table.md").read_text()
    units = json.loads((out / "units.json").read_text())
    assert units.keys() == {row["name"] for row in result["rows"]}
    assert all(units.values())  # every row can be compared with that of another run


OWN = [row for row in SUITES["mini"].rows if isinstance(row, Own)]


def test_examples_are_of_all_rows_with_their_media(oracle_run):
    result, out = oracle_run
    shown = result["examples"]
    assert len(shown) == SHOWN
    assert {one["row"] for one in shown} == {row.title for row in OWN}
    assert all(one["correct"] == 1 and one["question"] for one in shown)
    assert all(one["answer"] == one["expected"] for one in shown)
    for one in shown:
        kept = [out / one[kind] for kind in ("image", "audio") if one[kind]]
        assert kept and all(path.stat().st_size for path in kept)
        if one["row"] == "spoken_question":
            assert len(kept) == 2


def test_a_constant_answer_scores_chance(data, tmp_path, offline):
    names = ["mini-hallusionbench"]
    result = evaluate(constant("Yes"), "yes", "mini", data, tmp_path, rows=names, controls=False)
    (row,) = result["rows"]
    assert row["ci_low"] <= row["chance"] <= row["ci_high"] < 50


def test_unparsable_answers_need_no_judge(data, tmp_path, offline):
    names = ["mini-mmbench_en", "mini-hallusionbench"]
    start = time.monotonic()
    result = evaluate(constant("Hm?"), "hm", "mini", data, tmp_path, rows=names, controls=False)
    assert by_name(result)["mini-mmbench_en"]["score"] == 0
    assert time.monotonic() - start < 20
    for row in result["rows"]:  # wrong answers come with their pictures
        shown = [line for line in answers(tmp_path) if line["row"] == row["name"] and line["image"]]
        assert len(shown) == 24
        for line in shown:
            assert line["correct"] == 0
            assert Image.open(tmp_path / line["image"]).height <= 180
    assert (tmp_path / "report.html").read_text().count("data:image/jpeg") == 48


def test_ocrbench_does_not_accumulate_over_runs(data, tmp_path):
    scores = []
    (row,) = (row for row in SUITES["mini"].rows if row.name == "mini-ocrbench")
    oracle = Oracle([row], load_heldout(data), tmp_path)
    for number in range(2):
        out = tmp_path / str(number)
        result = evaluate(
            answerer(oracle), "o", "mini", data, out, rows=[row.name], controls=False
        )  # fmt: skip
        scores.append((result["rows"][0]["score"], result["rows"][0]["n"]))
    assert scores == [(100.0, 100), (100.0, 100)]


def test_limit_counts_questions(data, tmp_path):
    names = ["mini-mmbench_en", "category"]
    result = evaluate(
        constant("A"), "a", "mini", data, tmp_path, rows=names, limit=3, controls=False
    )
    assert [row["n"] for row in result["rows"]] == [3, 3]
    assert result["rows"][0]["details"]["copies"] == 12


class Killed(BaseException):
    """Stands for kill -9: nothing in the harness may catch it."""


def test_a_killed_evaluation_resumes(data, tmp_path):
    names = ["category", "spoken_word"]
    asked = []

    def counting(limit):
        def answer_batch(batch, generation, keys):
            asked.extend(batch)
            if len(asked) > limit:
                raise Killed
            return ["animal"] * len(batch)

        return answerer(answer_batch)

    n = len(pictures())
    with pytest.raises(Killed):
        evaluate(counting(n + 1), "w", "mini", data, tmp_path, rows=names)
    asked.clear()
    resumed = evaluate(counting(10**9), "w", "mini", data, tmp_path, rows=names)
    assert len(asked) <= 4 + 1  # the words and the one blind question, not the pictures again
    fresh = evaluate(counting(10**9), "w", "mini", data, tmp_path / "fresh", rows=names)
    assert resumed["rows"] == fresh["rows"]


def test_other_weights_or_data_are_never_served_old_answers(data, tmp_path):
    arguments = ("mini", data, tmp_path)
    first = evaluate(constant("animal"), "old", *arguments, rows=["category"])
    second = evaluate(constant("nothing"), "new", *arguments, rows=["category"])
    assert first["rows"][0]["score"] > 0 == second["rows"][0]["score"]
    changed = tmp_path / "changed"
    write_shards(picture_samples()[1:], changed / "stamps")
    third = evaluate(constant("x"), "new", "mini", changed, tmp_path, rows=["category"])
    assert third["rows"][0]["n"] == len(pictures()) - 1


def test_missing_data_is_listed_with_its_reason(tmp_path):
    write_shards(picture_samples(), tmp_path / "data" / "stamps")
    write_shards(spoken_samples(), tmp_path / "data" / ".speech.building")  # half done: not read
    names = ["category", "spoken_word"]
    result = evaluate(constant("x"), "w", "mini", tmp_path / "data", tmp_path, rows=names)
    assert result["rows"][1]["score"] is None
    assert "transcription" in result["rows"][1]["missing"]
    assert "spoken_word is missing: no held-out" in (tmp_path / "table.md").read_text()


def test_no_heldout_data_says_how_to_build_it(tmp_path):
    with pytest.raises(FileNotFoundError, match="omni-shards build"):
        evaluate(constant("x"), "w", "mini", tmp_path, tmp_path)


def test_unknown_rows_are_named(data, tmp_path):
    with pytest.raises(ValueError, match=r"unknown row mini-mmbench; .*mini-mmbench_en"):
        evaluate(constant("x"), "w", "mini", data, tmp_path, rows=["mini-mmbench"])


def test_random_order_of_samples_does_not_change_the_rows(data, tmp_path):
    shuffled = picture_samples()
    random.Random(0).shuffle(shuffled)
    write_shards(shuffled, tmp_path / "data" / "stamps")
    results = [
        evaluate(constant("A"), "w", "mini", folder, tmp_path / name, rows=["mini-realworldqa"])
        for name, folder in (("one", data), ("two", tmp_path / "data"))
    ]
    assert results[0]["rows"] == results[1]["rows"]
