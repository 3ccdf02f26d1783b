"""How questions are asked, what of it is part of an answer's key, and what is refused in words."""

import json
import random
import time
from email.utils import formatdate
from types import SimpleNamespace

import httpx
import openai
import pytest
from PIL import Image

from eval.answering.answerer import Answerer
from eval.answering.backends import check_spec, pictures
from eval.answering.backends.again import TRIES, ask_again, wanted_pause
from eval.answering.backends.endpoint import REFUSALS, Endpoint, Question, RefusedError
from eval.answering.reply import Reply
from eval.answering.store import AnswerStore
from eval.report.mean import mean_of_ten
from eval.report.published import published
from eval.report.table import notes
from eval.run import evaluate
from omni.generation.settings import Generation
from omni.load import CheckpointError
from omni.processing.messages import system, user


def answer(reply, **options):
    answerer = Answerer(
        lambda batch, generation, keys: [reply] * len(batch), lambda m: 1, **options
    )
    (text,) = answerer([[user("?")]], Generation(4), names=["row:7"])
    return text, {note.kind: note.line for note in answerer.notes}


@pytest.mark.parametrize(
    ("reply", "text", "kinds"),
    [
        (Reply("<think>C?</think> B"), "B", {"thought"}),
        (Reply("B", "length"), "B", {"cut"}),
        (Reply("<think>B", "length"), "", {"thought", "cut", "unanswered"}),
        (Reply("<think>B"), "", {"thought", "unanswered"}),
        (Reply("<think>B</think>"), "", {"thought", "unanswered"}),
        (Reply("B", "content_filter"), "", {"unanswered"}),
        (Reply("B", remark="smaller"), "B", {"remark"}),
        (Reply(""), "", set()),
        ("B", "B", set()),
    ],
)
def test_how_an_answer_ended_is_noted_and_kept(reply, text, kinds, tmp_path):
    found, noted = answer(reply, store=AnswerStore(tmp_path))
    assert (found, noted.keys()) == (text, kinds)
    assert all(line.startswith("row:7: ") for line in noted.values())
    (kept,) = AnswerStore(tmp_path).answers.values()
    assert kept == reply  # as it was written
    assert answer("never asked", store=AnswerStore(tmp_path)) == (found, noted)


def test_a_system_prompt_comes_first_and_is_part_of_the_question():
    asked = []
    answerer = Answerer(lambda batch, *_: [asked.extend(batch) or "x"] * len(batch), lambda m: 1)
    talks = [[user("?")], [system("Old."), user("!")]]
    answerer(talks, Generation(1))
    answerer.system = "Be brief."
    answerer(talks, Generation(1))
    assert [[part["text"] for part in talk[0]["content"]] for talk in asked] == [
        ["?"], ["Old."], ["Be brief."], ["Be brief.\n\n", "Old."]
    ]  # fmt: skip
    assert len(answerer.store.answers) == 4


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("CUDA out of memory"), RuntimeError(
        "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried 9 bytes"),
        RuntimeError("CUBLAS_STATUS_ALLOC_FAILED")],
)  # fmt: skip
def test_what_does_not_fit_alone_costs_itself_alone(error, tmp_path):
    tries = []

    def answer_batch(batch, generation, keys):
        texts = [m[0]["content"][0]["text"] for m in batch]
        tries.append(texts)
        if "large" in texts:
            raise error
        return ["ok"] * len(batch)

    answerer = Answerer(answer_batch, lambda m: 1, max_batch=4, store=AnswerStore(tmp_path))
    texts = answerer([[user(t)] for t in ("a", "large", "b", "c")], Generation(1), list("abcd"))
    assert texts == ["ok", "", "ok", "ok"]
    (problem,) = answerer.problems
    assert problem.startswith("b: TooLargeError: it does not fit in memory: ")
    assert tries.count(["large"]) == 2


def test_a_suite_says_what_was_not_answered_and_how_it_was_asked(kinds, tmp_path):
    def answer_batch(batch, generation, keys):
        assert generation.max_new_tokens == 999
        return [Reply("<think>hm", "length") if key < "8" else Reply("A") for key in keys]

    answerer = Answerer(answer_batch, lambda m: 1, sampling={"stop": ("\n",)}, system="Be brief.",
                        loaded={"dtype": "float16"})  # fmt: skip
    result = evaluate(answerer, "w", "mini", kinds, tmp_path, rows=["mini-chartqa", "category"],
                      max_new_tokens=999)  # fmt: skip
    for row in result["rows"]:
        assert row["answered"] + row["unanswered"] == row["n"]
        assert row["answered"] * row["unanswered"] > 0
    assert result["rows"][0]["controls"]["blind"]["unanswered"] > 0
    assert result["generation"] == {
        "max_new_tokens": 999, "stop": ("\n",), "temperature": 0.0, "top_p": 1.0, "seed": 0,
        "system": "Be brief.", "dtype": "float16",
    }  # fmt: skip
    assert json.loads((tmp_path / "rows.json").read_text())["generation"]["stop"] == ["\n"]
    text = "\n".join(notes(result))
    assert "questions have no answer in the control blind" in text
    assert ("temperature 0, at most 999 new tokens, stop strings '\\n', system prompt 'Be brief.', "
            "dtype float16") in text  # fmt: skip


