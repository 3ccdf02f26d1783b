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


def gae(rewards: Sequence[float], values: Sequence[float], gamma: float, lam: float) -> list[float]:
    """Return generalised advantage estimates (arXiv 1506.02438) of the tokens of one episode.

    Its tokens are those that the model drew: what was replied between two answers is no step, so
    the last token of an answer is followed by the first of the next one.

    Args:
        rewards: of each of T tokens.
        values: (T + 1): what is expected from before each of them on, and after the last: 0 where
            the episode is at its end.
        gamma: what a reward is worth one token earlier.
        lam: how much of what later tokens brought counts, against what was expected of them.
    """
    found, following = [0.0] * len(rewards), 0.0
    for t in reversed(range(len(rewards))):
        following = rewards[t] + gamma * values[t + 1] - values[t] + gamma * lam * following
        found[t] = following
    return found


def whitened(episodes: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """Give the tokens of all episodes, (T,) each, together mean 0 and standard deviation 1."""
    whole = torch.cat([*episodes])
    mean, deviation = whole.mean(), _deviation(whole) + EPSILON
    return [(values - mean) / deviation for values in episodes]


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
