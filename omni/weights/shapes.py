"""The shapes of some large parts, as their config.json says them: a plan needs no hub.

`shape:ORG/NAME` is the part `hub:ORG/NAME` without its weights and with a byte tokenizer; only a
sketch can be made of it.
"""

import json
from pathlib import Path
from typing import Any, NamedTuple

from ..files.atomic import replacing
from ..nearest import nearest
from .part import Part, WeightsError, cache_dir
from .tiny import write_byte_tokenizer


class Shape(NamedTuple):
    """What is known of a part: its licence, and what of its config decides its shapes."""

    license: str
    config: dict[str, Any]


SHAPES = {
    "Qwen/Qwen2.5-7B": Shape("apache-2.0", {
        "model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"], "vocab_size": 152064,
        "hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": 28,
        "num_attention_heads": 28, "num_key_value_heads": 4, "max_position_embeddings": 131072,
        "rms_norm_eps": 1e-6, "rope_theta": 1000000.0, "tie_word_embeddings": False,
    }),
    "Qwen/Qwen2-VL-7B-Instruct": Shape("apache-2.0", {
        "model_type": "qwen2_vl", "vision_config": {
            "model_type": "qwen2_vl_vision", "depth": 32, "embed_dim": 1280, "mlp_ratio": 4,
            "num_heads": 16, "in_channels": 3, "hidden_size": 3584, "patch_size": 14,
            "spatial_merge_size": 2, "temporal_patch_size": 2, "hidden_act": "quick_gelu",
        },
    }),
    "Qwen/Qwen2.5-0.5B-Instruct": Shape("apache-2.0", {
        "model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"], "vocab_size": 151936,
        "hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 24,
        "num_attention_heads": 14, "num_key_value_heads": 2, "max_position_embeddings": 32768,
        "rms_norm_eps": 1e-6, "rope_theta": 1000000.0, "tie_word_embeddings": True,
    }),
    "HuggingFaceTB/SmolLM2-360M-Instruct": Shape("apache-2.0", {
        "model_type": "llama", "architectures": ["LlamaForCausalLM"], "vocab_size": 49152,
        "hidden_size": 960, "intermediate_size": 2560, "num_hidden_layers": 32,
        "num_attention_heads": 15, "num_key_value_heads": 5, "max_position_embeddings": 8192,
        "rms_norm_eps": 1e-5, "rope_theta": 100000.0, "tie_word_embeddings": True,
    }),
    "google/siglip2-base-patch16-512": Shape("apache-2.0", {
        "model_type": "siglip_vision_model", "hidden_size": 768, "intermediate_size": 3072,
        "num_hidden_layers": 12, "num_attention_heads": 12, "image_size": 512, "patch_size": 16,
    }),
    "google/siglip-so400m-patch14-384": Shape("apache-2.0", {
        "model_type": "siglip_vision_model", "hidden_size": 1152, "intermediate_size": 4304,
        "num_hidden_layers": 27, "num_attention_heads": 16, "image_size": 384, "patch_size": 14,
    }),
    "openai/whisper-base": Shape("apache-2.0", {
        "model_type": "whisper", "d_model": 512, "num_mel_bins": 80, "encoder_layers": 6,
        "encoder_attention_heads": 8, "encoder_ffn_dim": 2048, "decoder_layers": 6,
        "decoder_attention_heads": 8, "decoder_ffn_dim": 2048, "max_source_positions": 1500,
        "vocab_size": 51865,
    }),
    "openai/whisper-large-v3": Shape("apache-2.0", {
        "model_type": "whisper", "d_model": 1280, "num_mel_bins": 128, "encoder_layers": 32,
        "encoder_attention_heads": 20, "encoder_ffn_dim": 5120, "decoder_layers": 32,
        "decoder_attention_heads": 20, "decoder_ffn_dim": 5120, "max_source_positions": 1500,
        "vocab_size": 51866,
    }),
    "microsoft/speecht5_hifigan": Shape("mit", {
        "model_type": "hifigan", "model_in_dim": 80, "sampling_rate": 16000,
        "upsample_initial_channel": 512, "upsample_rates": [4, 4, 4, 4],
        "upsample_kernel_sizes": [8, 8, 8, 8], "resblock_kernel_sizes": [3, 7, 11],
        "resblock_dilation_sizes": [[1, 3, 5], [1, 3, 5], [1, 3, 5]],
    }),
}  # fmt: skip
"""hub id -> shape"""


def shape_of(spec: str) -> str:
    """Return the spec of a part's shape where it is known here, else the spec itself."""
    scheme, _, name = spec.partition(":")
    return f"shape:{name}" if scheme == "hub" and name in SHAPES else spec


def shape_part(name: str, weights: bool) -> Part:
    """Write (once) the folder of a shape.

    Raises:
        WeightsError: it is not known, or weights are asked for.
    """
    if name not in SHAPES:
        raise WeightsError(f"part shape:{name}: unknown; {nearest(name, SHAPES)}")
    if weights:
        raise WeightsError(f"part shape:{name} has no weights to train; write hub:{name}")
    shape = SHAPES[name]
    folder = cache_dir() / "shapes" / name.replace("/", "--")
    if not (folder / "config.json").is_file():
        with replacing(folder, shared=True) as staged:
            _write(staged, shape.config)
    return Part(folder, f"shape:{name}", shape.license, fetched=False)


def _write(folder: Path, config: dict[str, Any]) -> None:
    write_byte_tokenizer(folder)
    (folder / "config.json").write_text(json.dumps(config))
