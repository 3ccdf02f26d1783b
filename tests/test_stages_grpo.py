"""Losses of policy gradients: those of the papers, and of TRL on the same answers."""

import math
from typing import Any

import pytest
import torch
from datasets import Dataset
from torch.nn.utils.rnn import pad_sequence
from trl import GRPOConfig, GRPOTrainer

from data_shards.read.batch import Documents
from omni.entry import EntryError
from omni.processing.messages import assistant, user
from omni.processing.processor import IGNORE_INDEX
from stages.objectives import make_objective
from stages.objectives.clip import clipped_costs
from stages.objectives.credit import (
    group_advantages,
    lcpo_exact,
    lcpo_max,
    leave_one_out,
    soft_overlong,
)
from stages.objectives.policy import Labels, divergence, score_labels
from stages.objectives.task import Task

ANSWERS = ["Four.", "Five, I am sure of it.", "4", "no"]
WORTH = [1.5, -0.5, 0.25, -1.25]
LONGEST = 30
TRL = {
    "grpo": ({"loss": "grpo"}, {"loss_type": "grpo"}),
    "dr_grpo": ({"loss": "dr_grpo"}, {"loss_type": "dr_grpo"}),
    "dapo": ({"loss": "dapo", "clip_high": 0.28}, {"loss_type": "dapo", "epsilon_high": 0.28}),
    "bnpo": ({"loss": "bnpo"}, {"loss_type": "bnpo"}),
    "gspo": ({"loss": "gspo", "clip": 0.01},
             {"loss_type": "grpo", "importance_sampling_level": "sequence", "epsilon": 0.01}),
    "k3": ({"kl": 0.3, "estimator": "k3"},
           {"loss_type": "grpo", "use_bias_correction_kl": False}),
    "corrected": ({"kl": 0.3}, {"loss_type": "grpo", "use_bias_correction_kl": True}),
}  # fmt: skip


def documents(processor):
    """Encode four answers to one prompt; what they were drawn with is off by up to a half."""
    found, noise = [], torch.Generator().manual_seed(0)
    for answer, worth in zip(ANSWERS, WORTH, strict=True):
        encoded = processor.encode([user("Two and two?"), assistant(answer)])
        count = int((encoded.labels != IGNORE_INDEX).sum())
        off = torch.rand(2, count, generator=noise) - 0.5
        encoded.by_label = {"behaviour": off[0] - 5.5, "reference_logps": off[1] - 5.5,
                            "advantages": torch.full((count,), worth)}  # fmt: skip
        encoded.numbers = {"temperature": 0.9, "budget": float(LONGEST)}
        found.append(encoded)
    return found


def padded(encoded):
    """Pad what `documents` returns as TRL does: prompts, then completions."""
    labelled = [e.labels != IGNORE_INDEX for e in encoded]
    mine = [e.input_ids[own] for e, own in zip(encoded, labelled, strict=True)]
    prompts = torch.stack([e.input_ids[~own] for e, own in zip(encoded, labelled, strict=True)])
    mask = pad_sequence([torch.ones_like(ids) for ids in mine], True)

    def rows(name):
        return pad_sequence([e.by_label[name] for e in encoded], True)

    return {
        "prompt_ids": prompts, "prompt_mask": torch.ones_like(prompts),
        "completion_ids": pad_sequence(mine, True), "completion_mask": mask,
        "advantages": torch.tensor(WORTH), "old_per_token_logps": rows("behaviour"),
        "ref_per_token_logps": rows("reference_logps"), "num_items_in_batch": mask.sum(),
    }  # fmt: skip


def packed_loss(model, processor, options, encoded, cut):
    """Return the loss of documents cut into so many rows, and its gradients."""
    task: Any = Task(model, {"kind": "grpo", **options})
    size = len(encoded) // cut
    rows = [encoded[n : n + size] for n in range(0, len(encoded), size)]
    of = [Documents([*range(len(row))], labels=[len(d.by_label["behaviour"]) for d in row],
                    numbers=[d.numbers for d in row]) for row in rows]  # fmt: skip
    count = torch.tensor(sum(sum(task.objective.weights(row)) for row in of))
    model.zero_grad()
    total = 0.0
    for row in rows:
        loss = task(processor.pack(row), count).total
        loss.backward()
        total += loss.item()
    return total, [p.grad.clone() for p in model.language_model.parameters()]


