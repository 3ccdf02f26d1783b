"""What a rollout was like, and whether it goes wrong: figures for the log, collapses by name."""

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from .episode import Group

PATIENCE = 5  # rollouts in a row that must look alike
ENTROPY = 0.05  # of the first rollout's, per token
LENGTH = 0.2  # likewise
CUT = 0.9  # of the answers


def figures_of(groups: Sequence[Group], seconds: float) -> dict[str, float]:
    """Return what the log says of a rollout that took so long to draw.

    Its entropy, in nats per token, is estimated from the tokens drawn: their mean surprise.
    """
    episodes = [episode for group in groups for episode in group.episodes]
    count, tokens = max(1, len(episodes)), sum(episode.length for episode in episodes)
    surprise = -sum(sum(episode.logps) for episode in episodes)
    return {
        "reward": sum(episode.reward for episode in episodes) / count,
        "solved": sum(episode.success for episode in episodes) / count,
        "solved_first": sum(episode.attempts[0].success for episode in episodes) / count,
        "answer_tokens": tokens / count,
        "answers_cut": sum(episode.cut for episode in episodes) / count,
        "surprise": surprise / max(1, tokens),
        "flat_groups": statistics.fmean(group.flat for group in groups) if groups else 1.0,
        "generation_seconds": seconds,
        "generated_tokens_per_s": tokens / seconds if seconds else 0.0,
    }


def examples(processor: Any, groups: Sequence[Group]) -> Iterator[dict[str, Any]]:
    """Yield, of each group, its prompt and the episodes that earned most and least: json."""
    for group in groups:
        ordered = sorted(group.episodes, key=lambda episode: -episode.reward)
        yield {
            "prompt": processor.shown(group.messages),
            "episodes": [
                {"reward": episode.reward, "advantage": round(episode.advantage, 4),
                 "attempts": [{"text": one.text, "reward": one.reward, "reply": one.message}
                              for one in episode.attempts]}
                for episode in (ordered[:1] + ordered[1:][-1:])
            ],
        }  # fmt: skip


@dataclass
class Watch:
    """Names a collapse as soon as it has lasted; what it knows is a state of the stage."""

    entropy: float = 0.0
    """of the first rollout"""
    length: float = 0.0
    """likewise"""
    flat: int = 0
    """rollouts in a row in which no group had a spread of rewards; and so on"""
    sure: int = 0
    short: int = 0
    cut: int = 0

    def note(self, figures: Mapping[str, float]) -> list[str]:
        """Take the figures of a rollout; return what has just lasted too long."""
        self.entropy = self.entropy or figures["surprise"]
        self.length = self.length or figures["answer_tokens"]
        return [
            words
            for name, bad, words in (
                ("flat", figures["flat_groups"] == 1,
                 f"all answers to each prompt earn the same, {figures['reward']:.3g} on average: "
                 "nothing is learnt. Choose easier or harder prompts, warm up longer, or raise "
                 "rounds or the temperature"),
                ("sure", figures["surprise"] < ENTROPY * self.entropy,
                 f"entropy collapsed to {figures['surprise']:.3g} nats per token from "
                 f"{self.entropy:.3g}: answers hardly differ. Raise clip_high or kl, or lower the "
                 "learning rate"),
                ("short", figures["answer_tokens"] < LENGTH * self.length,
                 f"answers collapsed to {figures['answer_tokens']:.1f} tokens from "
                 f"{self.length:.1f}: look at what the reward pays for"),
                ("cut", figures["answers_cut"] > CUT,
                 f"{figures['answers_cut']:.0%} of the answers are cut at their longest: raise "
                 "max_new_tokens, or set overlong_cache"),
            )
            if self._lasts(name, bad)
        ]  # fmt: skip

    def _lasts(self, name: str, bad: bool) -> bool:
        setattr(self, name, getattr(self, name) + 1 if bad else 0)
        return getattr(self, name) == PATIENCE

    def state(self) -> dict[str, Any]:
        """Return what a resumed stage needs."""
        return asdict(self)
