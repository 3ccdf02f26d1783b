"""Which layer of a tower its features are of: the last, an earlier one, or several side by side.

Class and register tokens are dropped from all: they have no place in a picture's grid.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch

from ..entry import EntryError

LAST = -1  # what the tower itself returns, its last norm included


def check_layer(given: Any, who: str) -> dict[str, list[int]]:
    """Return the part of an encoder's config that says the layers; empty where none is given.

    Args:
        given: -1, -2, ... from the last one on, or a list of them.
        who: is blamed.

    Raises:
        EntryError: it is none of these.
    """
    if given is None:
        return {}
    layers = list(given) if isinstance(given, list | tuple) else [given]
    if not layers or any(type(n) is not int or n >= 0 for n in layers):
        raise EntryError(
            f"{who}: layer is -1 (the last), -2, ... or a list of them, not {given!r}",
            "encoder", "layer",
        )  # fmt: skip
    return {"layer": layers}


def of_layers(
    layers: Sequence[int],
    last: Callable[[], torch.Tensor],
    earlier: Callable[[list[int]], list[torch.Tensor]],
) -> torch.Tensor:
    """Return the features of the layers side by side, (N, H, W, sum of D).

    Args:
        layers: as `check_layer` returns them; none: the last.
        last: returns those of the last one.
        earlier: returns those of others, as they lie between the layers.

    Raises:
        EntryError: the tower has no such layer, tells nothing of them, or they are of other sizes.
    """
    inner = sorted({*layers} - {LAST})
    found = {}
    if inner:
        try:
            found = dict(zip(inner, earlier(inner), strict=True))
        except (AssertionError, IndexError) as error:
            reason = f"there is no layer {inner[0]}: {error}"
            raise EntryError(reason, "encoder", "layer") from error
        except (AttributeError, TypeError) as error:
            reason = f"its library does not tell what its layers make: {error}"
            raise EntryError(reason, "encoder", "layer") from error
    if not layers or LAST in layers:
        found[LAST] = last()
    sizes = {tuple(features.shape[1:3]) for features in found.values()}
    if len(sizes) > 1:
        raise EntryError(f"layers of different sizes cannot lie side by side: {sorted(sizes)}",
                         "encoder", "layer")  # fmt: skip
    return torch.cat([found[n] for n in layers or [LAST]], dim=-1)
