"""Preference objectives: their values are those of the papers, and of TRL on the same answers."""

import math
from typing import Any

import pytest
import torch
from datasets import Dataset
from torch.nn.utils.rnn import pad_sequence
from trl import DPOConfig, DPOTrainer

from data_shards.read.batch import Documents
from omni import OmniForConditionalGeneration, OmniProcessor
from omni.entry import EntryError
from omni.processing.messages import MessageError, assistant, user
from omni.processing.processor import IGNORE_INDEX
from stages.objectives import make_objective, objective_class
from stages.objectives.hs_dpo import alphas
from stages.objectives.preference import Answers
from stages.objectives.task import Task

PAIRS = [("Two and two?", "Four.", "Five, I am sure of it."), ("A cat?", "yes", "no"),
         ("Who is it", "It is me, the king of Spain", "nobody")]  # fmt: skip
TRL = {
    "sigmoid": ({}, {}),
    "hinge": ({"loss": "hinge"}, {"loss_type": ["hinge"]}),
    "ipo": ({"loss": "ipo"}, {"loss_type": ["ipo"]}),
    "robust": ({"loss": "robust", "label_smoothing": 0.2},
               {"loss_type": ["robust"], "label_smoothing": 0.2}),
    "per token": ({"length_normalised": True}, {"loss_type": ["sigmoid_norm"]}),
}  # fmt: skip


def documents(processor):
    found = []
    for prompt, *answers in PAIRS:
        found += [processor.encode([user(prompt), assistant(answer)]) for answer in answers]
    return found


def padded(encoded):
    """Pad documents as TRL's collator does: all that are chosen first."""
    ordered = encoded[::2] + encoded[1::2]
    ids, labels = (pad_sequence([getattr(e, name) for e in ordered], True, value)
                   for name, value in (("input_ids", 0), ("labels", IGNORE_INDEX)))  # fmt: skip
    lengths = torch.tensor([[len(e)] for e in ordered])
    mask = torch.arange(ids.shape[1]) < lengths
    return {"input_ids": ids, "attention_mask": mask.long(),
            "completion_mask": (labels != IGNORE_INDEX).long()}  # fmt: skip


@pytest.fixture(scope="module")
def moved(tiny_checkpoint):
    """Hold a model, one that it has moved away from, and a processor."""
    start = OmniForConditionalGeneration.from_pretrained(tiny_checkpoint).eval()
    model = OmniForConditionalGeneration.from_pretrained(tiny_checkpoint).eval()
    noise = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.language_model.parameters():
            parameter += 0.05 * torch.randn(parameter.shape, generator=noise)
    return model, start, OmniProcessor.from_pretrained(tiny_checkpoint)


@pytest.mark.parametrize("name", TRL)
@pytest.mark.parametrize("beta", [0.1, 0.7])
def test_losses_and_figures_are_those_of_trl(moved, tmp_path, name, beta):
    model, start, processor = moved
    options, arguments = TRL[name]
    says = [{"role": "user"}, {"role": "assistant"}]
    rows = [{"prompt": [says[0] | {"content": p}], "chosen": [says[1] | {"content": c}],
             "rejected": [says[1] | {"content": r}]} for p, c, r in PAIRS]  # fmt: skip
    config = DPOConfig(
        str(tmp_path), beta=beta, per_device_train_batch_size=3, max_length=None, report_to=[],
        use_cpu=True, bf16=False, disable_tqdm=True, **arguments,
    )  # fmt: skip
    trainer: Any = DPOTrainer(model, start, config, train_dataset=Dataset.from_list(rows),
                         processing_class=processor.tokenizer)  # fmt: skip
    model.eval()
    encoded = documents(processor)
    expected = trainer.compute_loss(model, padded(encoded))
    task = Task(model, {"kind": "dpo", "beta": beta, **options}, start=start)
    loss = task(processor.pack(encoded), torch.tensor(3.0))
    assert loss.total.item() == pytest.approx(expected.item(), abs=1e-5)
    logged: Any = trainer._metrics["eval"]
    for ours, theirs in {
        "rewards.chosen": "rewards/chosen", "rewards.rejected": "rewards/rejected",
        "rewards.margin": "rewards/margins", "rewards.accuracy": "rewards/accuracies",
        "logps.chosen": "logps/chosen", "logps.rejected": "logps/rejected",
    }.items():  # fmt: skip
        assert loss.sums[ours] / 3 == pytest.approx(logged[theirs][0], rel=1e-5, abs=1e-5)


