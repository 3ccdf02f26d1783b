"""Families of text LLMs of transformers, each as a tiny random one: what README says is tested."""

from pathlib import Path
from typing import Any, NamedTuple

HEADS = {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8}
BASE = {"vocab_size": 264, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
        "max_position_embeddings": 2048, "bos_token_id": 257, "eos_token_id": 258,
        "pad_token_id": 256, "initializer_range": 0.2}  # fmt: skip
SCALED = {"sliding_window": 8, "query_pre_attn_scalar": 8}
EXPERTS = {"num_local_experts": 2, "num_experts_per_tok": 1}


class Family(NamedTuple):
    """What README calls it, and what a config of its `model_type` needs beside `BASE`."""

    name: str
    options: dict[str, Any]


APART = {
    "llama": Family("Llama and SmolLM2", HEADS),
    "qwen2": Family("Qwen2 and 2.5", HEADS),
    "qwen3": Family("Qwen3", HEADS),
    "qwen3_moe": Family("Qwen3-MoE", HEADS | {"num_experts": 4, "num_experts_per_tok": 2,
                                              "moe_intermediate_size": 16}),
    "mistral": Family("Mistral", HEADS | {"sliding_window": 8}),
    "mixtral": Family("Mixtral", HEADS | EXPERTS),
    "gemma": Family("Gemma", HEADS),
    "gemma2": Family("Gemma 2", HEADS | SCALED | {"attn_logit_softcapping": 5.0,
                                                  "final_logit_softcapping": 3.0}),
    "gemma3_text": Family("Gemma 3", HEADS | SCALED),
    "phi": Family("Phi", HEADS | {"partial_rotary_factor": 0.5}),
    "phi3": Family("Phi-3", HEADS | {"sliding_window": 8}),
    "olmo2": Family("OLMo 2", HEADS),
    "smollm3": Family("SmolLM3", HEADS | {"no_rope_layers": [1, 0]}),
    "granite": Family("Granite", HEADS | {"embedding_multiplier": 12.0, "logits_scaling": 2.0}),
    "gpt_neox": Family("GPT-NeoX", {"num_attention_heads": 4}),
    "gpt2": Family("GPT-2", {"n_embd": 32, "n_head": 4, "n_layer": 2, "n_positions": 2048}),
    "opt": Family("OPT", {"ffn_dim": 64, "word_embed_proj_dim": 16, "num_attention_heads": 4,
                          "do_layer_norm_before": False}),
    "llama4_text": Family("Llama 4", HEADS | EXPERTS | {"intermediate_size_mlp": 64,
                                                        "attention_chunk_size": 16}),
}  # fmt: skip
"""model_type -> those whose documents run packed"""
ONE_BY_ONE = {
    "bloom": Family("BLOOM", {"n_head": 4, "n_layer": 2}),
    "mpt": Family("MPT", {"d_model": 32, "n_heads": 4, "n_layers": 2, "max_seq_len": 2048}),
    "mamba": Family("Mamba", {"state_size": 8}),
    "lfm2": Family("LFM2", {"layer_types": ["conv", "full_attention"], "conv_L_cache": 3,
                            "num_attention_heads": 4, "num_key_value_heads": 2}),
    "rwkv": Family("RWKV", {"attention_hidden_size": 32}),
}  # fmt: skip
"""those that a row's documents pass one after the other"""
ALONE = ("mamba", "rwkv")
"""those that are asked a prompt at a time"""
REFUSED = {
    "gemma3n_text": Family("Gemma 3n", HEADS | {
        "num_hidden_layers": 2, "vocab_size_per_layer_input": 264, "num_kv_shared_layers": 0,
        "hidden_size_per_layer_input": 8, "laurel_rank": 4, "sliding_window": 8,
        "activation_sparsity_pattern": [0.0] * 2,
        "layer_types": ["sliding_attention", "full_attention"]}),
    "gemma4_text": Family("Gemma 4", HEADS | {
        "num_hidden_layers": 4, "vocab_size_per_layer_input": 264,
        "hidden_size_per_layer_input": 8, "sliding_window": 8}),
    "falcon_h1": Family("Falcon-H1", HEADS | {
        "mamba_d_ssm": 32, "mamba_n_heads": 4, "mamba_d_head": 8, "mamba_d_state": 8,
        "embedding_multiplier": 2.0}),
}  # fmt: skip
"""those that make more of ids than their embeddings"""
FAMILIES = APART | ONE_BY_ONE | REFUSED


def write_llm(kind: str, folder: Path, **more: Any) -> str:
    """Write one of a family with its tokenizer; return its spec."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    from omni.model.forward import load_text_tokenizer

    torch.manual_seed(0)
    config = AutoConfig.for_model(kind, **BASE | FAMILIES[kind].options | more)
    model = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for parameter in model.parameters():  # norms, biases and gates off their trivial values
            parameter.add_(0.1 * torch.randn_like(parameter))
    model.save_pretrained(folder)
    load_text_tokenizer("tiny:llama").save_pretrained(folder)
    return str(folder)


def listed(families: dict[str, Family]) -> str:
    """Return the names as README lists them."""
    return ", ".join(family.name for family in families.values())
