"""Answers that take turns between text and speech, as they were learnt."""

import pytest
import torch

from omni.generation.answer import answer
from omni.generation.settings import Generation
from omni.generation.speech import SpeechError, say
from omni.generation.telling import tell
from omni.processing.messages import assistant, audio, user
from stages.objectives.task import Task

ASKED = {"one": ["red", "blue"], "two": ["green"], "three": ["red", "green", "blue"]}
PITCHES = {"red": 300, "green": 500, "blue": 800}


@pytest.fixture(scope="module")
def taught(make_speaker, make_sound):
    """Give a model that was taught three conversations by heart; one is asked aloud."""
    model, processor = make_speaker("depth")
    sounds = {word: make_sound(0.3, pitch) for word, pitch in PITCHES.items()}
    questions = {
        "one": user("one"),
        "two": user("two"),
        "three": user("three", audio(sounds["red"])),
    }
    talks = {name: [questions[name], assistant(*(part for word in words
                                                 for part in (word, audio(sounds[word]))))]
             for name, words in ASKED.items()}  # fmt: skip
    batch = processor.pack([processor.encode(talk) for talk in talks.values()])
    count = torch.tensor(float(batch["label_positions"].numel()))
    model.requires_grad_(False)
    for part in (model.language_model, model.heads, model.projectors):
        part.requires_grad_(True)
    task = Task(model, "speak").train()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], 3e-3)
    for _ in range(120):
        optimizer.zero_grad()
        task(batch | task.step_counts([batch]), count).total.backward()
        optimizer.step()
    codes = {word: model.codes("speech", dict(_clip(processor, sound)))[:-1]
             for word, sound in sounds.items()}  # fmt: skip
    return model.eval(), processor, questions, codes


def _clip(processor, sound):
    return processor.pack([processor.encode([user(audio(sound))])])


@pytest.mark.parametrize("name", ASKED)
def test_each_piece_is_written_then_said(taught, name):
    model, processor, questions, codes = taught
    pieces = list(tell(model, processor, [questions[name]]))
    assert [piece.text for piece in pieces] == ASKED[name]
    assert {piece.finish for piece in pieces} == {"stop"}
    for piece in pieces:
        assert torch.equal(piece.codes, codes[piece.text])
    assert not torch.equal(codes["red"], codes["blue"])


def test_the_first_piece_is_what_one_would_answer_and_say(taught):
    model, processor, questions, _ = taught
    how = Generation(temperature=0.7, seed=3)
    for question in questions.values():
        first = next(tell(model, processor, [question], how))
        [text] = answer(model, processor, [[question]], how)
        [said] = say(model, processor, [[question]], [text])
        assert first.text == text
        assert torch.equal(first.codes, said.codes)


def test_what_is_cut_says_so_and_is_the_last(taught):
    model, processor, questions, _ = taught
    short = Generation(max_new_tokens=2)
    [piece] = tell(model, processor, [questions["three"]], short)
    assert piece.finish == "length" and "red".startswith(piece.text)


def test_what_cannot_tell_is_named(taught, make_model):
    model, processor, questions, _ = taught
    with pytest.raises(ValueError, match="without a budget of thinking"):
        next(tell(model, processor, [questions["one"]], Generation(n=2)))
    with pytest.raises(SpeechError, match="cannot speak"):
        next(tell(*make_model(), [questions["one"]]))
