"""Something that answers, and what it is."""

from dataclasses import dataclass
from typing import Any

from ..answerer import Answerer


@dataclass
class Opened:
    """Something that answers. `weights` identifies it; `model` and `processor` are ours or None."""

    answerer: Answerer
    weights: str
    model: Any = None
    processor: Any = None
