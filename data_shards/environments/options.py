"""The options of a world, as a recipe or a command gives them."""

from collections.abc import Mapping, Sequence
from typing import Any

from omni.entry import EntryError
from omni.nearest import nearest


def check_options(
    world: Any, choices: Mapping[str, Sequence[str]], ranges: Mapping[str, tuple[int, int]]
) -> None:
    """Check options that are one of some words, whole numbers in a range, and the held-out share.

    Raises:
        EntryError: one is not; says what may be given.
    """
    for option, known in choices.items():
        if (value := getattr(world, option)) not in known:
            raise EntryError(f"no {option} {value!r}; {nearest(str(value), known)}", option)
    for option, (least, most) in ranges.items():
        value = getattr(world, option)
        if type(value) is not int or not least <= value <= most:
            raise EntryError(
                f"{option} is a whole number from {least} to {most}, not {value!r}", option
            )
    if isinstance(world.heldout, bool) or not isinstance(world.heldout, int | float) \
            or not 0 <= world.heldout < 1:  # fmt: skip
        raise EntryError(f"heldout is a share from 0 to below 1, not {world.heldout!r}", "heldout")
