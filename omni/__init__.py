"""An omni-modal model: a text LLM plus a dictionary of modalities."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .config import OmniConfig
    from .model import OmniForConditionalGeneration
    from .processor import OmniProcessor

_HOMES = {
    "OmniConfig": "config",
    "OmniForConditionalGeneration": "model",
    "OmniProcessor": "processor",
}


def __getattr__(name: str) -> Any:
    """Import torch and transformers only when a class is asked for: `--help` stays quick."""
    if name not in _HOMES:
        raise AttributeError(f"module 'omni' has no attribute {name!r}")
    from importlib import import_module

    from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoProcessor

    classes = {n: getattr(import_module(f".{home}", __name__), n) for n, home in _HOMES.items()}
    config = classes["OmniConfig"]
    AutoConfig.register("omni", config, exist_ok=True)
    AutoModel.register(config, classes["OmniForConditionalGeneration"], exist_ok=True)
    AutoModelForCausalLM.register(config, classes["OmniForConditionalGeneration"], exist_ok=True)
    AutoProcessor.register(config, classes["OmniProcessor"], exist_ok=True)
    globals().update(classes)
    return classes[name]


__all__ = ["OmniConfig", "OmniForConditionalGeneration", "OmniProcessor"]
