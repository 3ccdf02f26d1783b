"""What holds of every objective: how a step is cut does not matter, and answers do."""

from dataclasses import fields
from typing import get_args

import pytest
import torch

from data_shards.bench.zoo_videos import filmed
from data_shards.read.encode import Encode
from data_shards.shards.sample import Sample
from omni.entry import EntryError
from omni.processing.messages import assistant, audio, image, user, video
from omni.processing.processor import IGNORE_INDEX
from stages.doctor.comparison import packed_equals_unpacked
from stages.objectives import OBJECTIVES, ON_ROLLOUTS, make_objective, objective_class
from stages.objectives.task import Task

OF_TEXT = [kind for kind in OBJECTIVES if set(objective_class(kind).needs) <= {"value"}]
"""those of speech need another model: tests/test_stages_speech.py"""
HEADS = {"critic": {"head": {"kind": "value"}}}
META = {"weight": 2.5, "k_correct": 1, "k_incorrect": 3}


def encode(processor, objective, talks):
    """Encode samples as an objective wants them: conversations, or pairs of answers.

    The documents of a pair have log-probabilities of a model that is not the trained one.
    """
    rendering = objective_class(objective).rendering
    encode, found = Encode(processor, rendering), []
    for n, talk in enumerate(talks):
        answer, parts = talk[-1], {}

        def stored(part, parts=parts):
            if part["type"] == "text":
                return part
            name = f"part{len(parts)}"
            parts[name] = part[part["type"]]
            return {**part, part["type"]: name}

        prompt = [{**m, "content": [*map(stored, m["content"])]} for m in talk[:-1]]
        sample = Sample([*prompt, answer], parts, META if n else META | {"k_correct": 3})
        if rendering.documents_per_sample == 2:
            sample.messages = prompt
            sample.chosen, sample.rejected = [answer], [assistant(f"not so, {n}")]
        for document in encode.sample(sample):
            if rendering.documents_per_sample == 2:
                labels = int((document.labels != IGNORE_INDEX).sum())
                document.numbers["reference"] = -6.0 * labels + len(found) % 3
            if objective in ON_ROLLOUTS:
                drawn = torch.linspace(-6.0, -5.0, int((document.labels != IGNORE_INDEX).sum()))
                worth = torch.full_like(drawn, -1.0 if n % 2 else -2.0)
                document.by_label = {"behaviour": drawn, "advantages": worth,
                                     "values": drawn + 6, "returns": worth + drawn}  # fmt: skip
                document.numbers |= {"budget": 64.0, "temperature": 0.9}
            found.append(document)
    return found


def make_all(make_model, specs, objective):
    """Return a model that sees and hears, with the head that an objective needs."""
    heads = HEADS if objective_class(objective).needs else {}
    return make_model(vision=specs.vision, audio=specs.audio, **heads)


@pytest.mark.parametrize("objective", OF_TEXT)
def test_the_cut_into_micro_batches_does_not_matter(make_model, specs, talks, objective):
    model, processor = make_all(make_model, specs, objective)
    model.requires_grad_(True)
    encoded = encode(processor, objective, talks)
    result = packed_equals_unpacked(model, processor, encoded, objective=objective)
    assert result.ok and result.packed > 0.01, result
    assert any(p.requires_grad for p in model.projectors.parameters())
    task = Task(model, objective)
    counted = task.step_counts([processor.pack(encoded)])
    each = task.objective.rendering.documents_per_sample
    for name, counts in counted.items():  # without them, it would matter
        alone = task.step_counts([processor.pack(encoded[:each])])[name]
        assert not torch.equal(alone, counts)


@pytest.mark.parametrize("objective", OF_TEXT)
@pytest.mark.parametrize("kind", ["image", "audio"])
def test_one_sample_trains(make_model, make_picture, make_sound, specs, objective, kind):
    """What it is taught depends on its answer, not on its length alone."""
    model, processor = make_all(make_model, specs, objective)
    medium = image(make_picture(1)) if kind == "image" else audio(make_sound(0.4))
    last = model.projectors["vision" if kind == "image" else "audio"].mlp[-1].weight
    pulls = []
    for answer in ("dog", "fly"):
        batch = processor.pack(encode(processor, objective, [[user(medium), assistant(answer)]]))
        model.zero_grad()
        Task(model, objective).train()(batch, torch.tensor(4.0)).total.backward()
        pulls.append(last.grad.clone())
    assert (pulls[0] - pulls[1]).norm() > 0.1 * pulls[0].norm() > 0


@pytest.mark.parametrize("objective", OF_TEXT)
def test_what_fills_a_pack_costs_nothing(make_model, specs, talks, objective):
    """It has no labels; the objective's figures do not count it, either."""
    model, processor = make_all(make_model, specs, objective)
    model.requires_grad_(True)
    encoded = encode(processor, objective, talks[:1])
    for document in encoded:
        document.labels = torch.full_like(document.labels, IGNORE_INDEX)
        document.by_label = {}
    task = Task(model, objective).train()
    loss = task(processor.pack(encoded), torch.tensor(1.0))
    loss.total.backward()
    assert loss.total.item() == 0 == loss.by_document.sum()
    assert all(value == 0 for value in loss.sums.values())
    assert loss.sums.keys() == set(task.objective.figures)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_options_of_another_type_are_refused(objective):
    for field in fields(objective_class(objective).options_class):
        choices = get_args(field.type)
        wrong = 3 if choices or field.type is bool else "much"
        rule = f"{field.name} is {' or '.join(choices) if choices else ''}"
        with pytest.raises(EntryError, match=rule) as error:
            make_objective({"kind": objective, field.name: wrong})
        assert error.value.keys == (field.name,)


@pytest.mark.parametrize("kind", ["image", "audio", "video"])
def test_two_answers_share_the_media_of_their_prompt(
    make_model, make_picture, make_sound, specs, kind, monkeypatch
):
    """A medium is preprocessed and encoded once, and each document sees the same features."""
    model, processor = make_model(vision=specs.vision, audio=specs.audio)
    if kind == "video":
        talk = [user(video(filmed("mp4", "mpeg4", 6), max_frames=3), "What?")]
    else:
        part = image(make_picture(3)) if kind == "image" else audio(make_sound(0.5))
        more = image(make_picture(4)) if kind == "image" else audio(make_sound(0.9))
        talk = [user(part, "and", more, "What?")]
    pair = encode(processor, "dpo", [[*talk, assistant("this")]])
    name = "audio" if kind == "audio" else "vision"
    assert all(a is b for a, b in zip(*(e.media[name] for e in pair), strict=True))
    encoder, seen = model.encoders[name], []
    forward = encoder.forward

    def counted(*media):
        found = forward(*media)
        seen.append(len(found.cells))
        return found

    monkeypatch.setattr(encoder, "forward", counted)
    batch = processor.pack(pair)
    with torch.no_grad():
        together = model(**{k: v for k, v in batch.items() if k != "reference"}).token_losses
        assert seen == [len(pair[0].media[name])]
        alone = []
        for document in pair:
            document.numbers.clear()
            alone.append(model(**processor.pack([document])).token_losses)
    assert torch.allclose(together, torch.cat(alone), atol=1e-5)
