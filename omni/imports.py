"""Importing large packages in less time: without what is never needed, and undisturbed."""

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any


@contextmanager
def without(*names: str) -> Iterator[None]:
    """Let an import of these packages fail, as if they were not installed.

    For what others import if they can, at the cost of seconds. Packages that are there already
    stay, and can be imported afterwards by whoever wants them.
    """
    absent = [name for name in names if name not in sys.modules]
    sys.modules |= dict.fromkeys(absent)  # type: ignore[arg-type]
    try:
        yield
    finally:
        for name in absent:
            if sys.modules.get(name, name) is None:
                del sys.modules[name]


def import_transformers() -> None:
    """Import what loads a model, without what is done twice or for others: a second of a start.

    For commands, as the process of a library is its user's: every model imports the losses of all,
    of which those of object detection match boxes with scipy, and in this process they cannot; and
    what is there by now is not looked through for garbage again.
    """
    if "transformers.models" in sys.modules:
        return
    with undisturbed():
        from transformers.utils import import_utils, is_scipy_available

        with _scanned_once(import_utils):
            import_module("transformers.models")
        is_scipy_available.cache_clear()  # it remembers what it has found
        with without("scipy", "boto3"):  # boto3 is accelerate's
            import_module("transformers.loss.loss_utils")
        is_scipy_available.cache_clear()
        import_module("omni.model")
        gc.freeze()


@contextmanager
def _scanned_once(import_utils: Any) -> Iterator[None]:
    """Let it find what it remembers of the folder of models, which it asks for as a file as well.

    It reads all 1,600 files for what they offer, once for `transformers` and once for `.models`.
    """
    name = "create_import_structure_from_path"
    scan = getattr(import_utils, name)

    def scan_folder(path: str | Path) -> Any:
        path = Path(path)
        return scan(path.parent if path.is_file() else path)

    setattr(import_utils, name, scan_folder)
    try:
        yield
    finally:
        setattr(import_utils, name, scan)


@contextmanager
def undisturbed() -> Iterator[None]:
    """Keep the garbage collector from looking through all that is being imported or loaded.

    It finds nothing there, and takes a fifth of the time until a model is loaded.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
