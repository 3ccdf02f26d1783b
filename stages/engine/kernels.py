"""How the LLM's layers run: attention kernel, compilation, activation checkpointing.

None of it changes what is computed, beyond rounding, nor the name of any parameter.
"""

from functools import partial
from typing import Any

import torch
from accelerate import Accelerator
from torch import nn
from torch.utils.checkpoint import checkpoint
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.utils import is_flash_attn_2_available

from omni.model.attention import PACKED_SDPA
from omni.model.forward import trains

from ..recipe.schema import Recipe


def set_kernels(model: Any, recipe: Recipe, accelerator: Accelerator) -> None:
    """Let an omni model's LLM run as the recipe says; raises ValueError where it cannot."""
    half = accelerator.device.type == "cuda" and accelerator.mixed_precision == "bf16"
    choose_attention(model, recipe.attention, half, recipe.compile)
    wrap_layers(model, recipe.compile, recipe.checkpointing)


def check_attention(wanted: str, device: torch.device) -> None:
    """Refuse a kernel that cannot train on a device, before a model is there.

    Raises:
        ValueError: says what to choose.
    """
    if wanted == "flex_attention" and device.type != "cuda":
        raise ValueError(
            f"attention: flex_attention has no backward pass on {device.type}; leave attention "
            "out, or choose sdpa"
        )


def choose_attention(model: Any, wanted: str, half: bool, compiled: bool) -> str:
    """Set and return the attention kernel of an LLM.

    Args:
        model: an omni model.
        wanted: "auto", or a name of transformers: sdpa, eager, flash_attention_2, flex_attention.
        half: whether training runs in bfloat16 on a GPU, without which there is no flash.
        compiled: layers will be: then SDPA masks a packed row instead of running its documents
            one by one, as other lengths in every row would compile anew.

    Raises:
        ValueError: flash attention that is not installed, or an LLM that has no such kernel.
    """
    llm = model.language_model
    flash = half and is_flash_attn_2_available()
    if wanted == "flash_attention_2" and not flash:
        raise ValueError(
            "attention: flash_attention_2 needs the package flash-attn, a GPU and precision bf16; "
            "leave attention out, or choose sdpa or flex_attention"
        )
    if wanted == "auto":
        supported = llm._supports_flash_attn
        wanted = "flash_attention_2" if flash and supported else llm.config._attn_implementation
    if wanted in ("sdpa", PACKED_SDPA):
        wanted = "sdpa" if compiled else PACKED_SDPA
    if wanted != llm.config._attn_implementation:
        try:
            llm.set_attn_implementation(wanted)
        except (ValueError, ImportError) as error:
            raise ValueError(f"attention: {wanted} cannot be used here: {error}") from error
    return wanted


def wrap_layers(model: Any, compiled: bool, checkpointing: bool) -> None:
    """Compile the LLM's layers in place, and run them again in the backward pass.

    So are run again the layers of encoders that train, if they are transformers' own. Only
    `forward` is replaced, so FSDP2's hooks stay outside. Layers share their graphs.
    """
    if not (compiled or checkpointing):
        return
    for layer in layers_of(model, "compile" if compiled else "checkpointing"):
        if compiled:
            layer.forward = torch.compile(layer.forward)
        if checkpointing:
            _run_again(layer)
    if checkpointing:
        for encoder in filter(trains, model.encoders.values()):
            for layer in encoder_layers(encoder):
                _run_again(layer)


def _run_again(layer: nn.Module) -> None:
    layer.forward = partial(checkpoint, layer.forward, use_reentrant=False)


def encoder_layers(encoder: nn.Module) -> list[nn.Module]:
    """Return the layers of an encoder that can be run again: what transformers marks as such."""
    return [
        module for module in encoder.modules() if isinstance(module, GradientCheckpointingLayer)
    ]


def layers_of(model: Any, asked: str) -> Any:
    """Return the layers of an omni model's LLM.

    Args:
        model: an omni model.
        asked: the setting that needs them, for the error.

    Raises:
        ValueError: the LLM does not list them.
    """
    decoder = model.get_decoder()
    if not isinstance(layers := getattr(decoder, "layers", None), nn.ModuleList):
        raise ValueError(
            f"{asked} is for LLMs whose decoder has `layers`; {type(decoder).__name__} has none: "
            f"leave {asked} out"
        )
    return layers
