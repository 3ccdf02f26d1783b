"""The parts of the evaluation one by one: scores, intervals, batches, schemas, drift, tables."""

import random
import subprocess
import sys
from itertools import pairwise
from types import SimpleNamespace

import pytest
import torch
from PIL import Image

from eval.answering.answerer import Answerer, plan_batches
from eval.answering.store import weights_fingerprint
from eval.lmms import bridge
from eval.rows.drift import PAIRS, text_drift
from eval.rows.heldout import derangement
from eval.scoring.right import (
    Outcome,
    circular,
    exact,
    majority,
    normalise,
    word_errors,
    yes_no_sets,
)
from omni.generation.settings import Generation
from omni.media.decode import MediaError, load_image
from omni.processing.messages import image, user


@pytest.mark.parametrize(
    ("answer", "expected", "right"),
    [
        ("A lion.", "lion", 1),
        ("the Lion!", "a lion", 1),
        ("lioness", "lion", 0),
        ("It is a lion", "lion", 0),
        ("", "lion", 0),
        ("stop  sign", "Stop sign.", 1),
        ("The letter b.", "The letter a.", 0),
        ("", "A", 0),
    ],
)
def test_exact_match_after_normalisation(answer, expected, right):
    assert exact(answer, expected) == right


def test_word_errors_count_insertions_deletions_and_substitutions():
    assert word_errors("The cat sat", "cat sat down") == (1, 3)
    assert word_errors("dog", "cat") == (1, 1)
    assert word_errors("", "two words") == (2, 2)
    assert word_errors("one two three", "one three") == (1, 2)


def test_majority_is_the_best_constant():
    assert majority(["a", "b", "a", "c"]) == 50
    assert normalise("The, End.") == "end"


def test_circular_needs_every_copy_and_checks_the_official_score():
    def copies(group, right):
        return [Outcome(f"{group}{k}", "", "A", "A", r, group) for k, r in enumerate(right)]

    outcomes = copies("q1", [1, 1, 1, 1]) + copies("q2", [1, 1, 1, 0])
    scored = circular(outcomes, {"q1": 4, "q2": 4}, official=50.0)
    assert (scored.score, scored.n) == (50.0, 2)
    assert scored.chance == pytest.approx(100 / 256)
    with pytest.raises(RuntimeError, match=r"lmms-eval says 75\.0"):
        circular(outcomes, {"q1": 4, "q2": 4}, official=75.0)


def test_yes_no_sets_pinned():
    docs = [{"question_id": q, "figure_id": f} for q in "01" for f in "01"]
    right = [1.0, 1.0, 1.0, 0.0]
    outcomes = [Outcome(str(k), "", "Yes", "", r, "set") for k, r in enumerate(right)]
    scored = yes_no_sets(docs, outcomes, {"aAcc": 75.0, "qAcc": 50.0, "fAcc": 50.0})
    assert scored.score == pytest.approx(175 / 3)
    assert scored.chance == pytest.approx((50 + 25 + 25) / 3)


def test_batches_are_longest_first_and_within_budget():
    rng = random.Random(0)
    costs = {str(k): rng.randrange(5, 200) for k in range(100)}
    pictures = {key: str(rng.randrange(30)) for key in costs}
    batches = plan_batches(costs, pictures, token_budget=600, max_batch=8)
    assert sorted(key for batch in batches for key in batch) == sorted(costs)
    longest = [max(costs[key] for key in batch) for batch in batches]
    assert all(after <= 1.2 * before for before, after in pairwise(longest))
    assert longest[-1] < longest[0] / 5
    for batch, most in zip(batches, longest, strict=True):
        assert len(batch) <= 8
        assert len(batch) * most <= 600
    same = {"a": "", "b": ""}
    assert len(plan_batches({"a": 900, "b": 900}, same, 600, 8)) == 2  # too long: alone, not lost


def test_questions_about_one_picture_meet_if_they_are_about_as_long():
    costs = {f"{picture}{copy}": 300 + 3 * copy for copy in range(4) for picture in "abcd"}
    batches = plan_batches({**costs, "z0": 1000, "a9": 40}, {k: k[0] for k in [*costs, "z0", "a9"]},
                           token_budget=1 << 20, max_batch=4)  # fmt: skip
    together = [{key[0] for key in batch} for batch in batches]
    assert together == [{"z", "a"}, {"a", "b"}, {"b", "c"}, {"c", "d"}, {"d", "a"}]


def test_the_longest_question_is_asked_first_and_alone():
    asked: list[list[int]] = []

    def length(messages):
        return len(messages[0]["content"][1]["text"])

    def answers(batch, generation, keys):
        asked.append([length(messages) for messages in batch])
        return ["x"] * len(batch)

    questions = [
        [user(image(about), "w" * n)] for about, n in ((b"a", 99), (b"b", 105), (b"a", 100))
    ]
    Answerer(answers, length)(questions, Generation(1))
    assert asked == [[105], [100, 99]]