def test_there_is_no_mean_over_rows_that_lack_answers():
    rows = [{"name": name, "title": title, "score": 50.0, "answered": 6, "unanswered": 0}
            for name, title in published().mean_of.items()]  # fmt: skip
    assert mean_of_ten(rows)["score"] == 50
    rows[3] |= {"answered": 2, "unanswered": 4}
    found = mean_of_ten(rows)
    assert (found["score"], found["why"]) == (None, f"no answer: {rows[3]['title']} 4 of 6")
    rows[3] |= {"unanswered": 0, "details": {"unreadable": ["x"]}}  # as results were before
    assert mean_of_ten(rows)["score"] is None


def test_another_kind_of_model_is_named_with_what_to_type(tmp_path, tiny_checkpoint):
    (tmp_path / "config.json").write_text('{"model_type": "qwen2_vl"}')
    (tmp_path / "processor_config.json").write_text("{}")
    for spec, options, words in [
        (str(tmp_path), {}, f"(qwen2_vl), no checkpoint of ours: type hf:{tmp_path}"),
        ("Qwen/Qwen2-VL-2B-Instruct", {}, "type hf:Qwen/Qwen2-VL-2B-Instruct"),
        ("http://localhost:8000/v1", {}, "type openai:http://localhost:8000/v1"),
        ("openai:http://x/v1", {"dtype": "float16"}, "for the server"),
        ("openai:http://x/v1", {"max_pixels": 9}, "for the server"),
        (str(tiny_checkpoint), {"min_pixels": 9}, "trained on"),
        ("hf:x", {"dtype": "float12"}, "there is auto, float32"),
        ("hf:x", {"min_pixels": 9, "max_pixels": 3}, "more than --max-pixels 3"),
    ]:
        with pytest.raises(ValueError, match=r"type|for the|are for|than|there") as refused:
            check_spec(spec, **options)
        assert words in str(refused.value)
    check_spec(str(tiny_checkpoint), "bfloat16")
    with pytest.raises(CheckpointError):
        check_spec(str(tmp_path / "nothing"))


def failing(status, headers=(), code=None):
    request = httpx.Request("POST", "http://x")
    response = httpx.Response(status, headers=dict(headers), request=request)
    kind = {429: openai.RateLimitError, 403: openai.PermissionDeniedError}.get(
        status, openai.APIStatusError
    )
    return kind("no", response=response, body={"code": code})


def test_a_busy_endpoint_is_asked_again_after_as_long_as_it_says(monkeypatch):
    pauses = []
    monkeypatch.setattr(time, "sleep", pauses.append)
    later = {"retry-after": formatdate(time.time() + 90, usegmt=True)}
    errors = [failing(429, {"retry-after": "7"}), failing(429, later),
              failing(503, {"retry-after-ms": "1500"}), failing(429)]  # fmt: skip

    def ask():
        if errors:
            raise errors.pop(0)
        return "yes"

    assert ask_again(ask) == "yes"
    assert (pauses[0], pauses[2]) == (7, 1.5)
    assert 80 < pauses[1] <= 90
    assert wanted_pause(failing(429, {"retry-after": "soon"})) is None
    for error, tries in [(failing(429), TRIES), (failing(500), 4), (failing(400), 1),
                         (failing(429, code="insufficient_quota"), 1),
                         (failing(429, {"retry-after": "86400"}), 1)]:  # fmt: skip
        errors[:] = [error] * 20
        with pytest.raises(openai.APIStatusError):
            ask_again(ask)
        assert 20 - len(errors) == tries


def test_one_403_costs_one_question_and_many_end_the_run():
    def create(messages, **parameters):
        if messages[0] == "bad":
            raise failing(403)
        message = SimpleNamespace(content="yes", refusal=None)
        return SimpleNamespace(choices=[SimpleNamespace(message=message, finish_reason="stop")])

    completions = SimpleNamespace(create=create)
    endpoint = Endpoint(SimpleNamespace(chat=SimpleNamespace(completions=completions)), "x", "m", 1)
    good, bad = Question(["good"], ""), Question(["bad"], "")
    for _ in range(REFUSALS):
        refusal, text = endpoint([bad, good], Generation(1), [])
        assert (type(refusal).__name__, text) == ("RefusalError", "yes")
    with pytest.raises(RefusedError, match="refuses to answer, 20 questions in a row"):
        endpoint([bad] * REFUSALS, Generation(1), [])


def test_a_picture_over_the_limit_is_sent_smaller_and_that_is_said(monkeypatch):
    noise = Image.frombytes("RGB", (200, 100), random.Random(0).randbytes(60_000))
    for most, count, kind, size in [(10**6, 1, "png", None), (50_000, 1, "jpeg", "JPEG"),
                                    (9_000, 1, "jpeg", "pixels instead of 200x100"),
                                    (10**6, 100, "jpeg", "pixels")]:  # fmt: skip
        monkeypatch.setattr(pictures, "MOST", most)
        monkeypatch.setattr(pictures, "MOST_OF_ALL", 10**6)
        url, remark = pictures.send(noise, count)
        assert url.startswith(f"data:image/{kind};base64,")
        assert len(url.partition(",")[2]) <= min(most, 10**6 // count)
        assert (size or "") in remark
        assert bool(remark) == (kind == "jpeg")
