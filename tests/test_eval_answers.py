"""Who answers, in which batches, and what is remembered of it."""

import json
import multiprocessing
import os
import socket
import threading

import numpy as np
import pytest
from PIL import Image

from eval.answering.answerer import LONGEST, Answerer
from eval.answering.ranks import Ranks, join
from eval.answering.store import AnswerStore, code_digest
from eval.bench import prefix, resume, speed, stale
from eval.run import evaluate
from omni.generation.prefix import Shared
from omni.generation.settings import Generation
from omni.processing.identity import identify
from omni.processing.messages import audio, image, user

KINDS = ("animal", "food", "plant", "tool")


def said(messages) -> str:
    return messages[-1]["content"][-1]["text"]


def shout(batch, generation, keys) -> list[str]:
    return [said(messages).upper() for messages in batch]


def cost(messages) -> int:
    return len(said(messages))


def test_answers_come_back_only_for_the_same_model(tmp_path):
    AnswerStore(tmp_path, "one").add({"q": "a\n", "r": ""})
    AnswerStore(tmp_path, "two").add({"q": "b"})
    assert AnswerStore(tmp_path, "one").answers == {"q": "a\n", "r": ""}
    assert AnswerStore(tmp_path, "two").answers == {"q": "b"}
    assert AnswerStore(tmp_path, "three").answers == {}


def test_a_torn_line_costs_one_answer(tmp_path):
    AnswerStore(tmp_path, "m").add({"q": "a", "r": "b"})
    file = tmp_path / "rank0.jsonl"
    for length in range(len(file.read_bytes()) - 1, 90, -9):
        os.truncate(file, length)
        AnswerStore(tmp_path, "m").add({"s": "c"})
        found = AnswerStore(tmp_path, "m").answers
        assert found["s"] == "c"
        assert found["q"] == "a"


def test_every_rank_reads_the_files_of_all(tmp_path, monkeypatch):
    monkeypatch.setattr(Ranks, "gather", lambda self, mine: [mine])
    for rank in range(3):
        AnswerStore(tmp_path, "m", Ranks(rank, 3)).add({f"q{rank}": "a"})
    assert len(list(tmp_path.iterdir())) == 3
    assert set(AnswerStore(tmp_path, "m", Ranks(0, 1)).answers) == {"q0", "q1", "q2"}


class Killed(BaseException):
    """Stands for kill -9: nothing in the harness may catch it."""


def test_a_kill_costs_one_batch(tmp_path):
    asked = []

    def answer_batch(batch, generation, keys):
        asked.extend(map(said, batch))
        if len(asked) > 12:
            raise Killed
        return shout(batch, generation, keys)

    conversations = [[user(f"question {n}")] for n in range(30)]
    with pytest.raises(Killed):
        answerer = Answerer(answer_batch, cost, max_batch=4, store=AnswerStore(tmp_path))
        answerer(conversations, Generation(8))
    answered = asked[:12]
    asked[:] = []
    again = Answerer(lambda b, g, keys: asked.extend(map(said, b)) or shout(b, g, keys), cost,
                     store=AnswerStore(tmp_path))  # fmt: skip
    assert again(conversations, Generation(8)) == [f"QUESTION {n}" for n in range(30)]
    assert not set(asked) & set(answered)


def test_the_next_batch_is_encoded_while_one_is_answered():
    encoded: list[str] = []
    second = threading.Event()

    def encode(batch):
        encoded.append(said(batch[0]))
        if len(encoded) == 2:
            second.set()
        return batch

    def answer_batch(batch, generation, keys):
        assert second.wait(5), "nothing is encoded while this batch is being answered"
        assert len(encoded) <= ord(said(batch[0])) - ord("a") + 2  # nor is all held ready
        return shout(batch, generation, keys)

    answerer = Answerer(answer_batch, cost, encode, max_batch=1)
    assert answerer([[user(c)] for c in "abcd"], Generation(1)) == list("ABCD")
    assert encoded == list("abcd")


def test_an_endless_answer_loses_its_middle():
    answerer = Answerer(lambda b, g, keys: ["A" + "x" * 100_000 + "B"] * len(b), cost)
    (text,) = answerer([[user("?")]], Generation(1), names=["task:7"])
    assert len(text) < LONGEST + 10
    assert text[0] + text[-1] == "AB"
    assert answerer.shortened == ["task:7: 100,002 characters"]


def test_what_is_wrong_is_named_and_tried_again(tmp_path):
    def answer_batch(batch, generation, keys):
        return [ValueError("no") if said(m) == "bad" else "fine" for m in batch]

    conversations = [[user("good")], [user("bad")], [user("bad")]]
    for _ in range(2):
        answerer = Answerer(answer_batch, cost, store=AnswerStore(tmp_path))
        texts = answerer(conversations, Generation(1), names=["t:0", "t:1", "t:2"])
        assert texts == ["fine", "", ""]
        assert answerer.problems == ["t:1: ValueError: no", "t:2: ValueError: no"]
    assert list(AnswerStore(tmp_path).answers.values()) == ["fine"]


