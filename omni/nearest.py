"""Words for an error about a name that is none: the nearest valid one, or all of them."""

import difflib
from collections.abc import Collection


def nearest(name: object, known: Collection[str]) -> str:
    """Return "did you mean 'x'?", or where none is near, "known: a, b, c"."""
    near = difflib.get_close_matches(str(name), known, n=1, cutoff=0.4)
    return f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known) or 'none'}"
