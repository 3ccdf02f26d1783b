"""sft may keep the LLM's answers to text as the stage found them."""

import pytest
import torch
from torch.nn import functional as F

from omni.entry import EntryError
from omni.processing.messages import assistant, image, user
from omni.processing.processor import IGNORE_INDEX
from stages.objectives import make_objective
from stages.objectives.task import Task
from stages.training.probes import heldout_losses


@pytest.fixture
def moved(make_model, make_picture, specs):
    """A model that has left the one it began as, and three conversations, one with a picture."""
    model, processor = make_model(vision=specs.vision)
    model.requires_grad_(True)
    talks = [
        [user("What is ice made of?"), assistant("Frozen water.")],
        [user("What is this?", image(make_picture(1))), assistant("A square.")],
        [user("Who says meow?"), assistant("A cat."), user("And woof?"), assistant("A dog.")],
    ]
    encoded = [processor.encode(talk) for talk in talks]

    def task(keep):
        model.train()
        return Task(model, {"kind": "sft", "keep": keep})

    def move():
        torch.manual_seed(1)
        with torch.no_grad():
            for parameter in model.language_model.parameters():
                parameter += 0.05 * torch.randn_like(parameter)

    return task, move, processor, encoded


def expected(task, processor, encoded, keep):
    """Sums by conversation, each of them run by itself, with the logits of all positions."""
    found = []
    for one in encoded:
        batch = processor.pack([one])
        labels, ids = batch.pop("labels")[0, 1:], batch["input_ids"][0]
        place = labels != IGNORE_INDEX
        batch.pop("label_positions")
        ours = task.model(**batch).logits[0, :-1][place].log_softmax(-1)
        cost = F.nll_loss(ours, labels[place], reduction="none")
        if not (ids == task.model.config.modalities["vision"]["token_id"]).any():
            theirs = task.extra(**batch).logits[0, :-1][place].log_softmax(-1)
            cost = (1 - keep) * cost + keep * (theirs.exp() * (theirs - ours)).sum(-1)
        found.append(cost.sum())
    return torch.stack(found)


@pytest.mark.parametrize("keep", [0.3, 1.0])
def test_text_costs_its_distance_from_the_model_that_the_stage_found(moved, keep):
    make, move, processor, encoded = moved
    task = make(keep)
    move()
    sums = expected(task, processor, encoded, keep)
    gradients = []
    for cut in ([[0, 1, 2]], [[0], [1, 2]], [[1], [0], [2]]):
        task.zero_grad()
        for rows in cut:
            loss = task(processor.pack([encoded[n] for n in rows]), torch.tensor(7.0))
            torch.testing.assert_close(loss.total * 7, sums[rows].sum(), atol=1e-4, rtol=1e-4)
            torch.testing.assert_close(loss.by_document[: len(rows)], sums[rows], atol=1e-4,
                                       rtol=1e-4)  # fmt: skip
            loss.total.backward()
        gradients.append([p.grad.clone() for p in task.model.parameters() if p.grad is not None])
    for others in gradients[1:]:
        for one, other in zip(gradients[0], others, strict=True):
            torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)
    assert all(p.grad is None for p in task.extra.parameters())
    assert {name.split(".")[0] for name in task.extra.state_dict()} == {"language_model"}


def test_what_did_not_move_costs_nothing_and_what_is_held_out_costs_its_labels(moved):
    make, _, processor, encoded = moved
    task, batch, one = make(1.0), processor.pack([encoded[0]]), torch.tensor(1.0)
    assert task(batch, one).total.abs() < 1e-5
    task.eval()
    plain = Task(task.model, "sft").eval()
    assert torch.equal(task(batch, one).total, plain(batch, one).total) and plain.extra is None


def test_what_is_held_out_is_scored_without_a_copy_of_the_model(moved, monkeypatch):
    make, _, processor, encoded = moved
    model, samples = make(0.5).model.eval(), [[one] for one in encoded]
    plain = heldout_losses(model, processor, samples, "sft")
    monkeypatch.setattr("copy.deepcopy", None)
    assert heldout_losses(model, processor, samples, {"kind": "sft", "keep": 0.5}) == plain


@pytest.mark.parametrize("keep", [-0.1, 1.1])
def test_a_share_is_from_0_to_1(keep):
    with pytest.raises(EntryError, match="from 0 to 1"):
        make_objective({"kind": "sft", "keep": keep})
