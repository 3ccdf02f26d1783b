"""transformers' Auto classes know omni: in this process by import, elsewhere by the checkpoint."""

import importlib.util
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

_THEIRS, _OURS = "transformers.models.auto.configuration_auto", "omni.model.config"
MODELS = ("AutoModelForCausalLM", "AutoModelForImageTextToText", "AutoModelForMultimodalLM")

_FILE = "omni_code"
_CODE = '''"""Fetches the classes of this checkpoint from omni-stages, which must be installed."""

try:
    from omni import OmniConfig, OmniModel, OmniProcessor  # noqa: F401
    from omni import OmniForConditionalGeneration  # noqa: F401
except ImportError as error:
    raise ImportError("this checkpoint needs the package omni-stages: install it") from error
'''


class _Follower:
    """Lets `omni.model.config` be imported right after the AutoConfig that it registers with.

    `import omni` then suffices, in any order, and does not itself import torch for seconds. All
    else waits for the first config: transformers is not to be used while it is being imported.
    """

    def find_spec(self, name: str, path: Any, target: ModuleType | None = None) -> Any:
        if name != _THEIRS:
            return None
        sys.meta_path.remove(self)  # whoever else comes next finds it
        spec = importlib.util.find_spec(name)
        if spec is not None:
            loader: Any = spec.loader
            execute = loader.exec_module

            def exec_module(module: ModuleType) -> None:
                execute(module)
                import_module(_OURS)

            loader.exec_module = exec_module
        return spec


def follow_transformers() -> None:
    """Register the config now where transformers has AutoConfig imported, else once it has."""
    if _THEIRS in sys.modules:
        import_module(_OURS)
    else:
        sys.meta_path.insert(0, _Follower())


def register_classes() -> None:
    """Import what registers itself: whoever has a config may ask for its model and processor."""
    for home in ("omni.model.headless", "omni.processing.processor"):
        if home not in sys.modules:
            import_module(home)


def auto_map(*names: str, of: str) -> dict[str, str]:
    """Return what a checkpoint says to Auto classes: with `trust_remote_code` they find `of`."""
    return dict.fromkeys(names, f"{_FILE}.{of}")


class SavesCode:
    """A class whose checkpoints hold a file of code that imports it from omni.

    A script that imports transformers alone loads them with `trust_remote_code=True`, and
    without it transformers asks, instead of taking the tokenizer for the processor.
    """

    @classmethod
    def register_for_auto_class(cls, auto_class: str = "") -> None:
        """Do nothing: transformers would copy this module, without those that it imports."""

    def save_pretrained(self, save_directory: Any, *args: Any, **kwargs: Any) -> Any:
        """Save as transformers does, and the file beside it."""
        saved = super().save_pretrained(save_directory, *args, **kwargs)  # type: ignore[misc]
        self._complete(Path(save_directory))
        return saved

    def _upload_modified_files(self, working_dir: Any, *args: Any, **kwargs: Any) -> Any:
        """Push what `save_pretrained` leaves: transformers does so before that is at its end."""
        self._complete(Path(working_dir))
        return super()._upload_modified_files(working_dir, *args, **kwargs)  # type: ignore[misc]

    def _complete(self, folder: Path) -> None:
        """Add to what transformers saved."""
        (folder / f"{_FILE}.py").write_text(_CODE)
