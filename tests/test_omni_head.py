"""The loss at label positions equals that of all logits, whatever the head and the chunks are."""

import pytest
import torch
from torch.nn import functional as F
from transformers import AutoConfig

from omni import OmniConfig, OmniForConditionalGeneration
from omni.model import head
from omni.processing.processor import IGNORE_INDEX

SIZES = {
    "vocab_size": 300, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
    "num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 16,
    "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0,
}  # fmt: skip
KINDS = {
    "llama": {"tie_word_embeddings": False, "attention_bias": True},
    "qwen3": {"tie_word_embeddings": True},
    "gemma2": {"final_logit_softcapping": 2.0, "initializer_range": 0.5},
    "granite": {"logits_scaling": 8.0, "initializer_range": 0.5},
    "gpt2": {"n_embd": 32, "n_head": 2, "n_layer": 2},
    "mixtral": {"num_local_experts": 2},
}


def _llm(kind: str) -> OmniForConditionalGeneration:
    torch.manual_seed(0)
    config = AutoConfig.for_model(kind, **(SIZES | KINDS[kind]))
    return OmniForConditionalGeneration(OmniConfig(config)).eval()


def _batch() -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    ids = torch.randint(1, 300, (2, 40))
    labels = ids.clone()
    labels[:, :7] = labels[0, 20:30] = labels[1, 15:18] = IGNORE_INDEX  # rows of different labels
    return {"input_ids": ids, "labels": labels, "attention_mask": torch.ones_like(ids)}


def _gradients(model, loss):
    model.zero_grad()
    loss.backward()
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("rows", [7, 1000])
@pytest.mark.parametrize("kind", KINDS)
def test_the_loss_and_gradients_are_those_of_the_llms_own_forward(kind, rows, monkeypatch):
    monkeypatch.setitem(head.LOGITS, "cpu", rows * 300)
    model, batch = _llm(kind), _batch()
    theirs = model.language_model(**batch).loss
    ours = model(**batch, label_positions=head.find_labels(batch["labels"]))
    assert ours.loss.item() == pytest.approx(theirs.item(), abs=1e-6)
    assert ours.logits is None
    targets = batch["labels"][:, 1:].flatten()
    logits = model(batch["input_ids"], batch["attention_mask"]).logits[:, :-1].flatten(0, 1)
    each = F.cross_entropy(logits, targets, reduction="none")[targets != IGNORE_INDEX]
    torch.testing.assert_close(ours.token_losses, each, atol=1e-5, rtol=1e-5)
    found, expected = _gradients(model, ours.loss), _gradients(model, theirs)
    assert found.keys() == expected.keys()
    for name in expected:
        torch.testing.assert_close(found[name], expected[name], atol=1e-6, rtol=1e-5)


def test_no_more_logits_than_a_chunk_exist_at_once(monkeypatch):
    seen = []
    cross_entropy = F.cross_entropy

    def watch(logits, targets, **kwargs):
        seen.append(len(logits))
        return cross_entropy(logits, targets, **kwargs)

    monkeypatch.setattr(head.F, "cross_entropy", watch)
    monkeypatch.setitem(head.LOGITS, "cpu", 10 * 300)
    model, batch = _llm("llama"), _batch()
    labels = int((batch["labels"][:, 1:] != IGNORE_INDEX).sum())
    model(**batch, label_positions=head.find_labels(batch["labels"])).loss.backward()
    assert max(seen) == 10
    assert sum(seen) == 2 * labels  # forward, and again in the backward pass


@pytest.mark.parametrize("kind", KINDS)
def test_without_their_positions_labels_give_logits_as_in_transformers(kind):
    model, batch = _llm(kind), _batch()
    theirs, ours = model.language_model(**batch), model(**batch)
    torch.testing.assert_close(ours.logits, theirs.logits, atol=1e-5, rtol=1e-5)
    assert ours.loss.item() == pytest.approx(theirs.loss.item(), abs=1e-6)
    found, expected = _gradients(model, ours.loss), _gradients(model, theirs.loss)
    for name in expected:
        torch.testing.assert_close(found[name], expected[name], atol=1e-6, rtol=1e-5)


MIXTURES = {
    "mixtral": {"num_local_experts": 4},
    "qwen3_moe": {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16},
    "olmoe": {"num_experts": 4, "num_experts_per_tok": 2},
    "granitemoe": {"num_local_experts": 4, "num_experts_per_tok": 2},
}


@pytest.mark.parametrize("positions", [False, True])
@pytest.mark.parametrize("kind", MIXTURES)
def test_what_routers_lose_is_added_where_the_llm_says_so(kind, positions, monkeypatch):
    monkeypatch.setitem(KINDS, kind, MIXTURES[kind] | {"router_aux_loss_coef": 0.5})
    model, batch = _llm(kind), _batch()
    batch["attention_mask"][1, :5] = 0
    batch["labels"][1, :12] = IGNORE_INDEX
    more = {"label_positions": head.find_labels(batch["labels"])} if positions else {}
    assert model(**batch, **more).aux_loss is None
    model.language_model.config.output_router_logits = True
    theirs, ours = model.language_model(**batch), model(**batch, **more)
    assert ours.loss.item() == pytest.approx(theirs.loss.item(), abs=1e-6)
    assert ours.aux_loss.item() == pytest.approx(0.5 * theirs.aux_loss.item(), abs=1e-6)
    found, expected = _gradients(model, ours.loss), _gradients(model, theirs.loss)
    for name in expected:
        torch.testing.assert_close(found[name], expected[name], atol=1e-6, rtol=1e-5)
    # a part of a step: it counts as much as its labels do
    half = model(**batch, num_items_in_batch=2 * int((batch["labels"][:, 1:] >= 0).sum()), **more)
    assert half.loss.item() == pytest.approx(theirs.loss.item() / 2, abs=1e-6)


def test_an_adapter_on_the_head_counts():
    peft = pytest.importorskip("peft")
    model, batch = _llm("llama"), _batch()
    before = model(**batch).loss.item()
    config = peft.LoraConfig(r=2, target_modules=["lm_head"], init_lora_weights=False)
    wrapped = peft.get_peft_model(model, config)
    theirs = model.language_model(**batch).loss
    assert wrapped(**batch).loss.item() == pytest.approx(theirs.item(), abs=1e-6)
    assert theirs.item() != pytest.approx(before, abs=1e-3)


def test_half_precision_by_autocast(monkeypatch):
    monkeypatch.setitem(head.LOGITS, "cpu", 10 * 300)
    model, batch = _llm("qwen3"), _batch()
    with torch.autocast("cpu", torch.bfloat16):
        theirs = model.language_model(**batch).loss
        ours = model(**batch, label_positions=head.find_labels(batch["labels"])).loss
    assert ours.item() == pytest.approx(theirs.item(), abs=1e-3)
    assert ours.dtype == torch.float32
    found, expected = _gradients(model, ours), _gradients(model, theirs)
    for name in expected:
        assert found[name].dtype == torch.float32
        torch.testing.assert_close(found[name], expected[name], atol=1e-2, rtol=0.1)


def test_an_llm_whose_decoder_is_elsewhere_is_refused(monkeypatch):
    model, batch = _llm("llama"), _batch()
    monkeypatch.setattr(model.language_model, "get_decoder", lambda: torch.nn.Identity())
    decoded = model.language_model.model(batch["input_ids"])
    with pytest.raises(NotImplementedError, match="does not call what its get_decoder"):
        head.token_losses(model.language_model, decoded, torch.tensor([1]), torch.tensor([2]))
