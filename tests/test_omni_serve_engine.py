"""The engine: answers that do not depend on their batch, texts that only grow, slots that free."""

import re
import threading
import time
from dataclasses import replace
from itertools import groupby, pairwise, product
from types import SimpleNamespace

import pytest
import torch

from omni.generation.answer import complete, prompts
from omni.generation.settings import Generation
from omni.generation.watch import settled
from omni.processing.identity import identify
from omni.processing.messages import audio, image, user
from omni.serve.engine import Engine
from omni.serve.ticket import DeadError, Ended, Failed, FullError, LateError, Wrote

GREEDY = Generation(max_new_tokens=12)


@pytest.fixture(scope="module")
def talks(make_picture, make_sound):
    one, tone = image(make_picture(1)), audio(make_sound(0.4))
    look = 4 * "See which of the two is red, and say so at once. "
    return [
        [user("Two and two?")],
        [user(one, look, "A. left")],
        [user(one, look, "B. right")],
        [user(tone, one, "And now, what is said?")],
        [user("é" * 40)],
    ]


class Passes:
    """The forward passes of an LLM: they wait for `gate`, are counted by rows, and may break."""

    def __init__(self, model):
        self.gate, self.rows, self.breaks = threading.Event(), [], lambda rows, length: False
        self.gate.set()
        self.hook = model.language_model.register_forward_pre_hook(self, with_kwargs=True)

    def __call__(self, module, args, given):
        rows, length, _ = given["inputs_embeds"].shape
        self.rows.append(rows)
        self.gate.wait(20)
        if self.breaks(rows, length):
            raise RuntimeError("it broke")


@pytest.fixture
def engine(talker):
    """Make engines whose forward passes a test counts, stops and breaks."""
    model, processor = talker
    passes, made = Passes(model), []

    def make(**options):
        made.append(Engine(model, processor, **options))
        return SimpleNamespace(engine=made[-1], gate=passes.gate, passes=passes, model=model)

    yield make
    passes.gate.set()
    for one in made:
        one.close()
    passes.hook.remove()


@pytest.fixture(params=["joined", "whole"])
def batches(request, monkeypatch):
    """Whether who comes joins a batch, as an LLM allows it or not."""
    if request.param == "whole":
        monkeypatch.setattr("omni.generation.prefix.shares", lambda model: False)
    return request.param


class Asked:
    """One question to an engine, and what it reports."""

    def __init__(self, engine, processor, talk, generation=GREEDY, seconds=60.0):
        self.events, self.done = [], threading.Event()
        self.texts = {n: [] for n in range(generation.n)}
        self.found = {}
        prompt = processor.encode(talk, generation=True)
        key = identify(talk).whole
        self.ticket = engine.submit(prompt, key, generation, self.report, seconds)

    def report(self, event):
        self.events.append(event)
        if isinstance(event, Wrote):
            self.texts[event.choice].append(event.text)
        elif isinstance(event, Ended):
            self.found[event.choice] = event.completion
        if isinstance(event, Failed) or len(self.found) == len(self.texts):
            self.done.set()

    def wait(self):
        assert self.done.wait(30)
        return self

    @property
    def error(self):
        return self.events[-1].error


def until(what):
    for _ in range(1000):
        if what():
            return
        time.sleep(0.01)
    raise AssertionError("it never came to be")


MODES = {
    "greedy": GREEDY,
    "drawn": replace(GREEDY, temperature=0.8, top_p=0.9, seed=3),
    "several": replace(GREEDY, temperature=1.2, seed=5, n=3),
    "stop": replace(GREEDY, stop=("e", "zz")),
    "thinking": replace(GREEDY, thinking={"max": 9, "ignore_end": 1}, stop=("e",)),
    "drawn thinking": replace(GREEDY, thinking={"max": 7}, temperature=1.3, seed=2, n=2),
}


def alone(talker, talk, generation):
    model, processor = talker
    batch = prompts(processor, [talk])
    return complete(model, processor, batch, generation, keys=[identify(talk).whole])


def check(one, expected, grows=True):
    one.wait()
    for choice, wanted in enumerate(expected):
        found = one.found[choice]
        assert found.ids.tolist() == wanted.ids.tolist()
        assert torch.allclose(found.logprobs, wanted.logprobs, atol=1e-4)
        assert (found.text, found.finish) == (wanted.text, wanted.finish)
        growing = [*one.texts[choice], found.text]
        assert not grows or all(b.startswith(a) for a, b in pairwise(growing))


