"""One record of what was drawn: tokens, their log-probabilities, what was replied and paid."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch

from omni.processing.messages import Message
from omni.processing.processor import IGNORE_INDEX, Encoded


@dataclass(frozen=True)
class Attempt:
    """One answer, as it was drawn; its tokens are never made of its text again."""

    ids: list[int]
    logps: list[float]
    """of `ids` in the distributions that they were drawn from"""
    kept: list[list[int]]
    """what `top_p` left to draw each of them from; [] where that was everything"""
    text: str
    finish: str
    """"stop" or "length", see `Completion`"""
    reward: float
    success: bool
    message: str
    """what the verifier replied"""
    reply: list[int] = field(default_factory=list)
    """tokens between this answer and the next one, which the model did not draw"""


@dataclass
class Episode:
    """All answers to one prompt by one row: attempts, one after the other."""

    attempts: list[Attempt] = field(default_factory=list)
    reward: float = 0.0
    """of all attempts; what is learnt from may be another, see `credit`"""
    advantage: float = 0.0
    """of each of its own tokens, or the mean of `worth`"""
    open: bool = False
    """whether it would have gone on, had there been room for another answer"""
    values: list[float] = field(default_factory=list)
    """for a critic: what was expected before each of its own T tokens, and after the last, (T + 1)
    """
    worth: list[float] = field(default_factory=list)
    """likewise: the advantage of each of them"""
    returns: list[float] = field(default_factory=list)
    """likewise: what was earned from each of them on"""
    reference: list[float] = field(default_factory=list)
    """log-probabilities of its own tokens under the model that the stage found, if they count"""

    @property
    def success(self) -> bool:
        """Whether any attempt was right."""
        return any(attempt.success for attempt in self.attempts)

    @property
    def length(self) -> int:
        """How many tokens the model drew."""
        return sum(len(attempt.ids) for attempt in self.attempts)

    @property
    def cut(self) -> bool:
        """Whether the last answer was cut at its longest."""
        return self.attempts[-1].finish == "length"

    @property
    def truncated(self) -> bool:
        """Whether it was ended from outside: within an answer, or before the next one."""
        return self.cut or self.open

    @property
    def logps(self) -> list[float]:
        """Log-probabilities of the tokens that the model drew."""
        return [value for attempt in self.attempts for value in attempt.logps]

    def encoded(self, prompt: Encoded) -> Encoded:
        """Return prompt, answers and replies as one document; the model's own tokens are labels."""
        ids, labels = [prompt.input_ids], [torch.full_like(prompt.input_ids, IGNORE_INDEX)]
        for attempt in self.attempts:
            own, reply = torch.tensor(attempt.ids), torch.tensor(attempt.reply, dtype=torch.int64)
            ids += [own, reply]
            labels += [own, torch.full_like(reply, IGNORE_INDEX)]
        return Encoded(torch.cat(ids), torch.cat(labels), prompt.media)


@dataclass
class Group:
    """The episodes of one prompt."""

    seed: int
    """of the environment's state"""
    messages: list[Message]
    """the prompt, with its media"""
    prompt: Encoded
    episodes: list[Episode]

    @property
    def rewards(self) -> list[float]:
        """What each episode earned."""
        return [episode.reward for episode in self.episodes]

    @property
    def flat(self) -> bool:
        """Whether all episodes earned the same, so that nothing tells one from another."""
        return len(set(self.rewards)) < 2


def record_of(groups: Sequence[Group]) -> list[dict[str, Any]]:
    """Return what json can hold of groups: everything but their prompts, which seeds bring back."""
    return [{"seed": group.seed, "episodes": [asdict(episode) for episode in group.episodes]}
            for group in groups]  # fmt: skip


def episodes_of(record: Mapping[str, Any]) -> list[Episode]:
    """Return the episodes of one of these rows."""
    return [Episode(**{**row, "attempts": [Attempt(**one) for one in row["attempts"]]})
            for row in record["episodes"]]  # fmt: skip
