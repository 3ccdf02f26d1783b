"""Thinking keeps to its budget, and the answer after it is never empty, whatever a model does."""

import random
from dataclasses import replace

import pytest
import torch

from omni.generation.answer import complete, prompts
from omni.generation.budget import Budget
from omni.generation.sampling import Sampler
from omni.generation.settings import Generation
from omni.processing.identity import identify
from omni.processing.messages import audio, image, user

HOW = Generation(max_new_tokens=6, temperature=1.0, seed=2)


@pytest.fixture
def scripted(talker, monkeypatch):
    """Return a function: what each row goes on with after a text -> its completions."""
    model, processor = talker
    call = Sampler.__call__

    def run(policies, generation):
        batch = prompts(processor, [[user(f"Q{n}?")] for n in range(len(policies))])
        start = batch["input_ids"].shape[1]

        def speak(self, input_ids, scores):
            for row, policy in enumerate(policies):
                text = processor.tokenizer.decode(input_ids[row, start:].tolist())
                said = policy(text)
                token = (
                    processor.tokenizer.eos_token_id
                    if said is None
                    else processor.tokenizer.encode(said, add_special_tokens=False)[0]
                )
                scores[row] = -torch.arange(scores.shape[1]).float() / 1000
                scores[row, token] = 30.0
            return call(self, input_ids, scores)

        monkeypatch.setattr(Sampler, "__call__", speak)
        return complete(model, processor, batch, generation)

    return run


def thinker(tokens: int, answer: str = "7", end: str | None = "</think>"):
    """Think so many tokens after each "Wait", or the beginning, then close and answer."""

    def policy(text: str) -> str | None:
        if "</think>" in text or "Answer:" in text:
            said = text.rpartition("Answer:")[2].rpartition("</think>")[2].lstrip()
            return answer[len(said) :] or None
        new = text.partition("<think>")[2].rpartition("Wait")[2]
        if len(new) < tokens:
            return "."
        return end[len(new) - tokens :] or "." if end else None

    return policy


def thoughts(text: str) -> str:
    return text.partition("<think>")[2].partition("</think>")[0]


def test_what_a_budget_does_to_thinkers_of_all_lengths(scripted):
    """Shorter than min, between, longer than max, for ever; one that ends its text instead."""
    budget = Budget(max=20, min=4)
    found = scripted([thinker(1), thinker(6), thinker(50), thinker(10**6), thinker(5, end=None)],
                     replace(HOW, thinking=budget, temperature=0.0))  # fmt: skip
    assert [one.thinking <= 20 for one in found] == [True] * 5
    assert thoughts(found[1].text) == "......"
    assert [thoughts(one.text) for one in found[2:]] == ["." * 20, "." * 20, "....."]
    assert [one.text.rpartition("</think>\n")[2] for one in found] == ["7"] * 5
    assert [one.finish for one in found] == ["stop"] * 5


def test_the_end_of_a_cut_is_the_delimiter_and_the_final_words(scripted, talker):
    tokenizer = talker[1].tokenizer
    short, long = scripted([thinker(3), thinker(99)], replace(HOW, thinking={"max": 12}))
    assert tokenizer.decode(short.ids[:-1]) == "<think>...</think>7"
    assert tokenizer.decode(long.ids[:-1]) == f"<think>{'.' * 12}</think>\nFinal Answer:7"
    assert long.text == f"<think>{'.' * 12}</think>\n7"
    put = (long.logprobs == 0).sum()
    assert put >= len("<think></think>\nFinal Answer:") and len(long.logprobs) == len(long.ids)


@pytest.mark.parametrize("times", [0, 1, 3])
def test_an_early_end_is_waited_for_so_many_times(scripted, times):
    [found, cut] = scripted([thinker(2), thinker(30)], replace(
        HOW, temperature=0.0, thinking=Budget(max=90, ignore_end=times)))  # fmt: skip
    assert found.text.count("Wait") == times
    assert found.thinking == len(thoughts(found.text)) + len("</think")  # those are bytes
    assert cut.thinking <= 90  # "Wait" is counted, too


HABITS = {
    "nothing": lambda text: None,
    "space": lambda text: "\n",
    "stop string": lambda text: "#" if "</think>" in text else ".",
    "opens thinking": lambda text: "<think>"[len(text.rpartition("Answer:")[2]) % 7 :],
    "closes thinking": lambda text: "</think>"[len(text.rpartition("Answer:")[2]) % 8 :],
}


