"""Imports of large packages without what is never needed of them."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager


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
