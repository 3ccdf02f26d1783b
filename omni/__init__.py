"""An omni-modal model: a text LLM plus a dictionary of modalities."""

from typing import TYPE_CHECKING, Any

from .model.auto import follow_transformers

if TYPE_CHECKING:
    from .model.config import OmniConfig
    from .model.forward import OmniForConditionalGeneration
    from .model.headless import OmniModel
    from .processing.processor import OmniProcessor

_HOMES = {
    "OmniConfig": "model.config",
    "OmniForConditionalGeneration": "model.forward",
    "OmniModel": "model.headless",
    "OmniProcessor": "processing.processor",
}


def __getattr__(name: str) -> Any:
    """Import torch and transformers only when a class is asked for: `--help` stays quick."""
    if name not in _HOMES:
        raise AttributeError(f"module 'omni' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f".{_HOMES[name]}", __name__), name)


__all__ = ["OmniConfig", "OmniForConditionalGeneration", "OmniModel", "OmniProcessor"]

follow_transformers()
