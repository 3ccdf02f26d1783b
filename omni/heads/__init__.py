"""What a model has beside its LM head: an audio head, a flow and a vocoder to speak, and values.

One more is one line here.

A head is a module of plain options, with

* `options`: the names of those that a recipe may set, each with a default in the constructor;
* `check(options)`: refuses values that cannot be;
* `role`, where it does what another kind does, too: that kind. A model has one head of a role;
* `describe(folder)` and `load_pretrained(folder)`, where a recipe may name `weights`: its options
  as a folder has them, and filling itself from it.

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
from .hifigan import HifiGan
from .value import ValueHead
from .vocoder import Vocoder

HEADS: dict[str, type[nn.Module]] = {
    "depth": DepthHead, "flow": Flow, "value": ValueHead, "vocoder": Vocoder, "hifigan": HifiGan,
}  # fmt: skip
OF_SPEECH = ("depth", "flow", "vocoder")
"""roles that speak the codes of a codec, which must be there"""
OF_FRAMES = ("flow", "vocoder")
"""those that make sound of log-mel frames, which a codec of its own sound has none of"""

GIVEN: dict[str, tuple[str, ...]] = {
    "depth": ("books", "width"),
    "flow": ("code_width",),
    "value": ("hidden_width",),
    "vocoder": (),
    "hifigan": (),
}
"""books: sizes of the codec's; width: of the LLM's embeddings; code_width: of the codec's vectors;
hidden_width: of the LLM's last hidden states"""


def role_of(kind: str) -> str:
    """Return what a kind of head does, see above: "vocoder" of a HiFi-GAN."""
    return getattr(HEADS[kind], "role", kind)


def weights_of(spec: Any) -> tuple[Any, str | None]:
    """Part a recipe's entry `{kind: ..., weights: ...}` into what `complete` takes and its weights.

    Raises:
        EntryError: the kind is not registered, has no weights, or options stand beside them.
    """
    kind, options = _read(spec)
    if "weights" not in options:
        return spec, None
    weights = options.pop("weights")
    if not hasattr(HEADS[kind], "load_pretrained"):
        having = [name for name, cls in HEADS.items() if hasattr(cls, "load_pretrained")]
        raise EntryError(f"head {kind!r} takes no 'weights', it is trained here; one that does is "
                         f"{' or '.join(having)}", "head", "weights")  # fmt: skip
    if options or not isinstance(weights, str):
        raise EntryError(f"head {kind!r} takes 'weights', a hub:ORG/NAME or a folder, and then "
                         f"nothing else; or {', '.join(HEADS[kind].options)}",  # type: ignore[arg-type]
                         "head", "weights")  # fmt: skip
    return {"kind": kind}, weights


def complete(spec: Any) -> dict[str, Any]:
    """Fill in the defaults of a recipe's entry `{kind: ..., option: ...}`.

    Raises:
        EntryError: the kind is not registered, it takes no such option, or not such a value.
    """
    kind, options = _read(spec)
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


def _read(spec: Any) -> tuple[str, dict[str, Any]]:
    options = dict(spec) if isinstance(spec, Mapping) else {"kind": spec}
    kind = options.pop("kind", None)
    if not isinstance(kind, str) or kind not in HEADS:
        raise EntryError(f"unknown head {kind!r}; {nearest(kind, HEADS)}", "head", "kind")
    return kind, options


def build_head(config: Mapping[str, Any], given: Mapping[str, Any]) -> nn.Module:
    """Build the head of a completed config, with random weights."""
    kind = config["kind"]
    options = {key: value for key, value in config.items() if key != "kind"}
    return HEADS[kind](*(given[name] for name in GIVEN[kind]), **options)