@pytest.mark.parametrize("name", TRL)
def test_losses_and_gradients_are_those_of_trl_however_a_step_is_cut(make_model, tmp_path, name):
    model, processor = make_model()
    options, arguments = TRL[name]
    config = GRPOConfig(
        str(tmp_path), temperature=0.9, max_completion_length=LONGEST, num_generations=4,
        per_device_train_batch_size=4, report_to=[], use_cpu=True, bf16=False, disable_tqdm=True,
        **arguments,
    )  # fmt: skip
    data = Dataset.from_list([{"prompt": "Two and two?"}] * 4)
    trainer: Any = GRPOTrainer(model, lambda completions, **_: [0.0], config, train_dataset=data,
                               processing_class=processor.tokenizer)  # fmt: skip
    trainer.beta = options.get("kl", 0.0)  # given earlier, it would load a reference by name
    model.eval()
    encoded = documents(processor)
    if "kl" not in options:
        for document in encoded:
            del document.by_label["reference_logps"]
        inputs = padded(documents(processor))
    else:
        inputs = padded(encoded)
    expected = trainer._compute_loss(model, inputs)
    model.zero_grad()
    expected.backward()
    gradients = [p.grad.clone() for p in model.language_model.parameters()]
    for cut in (1, 2, 4):
        loss, found = packed_loss(model, processor, options, encoded, cut)
        assert loss == pytest.approx(expected.item(), abs=1e-5)
        for mine, theirs in zip(found, gradients, strict=True):
            assert torch.allclose(mine, theirs, atol=1e-5)
    assert max(float(g.abs().max()) for g in gradients) > 1e-3


@pytest.mark.parametrize(
    ("rewards", "scale", "expected"),
    [([1, 0, 0, 0], "std", [1.5, -0.5, -0.5, -0.5]), ([1, 1, 0, 0], "none", [0.5, 0.5, -0.5, -0.5]),
     ([1, 0, 0, 0], "none", [0.75, -0.25, -0.25, -0.25]), ([3, 3, 3], "std", [0, 0, 0])],
)  # fmt: skip
def test_advantages_by_hand(rewards, scale, expected):
    [found] = group_advantages([torch.tensor(rewards, dtype=torch.float)], scale)
    assert found.tolist() == pytest.approx(expected, abs=4e-4)


def test_advantages_over_a_rollout_and_without_the_own_reward():
    groups = [torch.tensor([1.0, 0.0]), torch.tensor([5.0, 5.0]), torch.tensor([2.0])]
    deviation = torch.cat(groups).std().item() + 1e-4
    found = torch.cat(group_advantages(groups, "batch"))
    assert found.tolist() == pytest.approx([0.5 / deviation, -0.5 / deviation, 0, 0, 0])
    assert leave_one_out(torch.tensor([1.0, 0.0, 0.0])).tolist() == [1.0, -0.5, -0.5]
    assert leave_one_out(torch.tensor([7.0])).tolist() == [0.0]


def test_fines_and_lengths_by_hand():
    assert soft_overlong(90, 100, 20) == -0.5
    assert [soft_overlong(n, 100, 20) for n in (80, 100, 130)] == [0, -1, -1]
    assert soft_overlong(100, 100, 0) == 0
    assert lcpo_exact(1, 2000, 1000, 3e-4) == pytest.approx(0.7)
    assert lcpo_max(1, 500, 500, 3e-4) == 0.5
    assert [lcpo_max(r, 9000, n, 3e-4) for r, n in ((1, 10), (1, 20000), (0, 10))] == [1, 0, 0]


def labels(logps, behaviour, advantages, lengths):
    document = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths))
    length = torch.tensor(lengths, dtype=torch.float)[document]
    logps, behaviour, advantages = (
        torch.as_tensor(v, dtype=torch.float).expand(len(document))
        for v in (logps, behaviour, advantages)
    )
    return Labels(logps, behaviour, advantages, document, length)


