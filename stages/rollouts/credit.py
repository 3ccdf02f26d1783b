"""What is learnt of each episode of a rollout: one advantage, or one of each of its tokens."""

from collections.abc import Sequence
from typing import Any

import torch

from ..objectives.ppo import Ppo
from ..recipe.rollout import RolloutConfig
from .episode import Episode, Group


def credit(objective: Any, config: RolloutConfig, groups: Sequence[Group]) -> None:
    """Say what the episodes of a rollout are worth to an objective of `ON_ROLLOUTS`."""
    if isinstance(objective, Ppo):
        return _credit_tokens(objective, config, [e for g in groups for e in g.episodes])
    rewards = [torch.tensor(group.rewards) for group in groups]
    worth = objective.advantages(rewards) if rewards else []
    for group, values in zip(groups, worth, strict=True):
        for episode, value in zip(group.episodes, values.tolist(), strict=True):
            episode.advantage = value


def _credit_tokens(objective: Ppo, config: RolloutConfig, episodes: Sequence[Episode]) -> None:
    options = objective.options
    kl = options.kl if options.kl_in == "reward" else 0.0
    goes_on = options.truncated == "bootstrap"
    rewards = [token_rewards(episode, config.by_turn, kl, goes_on) for episode in episodes]
    values = [
        [*episode.values[:-1], episode.values[-1] * (goes_on and episode.truncated)]
        for episode in episodes
    ]
    for episode, (worth, earned) in zip(episodes, objective.judge(rewards, values), strict=True):
        episode.worth, episode.returns = worth, earned
        episode.advantage = sum(worth) / len(worth)


def token_rewards(episode: Episode, by_turn: bool, kl: float, goes_on: bool) -> list[float]:
    """Return what each token earned, (T,): together the reward of the episode.

    Args:
        episode: whose reward has all of it, fines and divergence too.
        by_turn: the environment paid each answer, at its last token; else all is paid at the end.
        kl: weight of the divergence that is a part of the reward, paid token by token.
        goes_on: what was paid for an answer that is cut is left out.
    """
    found = [-kl * (now - then)
             for now, then in zip(episode.logps, episode.reference, strict=True)
             ] if kl else [0.0] * episode.length  # fmt: skip
    rest, at = episode.reward - sum(found), 0
    for attempt in episode.attempts if by_turn else ():
        at += len(attempt.ids)
        found[at - 1] += attempt.reward
        rest -= attempt.reward
    if goes_on and episode.cut:
        paid = episode.attempts[-1].reward if by_turn else rest
        found[-1] -= paid
    found[-1] += rest
    return found