@pytest.mark.parametrize("mode", MODES)
def test_answers_in_company_are_those_alone_and_texts_only_grow(
    engine, talker, talks, mode, batches
):
    processor = talker[1]
    generation = MODES[mode]
    wanted = [alone(talker, talk, generation) for talk in talks]
    kit = engine()
    kit.gate.clear()
    others = replace(GREEDY, max_new_tokens=3)
    asked = [Asked(kit.engine, processor, talks[0], others)]
    until(lambda: not kit.engine.waiting)  # the first runs alone, so the rest meet
    asked += [Asked(kit.engine, processor, talk, generation) for talk in talks]
    kit.gate.set()
    for one, expected in zip(asked[1:], wanted, strict=True):
        check(one, expected)
    assert kit.engine.metrics.registry.get_sample_value("omni_answer_seconds_count") == len(asked)


def test_requests_share_a_batch_within_the_budget(engine, talker, talks, batches):
    kit = engine(max_batch=3, token_budget=2000)
    kit.gate.clear()
    first = Asked(kit.engine, talker[1], talks[0])
    until(lambda: kit.passes.rows)
    drawn = [replace(GREEDY, temperature=1.0, seed=seed) for seed in (1, 1, 2)]
    asked = [Asked(kit.engine, talker[1], talks[0], g) for g in (*drawn, *[GREEDY] * 4)]
    long = Asked(kit.engine, talker[1], talks[0], replace(GREEDY, n=8))
    kit.gate.set()
    for one in (first, *asked, long):
        one.wait()
    rows = [count for count, _ in groupby(kit.passes.rows)]
    if batches == "whole":
        assert rows == [1, 2, 1, 3, 1, 8]
    else:  # of each kind, as soon as one leaves
        assert rows[:3] == [1, 2, 3]
        assert rows[-2:] == [1, 8]  # the prompt of more answers than a batch may hold, and those
        assert max(rows[:-1]) == 3


def test_who_comes_joins_those_being_answered(engine, talker, talks):
    kit = engine()
    asked = []
    for talk, mode in product(talks, MODES):
        asked.append((Asked(kit.engine, talker[1], talk, MODES[mode]), talk, MODES[mode]))
        count = len(kit.passes.rows)
        until(lambda least=count + 2: len(kit.passes.rows) > least or not kit.engine.running)
    for one, talk, generation in asked:
        check(one, alone(talker, talk, generation))
    assert max(kit.passes.rows) > 3


def test_who_comes_late_does_not_wait_for_a_long_answer(engine, talker, talks):
    kit = engine()
    long = Asked(kit.engine, talker[1], talks[1], replace(GREEDY, max_new_tokens=4000))
    until(lambda: len(long.events) > 1)
    assert Asked(kit.engine, talker[1], talks[0]).wait().found
    assert not long.done.is_set()
    kit.engine.cancel(long.ticket)


@pytest.mark.parametrize(
    ("text", "stop", "sure"),
    [
        ("One two", (), "One two"),
        ("  One two \n", (), "One two"),
        ("caf\ufffd", (), "caf"),
        ("One\nUs", ("\nUser",), "One"),
        ("One \nUs", ("\nUser", "Us now"), "One"),
        ("a END", ("D!",), "a EN"),
        ("a EN", ("ENDED", "EN."), "a"),
        ("x\ufffd", ("xé",), ""),
    ],
)
def test_what_may_still_change_is_not_sure(text, stop, sure):
    assert settled(text, stop) == sure


def test_a_cleaning_tokenizer_may_still_take_spaces_out():
    assert settled("What do no", (), cleans=True) == "Wh"  # it may become "What don't"


def test_who_goes_away_frees_the_slot_within_a_token(engine, talker, talks):
    kit = engine()
    long = replace(GREEDY, max_new_tokens=4000)
    kit.gate.clear()
    first = Asked(kit.engine, talker[1], talks[0])
    until(lambda: not kit.engine.waiting)
    asked = [Asked(kit.engine, talker[1], talks[0], long) for _ in range(2)]
    kit.gate.set()
    first.wait()
    until(lambda: all(len(one.events) >= 2 for one in asked))
    kit.engine.cancel(asked[0].ticket)
    count = len(asked[0].events)
    asked[0].wait()
    assert len(asked[0].events) <= count + 2  # the token that was under way, and the end
    kit.engine.cancel(asked[1].ticket)
    assert Asked(kit.engine, talker[1], talks[0]).wait().found  # nobody waits for 4,000 tokens