@pytest.mark.parametrize(("loss", "ratio"), [("grpo", 10), ("dapo", 1), ("dr_grpo", 1)])
def test_a_long_wrong_answer_is_pushed_as_hard_as_a_short_one_or_not(make_model, loss, ratio):
    """The published length bias: a token of 10 weighs ten times that of one of 100, or as much."""
    model, processor = make_model()
    documents = []
    for count in (10, 100):
        encoded = processor.encode([user("?"), assistant("x" * (count - 1))])
        encoded.by_label = {"advantages": torch.full((count,), -1.0)}
        documents.append(encoded)
    row = processor.pack(documents)
    row["behaviour"] = torch.zeros(1, 110)  # any: each token's own, so that its ratio is 1
    task: Any = Task(model, {"kind": "grpo", "loss": loss})
    with torch.no_grad():
        row["behaviour"] = score_labels(model, row)[1].logps[None]
    found = task(row, torch.tensor(1.0)).by_document[:2] / torch.tensor([10.0, 100.0])
    assert float(found[0] / found[1]) == pytest.approx(ratio, rel=1e-4)


def test_clipping_by_hand():
    ratio = torch.tensor([1.25, 1.25, 0.5, 20.0])
    worth = torch.tensor([1.0, -1.0, -1.0, -1.0])
    cost, clipped = clipped_costs(ratio, worth, 0.2, 0.2)
    assert cost.tolist() == pytest.approx([-1.2, 1.25, 0.8, 20.0])
    assert clipped.tolist() == [True, False, True, False]
    assert not clipped_costs(ratio[:1], worth[:1], 0.2, 0.28)[1].item()
    assert clipped_costs(ratio, worth, 0.2, 0.2, dual=3.0)[0][3] == 3.0


def test_gspo_takes_the_ratio_of_an_answer():
    grpo: Any = make_objective({"kind": "grpo", "loss": "gspo", "clip": 0.9})
    logs = torch.tensor([0.3, 0.1, -0.6])
    cost, _ = grpo.costs(labels(logs, 0.0, 1.0, [2, 1]))
    assert cost.tolist() == pytest.approx([-math.exp(0.2), -math.exp(0.2), -math.exp(-0.6)])


EXACT = {"k2": [0.23771, -0.10158, -0.13614], "corrected": [0.23771, -0.10158, -0.13614],
         "k3": [0.22647, -0.07078, -0.15569]}  # fmt: skip


@pytest.mark.parametrize("estimator", EXACT)
def test_the_gradient_of_an_estimate_of_the_divergence(estimator):
    """Exact expectations over three tokens; k2 and corrected give the reverse KL's own gradient."""
    theta = torch.tensor([0.5, 0.0, -0.5], requires_grad=True)
    reference = torch.tensor([0.0, 0.3, 0.2]).log_softmax(0)
    logps = theta.log_softmax(0)
    drawn = logps.detach()
    estimates = divergence(reference - logps, estimator, logps, drawn)
    (drawn.exp() * estimates).sum().backward()
    assert theta.grad is not None
    assert theta.grad.tolist() == pytest.approx(EXACT[estimator], abs=2e-5)
    exact = (drawn.exp() * (drawn - reference)).sum().item()
    k3 = (drawn.exp() * divergence(reference - drawn, "k3")).sum().item()
    assert exact == pytest.approx(0.123304, abs=1e-6)
    assert k3 == pytest.approx(exact, abs=1e-6)


def test_reinforce_weighs_whole_answers(make_model):
    reinforce: Any = make_objective("reinforce")
    cost, _ = reinforce.costs(labels(-1.0, -1.0, [2.0] * 3 + [-1.0], [3, 1]))
    assert cost.tolist() == [-6.0, -6.0, -6.0, 1.0]  # of which the mean over an answer is taken
    assert reinforce.advantages([torch.tensor([1.0, 0.0])])[0].tolist() == [1.0, -1.0]


@pytest.mark.parametrize(
    ("options", "rule"),
    [({"clip": 0}, "clip is above 0"), ({"clip_high": -1}, "at least 0"),
     ({"dual_clip": 0.5}, "above 1, or 0"), ({"kl": -1}, "kl is at least 0"),
     ({"overlong_cache": -1}, "at least 0"), ({"loss": "dr grpo"}, "did you mean 'dr_grpo'"),
     ({"advantage": "sd"}, "did you mean 'std'"), ({"estimator": "k1"}, "did you mean 'k")],
)  # fmt: skip
def test_options_that_cannot_be_are_refused(options, rule):
    with pytest.raises(EntryError, match=rule):
        make_objective({"kind": "grpo", **options})
