"""Our worlds in TRL: rows for its dataset, a reward function, and its `environment_factory`.

Nothing here imports TRL. The rows of a world hold its state, so that the members of a group, which
TRL makes of one row, have one state:

    rows = trl_rows(make_environment("generalpoints"), range(1000))
    GRPOTrainer(model, reward_funcs=verified, train_dataset=Dataset.from_list(rows), ...)
    GRPOTrainer(model, environment_factory=TrlEnvironment, train_dataset=..., ...)
"""

import io
import json
from collections.abc import Iterable, Sequence
from typing import Any

from PIL import Image

from . import environment_note, noted_environment
from .base import Checked, State

COLUMN = "world"
"""of a row: the world and its state, as json; a name that TRL has no use for"""


def trl_rows(world: Checked, seeds: Iterable[int]) -> list[dict[str, Any]]:
    """Return a row for each seed: prompt, world, and images where the prompt has some.

    Raises:
        ValueError: the prompt has sound, which TRL's rollouts do not take.
    """
    rows = []
    for seed in seeds:
        state = world.state(seed)
        messages, media = world.prompt(state)
        kinds = {part["type"] for message in messages for part in message["content"]}
        if strange := kinds - {"text", "image"}:
            raise ValueError(f"TRL takes no {', '.join(sorted(strange))} in a prompt")
        prompt = [{"role": message["role"], "content": _text(message)} for message in messages]
        row: dict[str, Any] = {"prompt": prompt, COLUMN: json.dumps(environment_note(world, state))}
        if media:
            row["images"] = [Image.open(io.BytesIO(data)) for data in media.values()]
        rows.append(row)
    return rows


def _text(message: dict[str, Any]) -> str:
    """The text alone: TRL puts images before it by itself."""
    return "".join(part["text"] for part in message["content"] if part["type"] == "text")


def verified(
    prompts: Sequence[Any], completions: Sequence[Any], world: Sequence[str], **_: Any
) -> list[float]:
    """Return what the verifier of each row's world pays for a completion: a TRL reward function.

    Raises:
        EnvironmentFault: see `Checked`.
    """
    paid = []
    for note, completion in zip(world, completions, strict=True):
        made, state = _of(note)
        paid.append(made.verify(state, _answer(completion)).reward)
    return paid


def _answer(completion: Any) -> str:
    """The text of a completion, which in conversations is a list of messages."""
    if isinstance(completion, str):
        return completion
    content = completion[-1]["content"] or ""
    return content if isinstance(content, str) else _text(completion[-1])


def _of(note: str) -> tuple[Checked, State]:
    return noted_environment(json.loads(note))


class TrlEnvironment:
    """A world whose verifier is a tool: an answer that fails is told why, `attempts` times."""

    def reset(self, world: str, **_: Any) -> None:
        """Take the state of a row; its prompt stands there."""
        self._world, self._state = _of(world)
        self._left, self._paid, self._success = self._world.attempts, self._world.exhausted, False

    def submit(self, answer: str) -> str:
        """Submit an answer to be verified.

        Args:
            answer: The whole answer, as the prompt asks for it.

        Returns:
            What the verifier says of it.
        """
        if self._success:
            return "This was solved already."
        if not self._left:
            self._paid = self._world.exhausted
            return "No attempt is left."
        self._left -= 1
        verdict = self._world.verify(self._state, str(answer))
        self._paid, self._success = verdict.reward, verdict.success
        return verdict.message

    def get_reward(self) -> float:
        """Return what the last attempt was paid; without any, what too many are."""
        return self._paid
