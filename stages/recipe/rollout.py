"""What a stage that learns from its own answers samples: `rollout: {environment: ...}`."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from data_shards.environments.base import in_split
from omni.entry import EntryError
from omni.generation.settings import Generation
from omni.nearest import nearest

from .entry import check_generation, read_entry

LENGTHS = ("exact", "max")


@dataclass(frozen=True)
class Length:
    """Let each prompt ask for a number of tokens, and the reward heed it (LCPO, arXiv 2503.04697).

    What an answer earns is then of 0 (wrong) or 1 (right), and of its length.
    """

    kind: str = "exact"
    """exact: every token more or less than asked for costs alpha; max: only more does"""
    least: int = 100
    """fewest tokens that are asked for"""
    most: int = 4000
    """most of them"""
    alpha: float = 3e-4
    """what a token counts"""
    heldout: float = 0.0
    """share of the lengths between that are never asked for, so that one can see what is made of
    them"""

    def __post_init__(self) -> None:
        if self.kind not in LENGTHS:
            raise EntryError(f"kind is exact or max, not {self.kind!r}; "
                             f"{nearest(self.kind, LENGTHS)}", "kind")  # fmt: skip
        for name in ("least", "most"):
            _whole(name, getattr(self, name), 1)
        if self.most < self.least:
            raise EntryError(f"most ({self.most}) is below least ({self.least})", "most")
        if type(self.alpha) not in (int, float) or not self.alpha > 0:
            raise EntryError(f"alpha is a number above 0, not {self.alpha!r}", "alpha")
        if type(self.heldout) not in (int, float) or not 0 <= self.heldout < 1:
            raise EntryError(f"heldout is a share from 0 and below 1, not {self.heldout!r}",
                             "heldout")  # fmt: skip
        if not self.lengths("train"):
            raise EntryError(f"heldout {self.heldout} leaves no length from {self.least} to "
                             f"{self.most} to ask for", "heldout")  # fmt: skip

    def lengths(self, split: str) -> Sequence[int]:
        """Return the lengths that are asked for, of "train", or those that never are."""
        if not self.heldout and split == "train":
            return range(self.least, self.most + 1)
        return _split(self.least, self.most, split, self.heldout)


@dataclass(frozen=True)
class RolloutConfig:
    """What is asked, how often, and how answers are drawn; all of a step are one rollout."""

    environment: Any
    """what asks and verifies: a kind, {kind: generalpoints, ...} with its options, or
    "my_module:MyWorld" """
    prompts: int = 8
    """prompts of a rollout"""
    group: int = 8
    """answers to each of them"""
    temperature: float = 1.0
    """above 0: greedy answers are all the same"""
    top_p: float = 1.0
    """draw from the tokens that are so likely; what they were drawn from is scored too"""
    max_new_tokens: int = 256
    """of an answer"""
    stop: list[str] = field(default_factory=list)
    """strings that end an answer"""
    attempts: int = 1
    """answers to a prompt one after the other, each after what the verifier replied"""
    updates: int = 1
    """steps on each rollout, which are all of it; those after the first heed how far the model has
    moved"""
    rounds: int = 1
    """how often prompts are drawn for a rollout at most, to replace those whose answers all earn
    the same (dynamic sampling, arXiv 2503.14476); what is too much is kept for the next one"""
    batch: int = 8
    """prompts answered at once"""
    max_tokens: int = 8192
    """tokens of a micro-batch, or one longer conversation"""
    max_length: int = 0
    """longest conversation in tokens; 0: as many as the LLM has positions for"""
    reward: str = ""
    """"module:function" that pays instead of the environment, as reward functions of TRL do:
    called with prompts, completions, completion_ids and the columns of the environment's states, it
    returns a number for each"""
    server: str = ""
    """address of a vLLM server that draws instead, such as http://127.0.0.1:8000/v1: it serves what
    `omni-train export` wrote, and is given the weights of every rollout"""
    length: dict[str, Any] = field(default_factory=dict)
    """{kind: exact, least: 100, most: 4000, alpha: 3.0e-4}: prompts ask for a number of tokens"""

    def __post_init__(self) -> None:
        for name in ("prompts", "group", "attempts", "updates", "rounds", "batch", "max_tokens"):
            _whole(name, getattr(self, name), 2 if name == "group" else 1)
        _whole("max_length", self.max_length, 0)
        check_generation(self, "temperature", "top_p", "max_new_tokens", "stop")
        if self.temperature == 0:
            raise EntryError("temperature is above 0: answers drawn greedily are all the same, and "
                             "nothing can be learnt of a group of them", "temperature")  # fmt: skip
        if not isinstance(self.reward, str) or (self.reward and ":" not in self.reward):
            raise EntryError(f'reward is "module:function", not {self.reward!r}', "reward")
        self._check_server()
        if self.length:
            read_entry(Length, self.length, "length")

    def _check_server(self) -> None:
        if not isinstance(self.server, str) or not re.match(r"https?://|$", self.server):
            raise EntryError(f"server is an address, http://HOST:PORT/v1, not {self.server!r}",
                             "server")  # fmt: skip
        if self.server and self.top_p != 1:
            raise EntryError("top_p is 1 where a server draws, which does not tell what it left to "
                             f"draw from, not {self.top_p!r}", "top_p")  # fmt: skip

    @property
    def generation(self) -> Generation:
        """How an answer is generated."""
        return Generation(self.max_new_tokens, tuple(self.stop), self.temperature, self.top_p)

    @property
    def asked(self) -> Length | None:
        """What is asked of the length of answers."""
        return read_entry(Length, self.length, "length") if self.length else None

    @property
    def by_turn(self) -> bool:
        """Whether what the environment pays for each answer is what an episode earns."""
        return not (self.reward or self.length)

    @property
    def kind(self) -> str:
        """The environment's, which is the source of all that is learnt."""
        entry = self.environment
        return str(entry.get("kind") if isinstance(entry, Mapping) else entry)


def rollout_of(entry: Mapping[str, Any]) -> RolloutConfig:
    """Return what a recipe's entry says.

    Raises:
        EntryError: an unknown key (the nearest is named), or a value that cannot be.
    """
    return read_entry(RolloutConfig, entry)


@cache
def _split(least: int, most: int, split: str, share: float) -> tuple[int, ...]:
    return tuple(n for n in range(least, most + 1) if in_split(f"{n} tokens", split, share))


def _whole(name: str, value: Any, least: int) -> None:
    if type(value) is not int or value < least:
        raise EntryError(f"{name} is a whole number from {least}, not {value!r}", name)