def pairs(*deltas: float) -> Answers:
    return Answers(torch.tensor([[d, 0.0] for d in deltas]), torch.full((len(deltas), 2), 4.0))


def costs(answers: Answers, entry, **numbers) -> torch.Tensor:
    columns = {"reference": torch.zeros(len(answers.logps), 2)} | {
        name: torch.tensor([[v, v] for v in values]) for name, values in numbers.items()
    }
    objective: Any = make_objective(entry)
    return objective.compare(answers, {}, columns)[0]


def test_the_formulas_by_hand():
    d = 1.5
    smooth = costs(pairs(d), {"kind": "dpo", "beta": 1.0, "label_smoothing": 0.1}).item()
    right, wrong = math.log1p(math.exp(-d)), math.log1p(math.exp(d))
    assert smooth == pytest.approx(0.9 * right + 0.1 * wrong, abs=1e-6)
    assert costs(pairs(0.0), "dpo").item() == pytest.approx(math.log(2), abs=1e-6)
    with_sft = costs(pairs(-d), {"kind": "dpo", "beta": 1.0, "sft_weight": 2.0}).item()
    assert with_sft == pytest.approx(wrong + 2.0 * d / 4, abs=1e-6)


@pytest.mark.parametrize(
    ("options", "rule"),
    [({"beta": 0}, "above 0"), ({"label_smoothing": 0.5}, "below 0.5"),
     ({"sft_weight": -1}, "at least 0"), ({"loss": "sigmod"}, "did you mean 'sigmoid'"),
     ({"loss": "ipo", "label_smoothing": 0.1}, "not of ipo")],
)  # fmt: skip
def test_options_that_cannot_be_are_refused(options, rule):
    with pytest.raises(EntryError, match=rule):
        make_objective({"kind": "dpo", **options})


def test_a_task_without_a_reference_says_so(moved):
    model, _, processor = moved
    task = Task(model, "dpo", stored=True)
    assert task.extra is None
    with pytest.raises(ValueError, match="no log-probabilities of the reference"):
        task(processor.pack(documents(processor)), torch.tensor(3.0))


def test_the_reference_stays_as_the_model_was(moved):
    _, start, processor = moved
    task = Task(start, "dpo").train()
    loss = task(processor.pack(documents(processor)), torch.tensor(3.0))
    assert loss.total.item() == pytest.approx(math.log(2), abs=1e-6)
    assert all(loss.sums[f"rewards.{n}"] == 0 for n in ("chosen", "rejected", "margin"))
    extra: Any = task.extra
    held = {id(p) for p in extra.parameters()}
    assert held.isdisjoint({id(p) for p in start.parameters()})
    assert not any(p.requires_grad for p in extra.parameters()) and not extra.training


def test_hard_pairs_weigh_more_between_the_least_and_the_largest():
    hardness = torch.tensor([-2.0, 0.0, 2.0])
    assert alphas(hardness, -2, 2, 0.2).tolist() == pytest.approx([0.8, 1.0, 1.2])
    assert alphas(torch.full((3,), 2.0), 2, 2, 0.2).tolist() == [1, 1, 1]
    objective: Any = make_objective("hs_dpo")
    columns = {"reference": torch.zeros(3, 2), "hardness": hardness[:, None].expand(3, 2)}
    answers = pairs(0.5, -1.0, 2.0)
    plain = costs(answers, "dpo")
    assert torch.equal(objective.compare(answers, {}, columns)[0], plain)  # not prepared
    counts = [{"k_correct": c, "k_incorrect": i} for c, i in ((3, 1), (2, 2), (1, 3))]
    objective.prepare([*({"meta": meta} for meta in counts), {"meta": {}}, {}])
    weighed = objective.compare(answers, {}, columns)[0]
    assert torch.allclose(weighed, plain * torch.tensor([0.8, 1.0, 1.2]))