def test_a_changed_medium_is_another_question(tmp_path, make_picture):
    file = tmp_path / "img.png"
    found = set()
    for seed in range(2):
        file.write_bytes(make_picture(seed))
        sound = {"array": np.full(9000, seed, np.float32), "sampling_rate": 16000}
        paletted = Image.new("P", (2, 2))
        paletted.putpalette([seed, 0, 0])
        media = image(str(file)), image(file.read_bytes()), image(paletted), audio(sound)
        found |= {identify([user(medium, "?")]).whole for medium in media}
    assert len(found) == 8
    text = identify([user(str(file))])
    file.write_bytes(b"another file of that name")
    assert text == identify([user(str(file))])


def rank_of_two(rank: int, port: int, kinds, out, queue) -> None:
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_RANK": str(rank)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    asked: list[str] = []

    def answer_batch(batch, generation, keys):
        asked.extend(keys)
        return [KINDS[int(key[0], 16) % 4] for key in asked[-len(batch) :]]

    result = evaluate(Answerer(answer_batch, lambda messages: 50, ranks=join()), "w", "mini",
                      kinds, out, rows=["mini-realworldqa", "category"])  # fmt: skip
    queue.put((result["rows"], len(set(asked)), len(asked)))


def test_two_ranks_give_the_table_of_one(kinds, tmp_path):
    def single(batch, generation, keys):
        return [KINDS[int(key[0], 16) % 4] for key in keys]

    rows = ["mini-realworldqa", "category"]
    alone = evaluate(Answerer(single, lambda messages: 50), "w", "mini", kinds, tmp_path / "1",
                     rows=rows)  # fmt: skip
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    context = multiprocessing.get_context("fork")  # what this process has imported, they have
    queue = context.Queue()
    ranks = [context.Process(target=rank_of_two, args=(r, port, kinds, tmp_path / "2", queue))
             for r in range(2)]  # fmt: skip
    for process in ranks:
        process.start()
    found = [queue.get(timeout=60) for _ in ranks]
    for process in ranks:
        process.join(20)
    assert [rows for rows, *_ in found] == [alone["rows"]] * 2
    shares = [count for _, count, _ in found]
    assert max(shares) - min(shares) <= 3  # one may be left over in each of three calls
    stored = (tmp_path / "2" / "store").glob("*.jsonl")
    lines = [json.loads(line)["question"] for file in stored for line in file.open()]
    assert len(lines) == len(set(lines)) == sum(shares)
    written = json.loads((tmp_path / "2" / "rows.json").read_text())
    assert written["rows"] == json.loads(json.dumps(alone["rows"]))


def test_shares_are_of_equal_cost_and_disjoint():
    costs = {f"q{n}": (n * 37) % 100 + 1 for n in range(50)}
    parts = [Ranks(rank, 3).share(costs) for rank in range(3)]
    assert sorted(key for part in parts for key in part) == sorted(costs)
    loads = [sum(part.values()) for part in parts]
    assert max(loads) - min(loads) <= 3


def test_a_row_without_a_single_answer_has_no_score(kinds, tmp_path):
    def answer_batch(batch, generation, keys):
        return [ValueError("gone")] * len(batch)

    result = evaluate(Answerer(answer_batch, lambda messages: 1), "w", "mini", kinds, tmp_path,
                      rows=["category", "mini-realworldqa"])  # fmt: skip
    for row in result["rows"]:
        assert row["score"] is None
        assert "questions has an answer; the first: " in row["missing"]
        assert "ValueError: gone" in row["missing"]
    assert result["problems"] == []


def test_other_code_has_other_answers(tmp_path):
    (tmp_path / "a.py").write_text("x = 1")
    before = code_digest(tmp_path)
    (tmp_path / "a.py").write_text("x = 2")
    assert code_digest(tmp_path) != before


@pytest.mark.parametrize(("fault", "ok"), [({}, True), ({"forget_whose": True}, False)])
def test_no_old_answer_is_used(fault, ok, tmp_path):
    result = stale.run(tmp_path, small=True, **fault)
    assert result.ok == ok, result.rows
    assert bool(result.figures["old_answers"]) != ok


@pytest.mark.slow
@pytest.mark.parametrize(("fault", "ok"), [({}, True), ({"forget": True}, False)])
def test_a_killed_evaluation_asks_one_batch_again(fault, ok, tmp_path):
    result = resume.run(tmp_path, small=True, **fault)
    assert result.ok == ok, result.rows
    assert result.figures["same_table"]


@pytest.mark.slow
def test_circular_questions_are_answered_as_before_when_they_share(tmp_path, monkeypatch):
    shared, run = [], Shared.to_generate
    monkeypatch.setattr(Shared, "to_generate", lambda *given: shared.append(given) or run(*given))
    assert prefix.run(tmp_path, small=True).figures["identical"]
    assert shared


@pytest.mark.slow
def test_stock_lmms_eval_gives_the_same_answers(tmp_path):
    assert speed.run(tmp_path, small=True).figures["identical"]
