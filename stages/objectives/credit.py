"""What an answer is worth beside the others: rewards -> advantages. Pure functions of numbers."""

from collections.abc import Sequence
from typing import Literal

import torch

EPSILON = 1e-4  # added to a standard deviation, as TRL does

Scale = Literal["std", "none", "batch"]


def group_advantages(groups: Sequence[torch.Tensor], scale: Scale) -> list[torch.Tensor]:
    """Set the rewards of each group, (G,), against their mean.

    Args:
        groups: rewards of the answers to one prompt each.
        scale: what the difference is divided by: "std", the group's own sample standard deviation
            (GRPO, arXiv 2402.03300); "batch", that of all rewards; "none" (Dr. GRPO, 2503.20783).
    """
    off = [rewards - rewards.mean() for rewards in groups]
    if scale == "none":
        return off
    if scale == "batch":
        return [values / (_deviation(torch.cat([*groups])) + EPSILON) for values in off]
    return [values / (_deviation(rewards) + EPSILON)
            for values, rewards in zip(off, groups, strict=True)]  # fmt: skip


def leave_one_out(rewards: torch.Tensor) -> torch.Tensor:
    """Set each reward of a group, (G,), against the mean of the others (RLOO, arXiv 2402.14740)."""
    others = len(rewards) - 1
    if not others:
        return torch.zeros_like(rewards)
    return rewards - (rewards.sum() - rewards) / others


def soft_overlong(length: int, longest: int, cache: float) -> float:
    """Return what an answer of so many tokens is fined (DAPO, arXiv 2503.14476): 0 to -1.

    Args:
        length: of the answer.
        longest: tokens that it may have.
        cache: the last so many of them are fined, the more the longer; 0: none.
    """
    if not cache:
        return 0.0
    return -min(1.0, max(0.0, (length - (longest - cache)) / cache))


def lcpo_exact(right: float, asked: int, length: int, alpha: float) -> float:
    """Return the reward of an answer that was to have a length (LCPO-Exact, arXiv 2503.04697)."""
    return right - alpha * abs(asked - length)


def lcpo_max(right: float, asked: int, length: int, alpha: float) -> float:
    """Return the reward of an answer that was to have no more than a length (LCPO-Max, there)."""
    return right * min(1.0, max(0.0, alpha * (asked - length) + 0.5))


def _deviation(values: torch.Tensor) -> torch.Tensor:
    return values.std() if len(values) > 1 else torch.zeros(())