@pytest.mark.parametrize("wrong", [{}, {"k_correct": 1}, {"k_correct": 1.5, "k_incorrect": 1},
                                   {"k_correct": -1, "k_incorrect": 5}])  # fmt: skip
def test_a_pair_without_counts_is_named_by_hs_dpo(wrong):
    with pytest.raises(MessageError, match="how many answers to its prompt were right and wrong"):
        objective_class("hs_dpo").rendering.numbers(wrong)


def test_spin_starts_at_ln_2_with_the_gradient_of_dpo(moved):
    _, start, processor = moved
    batch = processor.pack(documents(processor))
    found = {}
    for kind in ("spin", "dpo"):
        start.zero_grad()
        start.requires_grad_(True)
        loss = Task(start, kind)(batch, torch.tensor(3.0))
        loss.total.backward()
        found[kind] = loss, [p.grad.clone() for p in start.language_model.parameters()]
    loss, gradients = found["spin"]
    assert loss.total.item() == pytest.approx(math.log(2), abs=1e-6)
    assert loss.sums["rewards.margin"] == 0 and "rewards.real" in loss.sums
    assert "logps.generated" in loss.sums and "rewards.chosen" not in loss.sums
    assert all(torch.equal(a, b) for a, b in zip(gradients, found["dpo"][1], strict=True))
    assert any(g.abs().max() > 0 for g in gradients)


def test_a_spin_pair_of_equal_answers_has_no_margin(moved):
    """The control: real == own, wherever the model has moved to."""
    model, start, processor = moved
    same = [document for document in documents(processor)[::2] for _ in range(2)]
    loss = Task(model, "spin", start)(processor.pack(same), torch.tensor(3.0))
    assert loss.sums["rewards.margin"].abs() < 1e-4 < loss.sums["rewards.real"].abs()


def test_orpo_by_hand():
    answers = Answers(torch.tensor([[-2.0, -6.0]]), torch.tensor([[4.0, 4.0]]))
    objective: Any = make_objective({"kind": "orpo", "beta": 0.5})
    cost, figures = objective.compare(answers, {}, {})

    def log_odds(p: float) -> float:
        return math.log(p / (1 - p))

    ratio = log_odds(math.exp(-0.5)) - log_odds(math.exp(-1.5))
    assert figures["odds_ratio"].item() == pytest.approx(ratio, rel=1e-5)
    expected = 0.5 + 0.5 * math.log1p(math.exp(-ratio))
    assert cost.item() == pytest.approx(expected, rel=1e-5)


def test_a_sample_that_weighs_two_counts_twice(moved):
    """Loss, denominator and the sums by document, as if it were there twice."""
    model, _, processor = moved
    encoded = documents(processor)[:3]
    task = Task(model, "sft")
    twice = [encoded[0], *encoded]
    count = torch.tensor(float(sum((e.labels != IGNORE_INDEX).sum() for e in twice)))
    expected = task(processor.pack(twice), count).total
    encoded[0].numbers["weight"] = 2.0
    loss = task(processor.pack(encoded), count)
    assert loss.total.item() == pytest.approx(expected.item(), rel=1e-6)
    labels = [int((e.labels != IGNORE_INDEX).sum()) for e in encoded]
    of = Documents([0, 1, 2], labels=labels, numbers=[e.numbers for e in encoded])
    assert sum(task.objective.weights(of)) == count
    assert loss.by_document.sum() / count == pytest.approx(expected.item(), rel=1e-6)
    for wrong in (0, -1, "2", float("inf"), True):
        with pytest.raises(MessageError, match="the weight in its meta is a number above 0"):
            objective_class("sft").rendering.numbers({"weight": wrong})
