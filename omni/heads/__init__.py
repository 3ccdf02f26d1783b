"""What a model has beside its LM head: an audio head, a flow and a vocoder to speak, and values.

One more is one line here.

A head is a module of plain options, with

* `options`: the names of those that a recipe may set, each with a default in the constructor;
* `check(options)`: refuses values that cannot be.

Beside them its constructor takes what `GIVEN` says, of the model that it is attached to.
"""

import inspect
from collections.abc import Mapping
from typing import Any

from torch import nn

from ..entry import EntryError
from ..nearest import nearest
from .depth import DepthHead
from .flow import Flow
from .value import ValueHead
from .vocoder import Vocoder

HEADS: dict[str, type[nn.Module]] = {
    "depth": DepthHead, "flow": Flow, "value": ValueHead, "vocoder": Vocoder,
}  # fmt: skip
OF_SPEECH = ("depth", "flow", "vocoder")
"""kinds that speak the codes of a codec, which must be there"""
OF_FRAMES = ("flow", "vocoder")
"""those that make sound of log-mel frames, which a codec of its own sound has none of"""

GIVEN: dict[str, tuple[str, ...]] = {
    "depth": ("books", "width"),
    "flow": ("code_width",),
    "value": ("hidden_width",),
    "vocoder": (),
}
"""books: sizes of the codec's; width: of the LLM's embeddings; code_width: of the codec's vectors;
hidden_width: of the LLM's last hidden states"""


def complete(spec: Any) -> dict[str, Any]:
    """Fill in the defaults of a recipe's entry `{kind: ..., option: ...}`.

    Raises:
        EntryError: the kind is not registered, it takes no such option, or not such a value.
    """
    options = dict(spec) if isinstance(spec, Mapping) else {"kind": spec}
    kind = options.pop("kind", None)
    if not isinstance(kind, str) or kind not in HEADS:
        raise EntryError(f"unknown head {kind!r}; {nearest(kind, HEADS)}", "head", "kind")
    cls: Any = HEADS[kind]
    for key in options:
        if key not in cls.options:
            hint = nearest(key, cls.options)
            raise EntryError(f"head {kind!r} takes no {key!r}; {hint}", "head", str(key))
    try:
        cls.check(options)
    except EntryError as error:
        raise EntryError(f"head {kind!r}: {error}", "head", *error.keys) from error
    parameters = inspect.signature(cls).parameters
    return {"kind": kind, **{key: parameters[key].default for key in cls.options}, **options}


def build_head(config: Mapping[str, Any], given: Mapping[str, Any]) -> nn.Module:
    """Build the head of a completed config, with random weights."""
    kind = config["kind"]
    options = {key: value for key, value in config.items() if key != "kind"}
    return HEADS[kind](*(given[name] for name in GIVEN[kind]), **options)