@pytest.mark.parametrize("when", ["waiting", "answering"])
def test_a_deadline_ends_what_is_late(engine, talker, talks, when):
    kit = engine(max_batch=1)
    long = replace(GREEDY, max_new_tokens=4000)
    if when == "waiting":
        busy = Asked(kit.engine, talker[1], talks[1], long)
        until(lambda: len(busy.events) > 1)
        late = Asked(kit.engine, talker[1], talks[0], seconds=0.2).wait()
        assert "waiting" in str(late.error)
        kit.engine.cancel(busy.ticket)
    else:
        late = Asked(kit.engine, talker[1], talks[0], long, seconds=0.5).wait()
    assert isinstance(late.error, LateError)
    assert Asked(kit.engine, talker[1], talks[0]).wait().found


def test_a_full_queue_says_when_to_come_back(engine, talker, talks):
    kit = engine(waiting=2, max_batch=1)
    kit.gate.clear()
    asked = [Asked(kit.engine, talker[1], talks[0])]
    until(lambda: not kit.engine.waiting)
    asked += [Asked(kit.engine, talker[1], talks[0]) for _ in range(2)]
    with pytest.raises(FullError, match="2 requests are waiting") as caught:
        Asked(kit.engine, talker[1], talks[0])
    assert caught.value.after >= 1
    kit.engine.cancel(asked[-1].ticket)
    asked[-1] = Asked(kit.engine, talker[1], talks[0])  # there is room again
    kit.gate.set()
    assert all(one.wait().found for one in asked)


def test_what_breaks_a_batch_costs_itself_alone(engine, talker, talks, batches):
    kit = engine()
    longest = len(talker[1].encode(talks[1], generation=True))
    kit.passes.breaks = lambda rows, length: length >= longest
    kit.gate.clear()
    first = Asked(kit.engine, talker[1], talks[0])
    until(lambda: not kit.engine.waiting)
    good, bad = (Asked(kit.engine, talker[1], talks[n]) for n in (0, 1))
    kit.gate.set()
    assert first.wait().found[0].text == good.wait().found[0].text
    assert str(bad.wait().error) == "the model failed: RuntimeError: it broke"
    assert kit.engine.alive


def test_what_breaks_while_it_is_written_is_written_anew(engine, talker, talks):
    kit = engine()
    kit.passes.breaks = lambda rows, length: rows == 3
    kit.gate.clear()
    asked = [Asked(kit.engine, talker[1], talk) for talk in talks[:3]]
    kit.gate.set()
    for one, talk in zip(asked, talks, strict=False):
        check(one, alone(talker, talk, GREEDY), grows=False)  # those that get it wait for more


class Killing:
    """Lets the next forward passes of a model end the thread that runs them."""

    def __init__(self, model, error, times):
        self.error, self.left, self.gate = error, times, threading.Event()
        self.hook = model.language_model.register_forward_pre_hook(self)

    def __call__(self, *given):
        self.gate.wait(20)
        if self.left:
            self.left -= 1
            raise self.error


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("error", [torch.AcceleratorError("device lost"), SystemExit()])
def test_a_dead_worker_leaves_nobody_waiting_and_another_follows(
    engine, talker, talks, error, monkeypatch
):
    monkeypatch.setattr("omni.serve.engine.PAUSE", 0.3)
    kit = engine()
    killing = Killing(kit.model, error, 2)
    try:
        asked = [Asked(kit.engine, talker[1], talks[0])]
        until(lambda: not kit.engine.waiting)
        asked.append(Asked(kit.engine, talker[1], talks[0]))
        assert kit.engine.alive
        killing.gate.set()
        reason = f"the worker that answers has ended .{type(error).__name__}"
        for one in asked:
            assert isinstance(one.wait().error, DeadError) and re.match(reason, str(one.error))
        with pytest.raises(DeadError, match="try again in 1 s"):
            Asked(kit.engine, talker[1], talks[0])
        until(lambda: kit.engine.alive)
        assert isinstance(Asked(kit.engine, talker[1], talks[0]).wait().error, DeadError)
        ended = time.monotonic()
        until(lambda: kit.engine.alive)
        assert time.monotonic() - ended > 0.4  # longer, as nothing was answered in between
        found = Asked(kit.engine, talker[1], talks[0]).wait().found
        alone = complete(*talker, prompts(talker[1], [talks[0]]), GREEDY)
        assert found[0].ids.tolist() == alone[0].ids.tolist()
    finally:
        killing.hook.remove()
