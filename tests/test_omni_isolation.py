"""LLMs of all kinds: media stand among their tokens, packed documents apart; or a refusal."""

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from omni import OmniForConditionalGeneration, OmniProcessor
from omni.model.forward import load_text_tokenizer
from omni.model.isolation import UnfitError
from omni.processing.processor import IGNORE_INDEX
from stages.doctor.comparison import packed_equals_unpacked

HEADS = {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8}
BASE = {"vocab_size": 264, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
        "max_position_embeddings": 2048, "bos_token_id": 257, "eos_token_id": 258,
        "pad_token_id": 256, "initializer_range": 0.2}  # fmt: skip
SCALED = {"sliding_window": 8, "query_pre_attn_scalar": 8}
EXPERTS = {"num_local_experts": 2, "num_experts_per_tok": 1}
APART = {
    "llama": HEADS,
    "gemma": HEADS,
    "gemma3_text": HEADS | SCALED,
    "gpt2": {"n_embd": 32, "n_head": 4, "n_layer": 2, "n_positions": 2048},
    "opt": {"ffn_dim": 64, "word_embed_proj_dim": 16, "do_layer_norm_before": False,
            "num_attention_heads": 4},
    "llama4_text": HEADS | EXPERTS | {"intermediate_size_mlp": 64, "attention_chunk_size": 16},
}  # fmt: skip
ONE_BY_ONE = {
    "bloom": {"n_head": 4, "n_layer": 2},
    "mpt": {"d_model": 32, "n_heads": 4, "n_layers": 2, "max_seq_len": 2048},
    "mamba": {"state_size": 8},
    "lfm2": {"layer_types": ["conv", "full_attention"], "conv_L_cache": 3,
             "num_attention_heads": 4, "num_key_value_heads": 2},
    "rwkv": {"attention_hidden_size": 32},
}  # fmt: skip
REFUSED = {
    "falcon_h1": HEADS | {"mamba_d_ssm": 32, "mamba_n_heads": 4, "mamba_d_head": 8,
                          "mamba_d_state": 8, "embedding_multiplier": 2.0},
    "gemma3n_text": HEADS | {
        "num_hidden_layers": 2, "vocab_size_per_layer_input": 264, "num_kv_shared_layers": 0,
        "hidden_size_per_layer_input": 8, "laurel_rank": 4, "sliding_window": 8,
        "activation_sparsity_pattern": [0.0] * 2,
        "layer_types": ["sliding_attention", "full_attention"]},
    "gemma4_text": HEADS | {"num_hidden_layers": 4, "vocab_size_per_layer_input": 264,
                            "hidden_size_per_layer_input": 8, "sliding_window": 8},
}  # fmt: skip


def llm(kind: str, options: dict, folder) -> str:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **BASE | options))
    with torch.no_grad():
        for parameter in model.parameters():  # norms, biases and gates off their trivial values
            parameter.add_(0.1 * torch.randn_like(parameter))
    model.save_pretrained(folder)
    load_text_tokenizer("tiny:llama").save_pretrained(folder)
    return str(folder)


@pytest.mark.parametrize("kind", [*APART, *ONE_BY_ONE])
def test_packed_documents_are_apart_in_every_llm(kind, specs, talks, tmp_path):
    spec = llm(kind, {**APART, **ONE_BY_ONE}[kind], tmp_path)
    model = OmniForConditionalGeneration.from_text(spec).eval()
    assert model.config.isolates == (kind in APART)
    processor = OmniProcessor(load_text_tokenizer(spec))
    model.attach("vision", specs.vision, processor)
    model.attach("audio", specs.audio, processor)
    encoded = [processor.encode(talk) for talk in talks]
    batch = processor.pack(encoded)
    with torch.no_grad():
        losses = model(**batch).token_losses
        logits = model(**{k: v for k, v in batch.items() if "label" not in k}).logits
        whole = torch.nn.functional.cross_entropy(
            logits[0, batch["label_positions"][0]].float(),
            batch["labels"][0, batch["label_positions"][0] + 1], reduction="none",
        )  # fmt: skip
        alone = [model(**processor.pack([e])).token_losses for e in encoded]
    torch.testing.assert_close(losses, torch.cat(alone), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(losses, whole, rtol=1e-4, atol=1e-4)
    assert (batch["labels"] != IGNORE_INDEX).sum() == len(losses)
    model.requires_grad_(True)
    result = packed_equals_unpacked(model, processor, encoded, dtype=torch.float64)
    assert result.difference < 1e-5, result
    model.save_pretrained(tmp_path / "omni")
    again = OmniForConditionalGeneration.from_pretrained(tmp_path / "omni")
    assert again.config.isolates == model.config.isolates


@pytest.mark.parametrize("kind", REFUSED)
def test_an_llm_whose_ids_are_more_than_embeddings_is_refused(kind, tmp_path):
    with pytest.raises(UnfitError, match=rf"the LLM {kind}.*embeddings"):
        OmniForConditionalGeneration.from_text(llm(kind, REFUSED[kind], tmp_path))


@pytest.mark.parametrize("kind", ["llama", "gemma", "gemma3_text"])
def test_media_tokens_start_as_large_as_text(kind, specs, talks, tmp_path):
    """Also where the embedding module scales what it looks up."""
    spec = llm(kind, APART[kind] | {"hidden_size": 256}, tmp_path)
    model = OmniForConditionalGeneration.from_text(spec).eval()
    processor = OmniProcessor(load_text_tokenizer(spec))
    model.attach("vision", specs.vision, processor)
    assert model.text_scale() == pytest.approx(1.0 if kind == "llama" else 16.0)
    batch = processor.pack([processor.encode(talks[1])])
    with torch.no_grad():
        embeds = model.embed(batch["input_ids"], dict(batch))[0]
    shown = batch["input_ids"][0] == model.config.modalities["vision"]["token_id"]
    ratio = embeds[shown].norm(dim=1).mean() / embeds[~shown].norm(dim=1).mean()
    assert 0.3 < ratio < 3