@pytest.mark.parametrize(("limit", "most"), [(1, 0), (3, 9), (40, 1)])
@pytest.mark.parametrize("habit", HABITS)
def test_no_answer_is_empty(scripted, habit, most, limit):
    """Nor is it eaten by a stop string at its beginning, or by tags within it."""
    from omni.generation.thinking import without_thinking

    [found] = scripted([HABITS[habit]], replace(
        HOW, max_new_tokens=limit, stop=("##", "\n\n"), thinking=Budget(max=most)))  # fmt: skip
    assert without_thinking(found.text)
    assert found.thinking <= most
    assert len(found.ids) <= 7 + most + 8 + 14 + limit


def asked(make_picture, make_sound) -> list:
    one, tone = image(make_picture(1)), audio(make_sound(0.3))
    talks = [
        [user("Two and two?")],
        [user(one, "What is it?")],
        [user(tone, "And?")],
        [user(one, tone, "What is said, and of which of the things that you see?")],
    ]
    return talks + [[user(f"{n} plus {n}?")] for n in range(12)]


@pytest.mark.parametrize(("budget", "temperature"), [
    (Budget(0), 0.0), (Budget(5), 1.0), (Budget(12, min=7, ignore_end=2), 1.0),
])  # fmt: skip
def test_an_answer_is_the_same_alone_and_in_a_batch(talker, make_picture, make_sound, budget,
                                                   temperature):  # fmt: skip
    model, processor = talker
    talks = asked(make_picture, make_sound)[:6]
    how = replace(HOW, thinking=budget, temperature=temperature)
    keys = [identify(talk).whole for talk in talks]
    together = complete(model, processor, prompts(processor, talks, True), how, keys=keys)
    for talk, key, both in zip(talks, keys, together, strict=True):
        [alone] = complete(model, processor, prompts(processor, [talk]), how, keys=[key])
        assert (alone.text, alone.thinking) == (both.text, both.thinking)
        assert torch.equal(alone.ids, both.ids)


def test_over_a_hundred_prompts_control_is_whole(talker, make_picture, make_sound):
    """With a real model; without a budget the same model does not keep to it."""
    from omni.generation.thinking import without_thinking

    model, processor = talker
    talks, ends = asked(make_picture, make_sound), random.Random(0)
    budgets = [Budget(most, ends.randint(0, most), ends.randint(0, 2)) for most in range(1, 8)]
    count = 0
    for number, budget in enumerate(budgets):
        how = replace(HOW, thinking=budget, seed=number)
        for one in complete(model, processor, prompts(processor, talks), how):
            assert budget.min <= one.thinking <= budget.max
            assert without_thinking(one.text)
            count += 1
    assert count > 100


WRONG = {
    "max": ({"max": -1}, "thinking.max must be a whole number from 0, not -1"),
    "half": ({"max": 0.5}, "thinking.max must be a whole number"),
    "none": ({"min": 1}, "thinking must be None or a mapping with max"),
    "min": ({"max": 1, "min": 2}, "thinking.min must be at most max, 1, not 2"),
    "ends": ({"max": 1, "ignore_end": True}, "thinking.ignore_end must be a whole number"),
    "wait": ({"max": 1, "wait": " "}, "thinking.wait must be words"),
    "tag": ({"max": 1, "wait": "</think>"}, "thinking.wait must be words"),
    "final": ({"max": 1, "final": None}, "thinking.final must be words"),
    "marker": ({"max": 1, "marker": "<thikn>"}, "did you mean '<think>'"),
    "key": ({"max": 1, "mni": 0}, "thinking has no 'mni'; did you mean 'min'"),
}  # fmt: skip


@pytest.mark.parametrize("kind", WRONG)
def test_a_budget_that_cannot_be_is_refused(kind):
    value, words = WRONG[kind]
    with pytest.raises(ValueError, match=words):
        Generation(thinking=value)


def test_a_budget_is_part_of_the_key_where_there_is_one():
    assert Generation(thinking={"max": 3}).key == Generation(thinking=Budget(3)).key
    assert Generation(thinking={"max": 3}).key != Generation(thinking={"max": 4}).key
    assert "thinking" not in Generation().key