def test_order_is_restored_and_nothing_is_asked_twice():
    asked = []

    def answer_batch(batch, generation, keys):
        asked.extend(batch)
        return [messages[0]["content"][0]["text"].upper() for messages in batch]

    words = ["ccc", "a", "bb", "a", "dddd", "ccc"]
    answerer = Answerer(answer_batch, lambda m: len(m[0]["content"][0]["text"]), max_batch=2)
    conversations = [[user(word)] for word in words]
    assert answerer(conversations, Generation(4)) == [word.upper() for word in words]
    assert [m[0]["content"][0]["text"] for m in asked] == ["dddd", "ccc", "bb", "a"]
    assert answerer(conversations[:2], Generation(4)) == ["CCC", "A"]
    assert len(asked) == 4
    answerer(conversations[:2], Generation(5))  # another limit is another question
    assert len(asked) == 6


def test_pictures_of_the_same_bytes_but_another_shape_are_other_questions():
    asked = []
    answerer = Answerer(lambda b, g, keys: [asked.extend(b) or "x"] * len(b), lambda m: 1)
    pictures = [image(Image.new("RGB", size)) for size in ((2, 3), (3, 2))]
    answerer([[user(picture, "?")] for picture in pictures], Generation(1))
    assert len(asked) == 2


def test_out_of_memory_halves_the_batch():
    sizes = []

    def answer_batch(batch, generation, keys):
        sizes.append(len(batch))
        if len(batch) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return ["ok"] * len(batch)

    answerer = Answerer(answer_batch, lambda m: 1, max_batch=8)
    assert answerer([[user(str(k))] for k in range(8)], Generation(4)) == ["ok"] * 8
    assert sizes == [1, 7, 3, 1, 2, 4, 2, 2]


def test_other_failures_are_not_swallowed():
    def answer_batch(batch, generation, keys):
        raise RuntimeError("shape mismatch")

    with pytest.raises(RuntimeError, match="shape mismatch"):
        Answerer(answer_batch, lambda m: 1)([[user("a")], [user("b")]], Generation(4))


def test_one_unreadable_medium_costs_one_answer():
    def answer_batch(batch, generation, keys):
        if any("bad" in m[0]["content"][0]["text"] for m in batch):
            raise MediaError("img: not a readable image")
        return ["fine"] * len(batch)

    answerer = Answerer(answer_batch, lambda m: 1)
    conversations = [[user(word)] for word in ("a", "bad", "c", "d", "e")]
    assert answerer(conversations, Generation(4)) == ["fine", "", "fine", "fine", "fine"]
    assert answerer.problems == ["MediaError: img: not a readable image"]


@pytest.mark.parametrize("most", [2, 10, 20, 30])
def test_derangement_never_keeps_an_identity(most):
    identities = ["same"] * most + [f"other{k}" for k in range(20)]
    order = derangement(identities, seed=1)
    assert all(identities[i] != identities[j] for i, j in enumerate(order))
    assert order == derangement(identities, seed=1)
    if most <= 20:
        assert sorted(order) == list(range(len(identities)))
    with pytest.raises(ValueError, match="one identity"):
        derangement(["same"] * 5, seed=1)


class TinyLM(torch.nn.Module):
    def __init__(self, seed, vocabulary=300):
        super().__init__()
        torch.manual_seed(seed)
        self.table = torch.nn.Embedding(vocabulary, 16)
        self.head = torch.nn.Linear(16, vocabulary)

    def get_output_embeddings(self):
        return self.head

    def forward(self, input_ids):
        return SimpleNamespace(logits=self.head(self.table(input_ids)))


def byte_encode(messages):
    texts = [turn["content"][0]["text"].encode() for turn in messages]
    ids = torch.tensor(list(texts[0] + texts[1]))
    labels = ids.clone()
    labels[: len(texts[0])] = -100
    return SimpleNamespace(input_ids=ids, labels=labels)


def test_text_drift_is_zero_only_for_the_same_language_model():
    processor = SimpleNamespace(encode=byte_encode)
    model = SimpleNamespace(language_model=TinyLM(0))
    assert text_drift(model, TinyLM(0), processor) == 0
    moved = text_drift(model, TinyLM(1), processor)
    assert 0.01 < moved < 10
    shifted = TinyLM(0)
    with torch.no_grad():
        shifted.head.bias[:] += 5.0  # softmax does not notice
    assert text_drift(model, shifted, processor) == pytest.approx(0, abs=1e-5)
    assert len(PAIRS) == 20


def test_fingerprint_notices_one_weight():
    one, two = TinyLM(0), TinyLM(0)
    assert weights_fingerprint(one) == weights_fingerprint(two)
    with torch.no_grad():
        two.head.bias[3] += 1e-6
    assert weights_fingerprint(one) != weights_fingerprint(two)
    assert weights_fingerprint(one.bfloat16())


def test_importing_the_harness_is_light():
    heavy = "[m for m in ('lmms_eval', 'datasets', 'transformers') if m in sys.modules]"
    code = f"import eval.run, eval.cli, sys; print({heavy})"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_the_drift_pairs_are_not_trained_on():
    from data_shards.sources.demo.text import builtin
    from eval.rows.drift import PAIRS

    trained = {part["text"] for *_, messages in builtin() for part in messages[0]["content"]}
    assert not trained & {question for question, _ in PAIRS}


def test_official_code_does_not_make_decoders_lenient(make_picture):
    bridge.prepare()
    cut = make_picture(0)[:-40]
    with pytest.raises(MediaError, match="not a readable image"):
        load_image(cut)
