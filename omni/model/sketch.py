"""Parts without weights or arithmetic, on torch's meta device: what a recipe makes, at once."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch

Made = TypeVar("Made")


def on_meta(make: Callable[[], Made]) -> Made:
    """Call on the meta device, or where that cannot be, as something looks at values, without."""
    try:
        with torch.device("meta"):
            return make()
    except Exception:  # whatever a library cannot do without memory; its other errors come again
        return make()


@contextmanager
def without_values() -> Iterator[None]:
    """Leave off where tensors without values do not do; what a file lacks is an error as ever."""
    try:
        yield
    except (RuntimeError, TypeError):  # a NotImplementedError, too
        return
