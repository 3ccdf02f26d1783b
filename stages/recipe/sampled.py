"""A source that an earlier stage makes: `{sample: {from: STAGE, prompts: [data/chat], n: 4}}`."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from omni.entry import EntryError
from omni.generation.settings import Generation
from omni.nearest import nearest

from .entry import check_generation, read_entry

FOLDER = "sampled"  # of a run
PAIRS = ("", "spin", "hard")
HARD = ("right", "choice")
"""keys that go with pairs: hard"""
RIGHT = ("guard", "conclusion", "number", "text")
CHOICES = ("random", "longest", "length-matched")
SHAPE = "write [data/chat/train-*.tar], or {sample: {from: STAGE, prompts: [data/chat]}}"


@dataclass(frozen=True)
class Sampled:
    """What an earlier stage answers, sampled before the first stage that is trained on it.

    As `omni-train sample` does it: batched, gone on with after a kill, and done again where
    weights, prompts or settings are others. The shards are OUTPUT/sampled/NAME.
    """

    from_: str | list[str]
    """the stage whose checkpoint answers, or several, whose answers to a prompt are put together"""
    prompts: list[str]
    """shards, or folders of them; a prompt is a sample up to its last answer"""
    n: int = 1
    """answers to each prompt"""
    temperature: float = 1.0
    """0: the most likely token"""
    top_p: float = 1.0
    """draw from the tokens that are so likely"""
    max_new_tokens: int = 256
    """of an answer"""
    seed: int = 0
    """other ones draw other answers"""
    batch: int = 8
    """prompts at once; changes no answer"""
    pairs: str = ""
    """spin: pairs of the real answer and an own one, for the objective of that name; equal ones are
    left out and counted. hard: of prompts that are answered rightly and wrongly, one pair of a
    right and a wrong own answer each, for hs_dpo; n is at least 2 then, all stages counted"""
    right: str = ""
    """of hard, what of an answer is to be as in the real one: guard (three verdicts), conclusion
    (the last, right or wrong), number (the last) or text"""
    choice: str = "random"
    """of hard, which pair: random, longest or length-matched"""

    def __post_init__(self) -> None:
        if not (self.from_ and (isinstance(self.from_, str) or _strings(self.from_))):
            raise EntryError(f"from is the name of a stage, or a list, not {self.from_!r}", "from")
        if not _strings(self.prompts):
            raise EntryError(f"prompts is a list of shards, not {self.prompts!r}", "prompts")
        if self.pairs not in PAIRS:
            hint = nearest(self.pairs, PAIRS[1:])
            raise EntryError(f"pairs is spin, hard or left out, not {self.pairs!r}; {hint}",
                             "pairs")  # fmt: skip
        if type(self.batch) is not int or self.batch < 1:
            raise EntryError(f"batch is a whole number from 1, not {self.batch!r}", "batch")
        check_generation(self, "n", "temperature", "top_p", "max_new_tokens", "seed")
        check_hard(self.pairs, self.right, self.choice, self.n * len(self.stages))

    @property
    def stages(self) -> list[str]:
        """The stages whose checkpoints answer."""
        return [self.from_] if isinstance(self.from_, str) else list(self.from_)

    @property
    def generation(self) -> Generation:
        """How answers are generated."""
        return Generation(self.max_new_tokens, (), self.temperature, self.top_p, self.n, self.seed)

    @property
    def settings(self) -> dict[str, Any]:
        """Everything that decides the answers but weights and prompts' bytes."""
        no = {"batch", *(() if self.pairs == "hard" else HARD)}
        return {name.rstrip("_"): value for name, value in asdict(self).items() if name not in no}


def check_hard(pairs: str, right: str, choice: str, answers: int) -> None:
    """Refuse a rule or a choice that is none, either where no pairs are mined, and single answers.

    Raises:
        EntryError: see above.
    """
    if choice not in CHOICES:
        raise EntryError(f"choice is {', '.join(CHOICES)}, not {choice!r}", "choice")
    if (pairs == "hard") != bool(right):
        raise EntryError("right goes with pairs: hard, which needs it", "right")
    if right and right not in RIGHT:
        raise EntryError(f"right is {', '.join(RIGHT)}, not {right!r}; {nearest(right, RIGHT)}",
                         "right")  # fmt: skip
    if pairs == "hard" and answers < 2:
        raise EntryError("pairs: hard needs at least two answers to a prompt", "n")


def source_of(entry: Any) -> list[str] | Sampled:
    """Return what a recipe's entry under `sources` says: shards, or what samples them.

    Raises:
        EntryError: it is neither, or has an unknown key (the nearest is named).
    """
    if _strings(entry):
        return list(entry)
    if not isinstance(entry, Mapping):
        raise EntryError(f"{entry!r} is no source: {SHAPE}")
    for key in entry:
        if key != "sample":
            raise EntryError(f"unknown key {key!r}; {nearest(key, ['sample'])}", str(key))
    if not isinstance(entry.get("sample"), Mapping):
        raise EntryError(f"sample is a mapping: {SHAPE}", "sample")
    return read_entry(Sampled, entry["sample"], "sample")


def _strings(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(one, str) for one in value)
