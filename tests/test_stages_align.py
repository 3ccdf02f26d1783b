"""The align objective learns what is in the media, not what answers look like."""

import numpy as np
import pytest
import torch

from data_shards.sources.demo.shapes import draw
from omni.processing.messages import assistant, audio, image, user
from omni.processing.processor import IGNORE_INDEX
from stages.objectives.align import _ctc
from stages.objectives.task import Task
from stages.trainable.patterns import param_groups

COLOURS = ("red", "green", "blue", "black")


def picture(colour: str, rng: np.random.Generator):
    shape = ("circle", "square", "star")[rng.integers(3)]
    place = f"{rng.choice([0.38, 0.5, 0.62])}-{rng.choice([0.38, 0.5, 0.62])}"
    return draw(shape, colour, "large", place, "white")


def tone(word: int, rng: np.random.Generator) -> np.ndarray:
    t = np.arange(6400) / 16_000
    return (0.3 * np.sin(2 * np.pi * 300 * (1 + word) * t + rng.uniform(0, 6))).astype(np.float32)


def pairs(processor, kind: str, count: int, seed: int, shuffled: bool = False):
    rng = np.random.default_rng(seed)
    said = [n % 4 for n in range(count)]
    shown = list(rng.permutation(said)) if shuffled else said
    out = []
    for word, n in zip(said, shown, strict=True):
        medium = image(picture(COLOURS[n], rng)) if kind == "image" else audio(tone(int(n), rng))
        out.append(processor.encode([user(medium), assistant(COLOURS[word])]))
    return out


def count(batch) -> torch.Tensor:
    return (batch["labels"] != IGNORE_INDEX).sum()


@pytest.mark.parametrize(("kind", "name"), [("image", "vision"), ("audio", "audio")])
def test_true_pairs_are_learnt_and_shuffled_ones_are_not(make_model, specs, kind, name):
    """Held-out true pairs: low loss after training on true pairs, high after shuffled ones."""
    held_out = {}
    for shuffled in (False, True):
        spec = getattr(specs, name)
        model, processor = make_model(**{name: spec})
        groups = param_groups(model, {f"projectors.{name}": 3e-3}, 0.0)
        optimizer = torch.optim.AdamW(groups)
        task = Task(model, "align").train()
        batches = [processor.pack(pairs(processor, kind, 16, seed, shuffled)) for seed in (1, 2, 3)]
        losses = []
        for step in range(45):
            batch = batches[step % 3]
            loss = task(batch, count(batch)).total
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            losses.append(loss.item())
        test = processor.pack(pairs(processor, kind, 16, 99))
        with torch.no_grad():
            held_out[shuffled] = task(test, count(test))[0].item()
        if not shuffled:
            assert losses[-1] < 0.6 * losses[0]
    assert held_out[False] < 0.75 * held_out[True], held_out


def test_align_never_runs_the_llm(make_model, specs, monkeypatch):
    model, processor = make_model(vision=specs.vision, audio=specs.audio)

    def fail(*_, **__):
        raise AssertionError("the LLM ran")

    monkeypatch.setattr(model.language_model, "forward", fail)
    rng = np.random.default_rng(0)
    encoded = [
        processor.encode([user(image(picture("red", rng))), assistant("red")]),
        processor.encode([user(audio(tone(1, rng))), assistant("green")]),
        processor.encode([user("no media"), assistant("none")]),
    ]
    batch = processor.pack(encoded)
    loss = Task(model, "align")(batch, count(batch)).total
    loss.backward()
    assert loss.item() > 0
    assert all(p.grad is not None for p in model.projectors.parameters())
    assert model.get_input_embeddings().weight.grad is None


def test_align_without_any_media_is_zero_and_reaches_every_projector(make_model, specs):
    model, processor = make_model(vision=specs.vision)
    batch = processor.pack([processor.encode([user("a"), assistant("b")])])
    loss = Task(model, "align").train()(batch, count(batch)).total
    loss.backward()
    assert loss.item() == 0
    assert all(p.grad is not None for p in model.projectors.parameters())


def test_the_loss_of_a_batch_is_the_sum_of_its_parts(make_model, specs):
    """Dividing by the labels of the whole batch, a sound's loss does not depend on its batch."""
    model, processor = make_model(audio=specs.audio)
    encoded = pairs(processor, "audio", 4, 5)
    for one in encoded:
        one.labels = one.labels.clone()
    task = Task(model.eval(), "align")
    total = sum(int((e.labels != IGNORE_INDEX).sum()) for e in encoded)
    with torch.no_grad():
        whole, documents, _ = task(processor.pack(encoded), torch.tensor(total))
        parts = [task(processor.pack([e]), torch.tensor(total))[0].item() for e in encoded]
        assert whole.item() == pytest.approx(sum(parts), rel=0.02)  # each counts alone
        assert sum(documents).item() / total == pytest.approx(sum(parts), rel=0.1)
        assert len(documents) == 4


def test_spelling_is_ctc_over_all_words_of_the_table():
    rng = torch.Generator().manual_seed(0)
    table = torch.nn.functional.normalize(torch.randn(200, 16, generator=rng), dim=1)
    answers = [torch.tensor(a) for a in ([5, 6, 6], [7], [150, 5])]
    owner = torch.arange(3).repeat_interleave(torch.tensor([9, 4, 6]))
    frequency = torch.zeros(200).index_fill(0, torch.cat(answers).unique(), 1)
    frequency[0] = 1  # so that the blank is 1
    made = torch.randn(19, 16, generator=rng)
    tokens, other = (made.clone().requires_grad_() for _ in range(2))
    loss = _ctc(tokens, owner, answers, table, frequency, scale=9.0)
    scores = (9.0 * torch.nn.functional.normalize(other, dim=1) @ table.T).log_softmax(1)
    whole = torch.nn.functional.ctc_loss(
        torch.nn.utils.rnn.pad_sequence(scores.split([9, 4, 6])), torch.cat(answers),
        torch.tensor([9, 4, 6]), torch.tensor([3, 1, 2]), blank=1, reduction="none",
    )  # fmt: skip
    torch.testing.assert_close(loss, whole)
    for found in (loss, whole):
        (found * torch.tensor([1.0, 3.0, 0.5])).sum().backward()
    torch.testing.assert_close(tokens.grad, other.grad, rtol=1e-4, atol=1e-6)
