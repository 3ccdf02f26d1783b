"""Ask, draw, verify, reply: groups of episodes from the seeds of an environment."""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from transformers import GenerationConfig

from data_shards.environments import Checked, EnvironmentFault
from data_shards.environments.base import Verdict, draws
from omni.generation.answer import complete
from omni.generation.prefix import groups_of, share, shares
from omni.generation.settings import Completion, Generation
from omni.media.decode import MediaError
from omni.processing.messages import Message, MessageError, fill, user
from omni.processing.processor import Encoded, PlaceholderError

from ..objectives.credit import lcpo_exact, lcpo_max
from ..recipe.rollout import RolloutConfig
from .episode import Attempt, Episode, Group
from .server import Server

Asked = tuple[int, dict[str, Any], list[Message], Encoded]
"""a seed, and what `Play.prompt` returns of it"""
SUFFIX = {"exact": "Think for {} tokens.", "max": "Think for maximum {} tokens."}


@dataclass
class Losses:
    """What was left out so far, and why first."""

    counts: Counter[str] = field(default_factory=Counter)
    first: dict[str, str] = field(default_factory=dict)

    def add(self, kind: str, where: str, reason: object) -> None:
        """Count one; the first of its kind is remembered."""
        self.counts[kind] += 1
        self.first.setdefault(kind, f"{where}: {reason}")


class Play:
    """Plays an environment with a model.

    Args:
        environment: asks and verifies.
        processor: of the model.
        config: how.
        positions: tokens that a conversation may have; 0: any.
        server: that draws instead of the model.
    """

    def __init__(
        self, environment: Checked, processor: Any, config: RolloutConfig, positions: int,
        server: Server | None = None,
    ):  # fmt: skip
        self.environment, self.processor, self.config = environment, processor, config
        self.server = server
        self.longest = min(config.max_length or positions, positions or config.max_length)
        self.losses = Losses()

    def where(self, seed: int) -> str:
        """Name a prompt as samples are named."""
        return f"{self.config.kind}:{seed}"

    def prompt(self, seed: int) -> tuple[dict[str, Any], list[Message], Encoded]:
        """Return the state of a seed, and what is asked: messages with their media, and tensors.

        Raises:
            EnvironmentFault: the environment is at fault.
            MessageError, MediaError, PlaceholderError: the model cannot be shown it.
            ValueError: it is too long for any answer.
        """
        state = self.environment.state(seed)
        messages, media = self.environment.prompt(state)
        shown = fill(messages, media)
        if asked := self.config.asked:
            shown = [*shown[:-1], asking(shown[-1], asked.kind, self.tokens(seed))]
        encoded = self.processor.encode(shown, generation=True)
        room = self.longest - len(encoded)
        if self.longest and room < self.config.max_new_tokens:
            raise ValueError(
                f"its prompt has {len(encoded)} tokens, which leaves {max(0, room)} of "
                f"{self.longest} for an answer of {self.config.max_new_tokens}: lower "
                "max_new_tokens, or ask less"
            )
        return state, shown, encoded

    def tokens(self, seed: int) -> int:
        """Return how many tokens the prompt of a seed asks for."""
        asked = self.config.asked
        assert asked
        lengths = asked.lengths("train")
        return lengths[int(draws("length", seed).integers(len(lengths)))]

    def groups(self, model: Any, seeds: Sequence[int], salt: str) -> list[Group]:
        """Draw the answers to some prompts, which are asked at once.

        What is drawn follows from the weights, the salt, seeds and settings. A prompt that cannot
        be asked is left out and counted, as is an answer that makes the conversation none.

        Args:
            model: of the processor; its mode is kept.
            seeds: of the prompts.
            salt: other ones draw other answers.
        """
        asked = []
        for seed in seeds:
            try:
                asked.append((seed, *self.prompt(seed)))
            except EnvironmentFault as error:
                self.losses.add("faults", self.where(seed), error)
            except (MessageError, MediaError, ValueError) as error:
                self.losses.add("prompts", self.where(seed), error)
        if not asked:
            return []
        training = model.training
        model.eval()
        try:
            with _plainly(model):
                return [*self._played(model, asked, salt)]
        finally:
            model.train(training)

    def _played(self, model: Any, asked: Sequence[Asked], salt: str) -> Iterator[Group]:
        config, prompts = self.config, [encoded for _, _, _, encoded in asked]
        how = replace(config.generation, n=config.group)
        keys = [f"{salt}|{seed}" for seed, *_ in asked]
        found = self._complete(model, prompts, [messages for _, _, messages, _ in asked], how, keys)
        rows = [_Row(*one, number) for one in asked for number in range(config.group)]
        for row, completion in zip(rows, found, strict=True):
            self.judge(row, completion)
        for turn in range(1, config.attempts):
            going = [row for row in rows if row.open]
            for row in going:
                row.episode.open = not self._fits(row)
            going = [row for row in going if not row.episode.open]
            for first in range(0, len(going), config.batch * config.group):
                some = going[first : first + config.batch * config.group]
                so_far = [self._reply(row) for row in some]
                keys = [f"{salt}|{row.seed}|{row.number}|{turn}" for row in some]
                found = self._complete(model, so_far, None, config.generation, keys)
                for row, completion in zip(some, found, strict=True):
                    self.judge(row, completion)
        for n, (seed, _, messages, prompt) in enumerate(asked):
            own = rows[n * config.group : (n + 1) * config.group]
            if episodes := [row.episode for row in own if not row.broken]:
                yield Group(seed, messages, prompt, episodes)

    def _complete(
        self, model: Any, prompts: list[Encoded], talks: list[list[Message]] | None,
        how: Generation, keys: list[str],
    ) -> list[Completion]:  # fmt: skip
        """Draw `how.n` answers to each prompt; `talks` are their messages, if nothing was drawn."""
        if self.server:
            return self.server.complete(prompts, talks, how, keys)
        if not shares(model):
            batch = self.processor.pad(prompts)
        elif how.n > 1:
            batch = groups_of(self.processor, prompts)
        else:
            batch = share(self.processor, prompts) or self.processor.pad(prompts)
        return complete(model, self.processor, batch, how, keys=keys, keep=True)

    def judge(self, row: "_Row", completion: Completion) -> None:
        """Add an answer to its episode with what it earns, or break off the episode."""
        episode = row.episode
        try:
            verdict = self.environment.verify(row.state, completion.text)
            episode.attempts.append(_attempt(completion, verdict))
            self.processor.check_placeholders(episode.encoded(row.prompt))
            row.open = not (verdict.success or verdict.done)
            if row.open:
                row.state = self.environment.advance(row.state, completion.text)
        except EnvironmentFault as error:
            self.losses.add("faults", self.where(row.seed), error)
            row.broken, row.open = True, False
        except PlaceholderError as error:
            self.losses.add("answers", self.where(row.seed), error)
            row.broken, row.open = True, False
        else:
            episode.reward = self._reward(row.seed, episode)

    def _reward(self, seed: int, episode: Episode) -> float:
        if (asked := self.config.asked) is None:
            return sum(attempt.reward for attempt in episode.attempts)
        reward = lcpo_exact if asked.kind == "exact" else lcpo_max
        return reward(float(episode.success), self.tokens(seed), episode.length, asked.alpha)

    def _tokens_of_reply(self, row: "_Row") -> list[int]:
        last = row.episode.attempts[-1]
        end, following = self.processor.reply(row.messages, user(last.message))
        return following if end and last.ids[-len(end) :] == end else [*end, *following]

    def _fits(self, row: "_Row") -> bool:
        """Whether a reply and one more answer have room in the conversation."""
        if not self.longest:
            return True
        length = len(row.prompt) + row.episode.length
        length += sum(len(attempt.reply) for attempt in row.episode.attempts)
        return length + len(self._tokens_of_reply(row)) + self.config.max_new_tokens <= self.longest

    def _reply(self, row: "_Row") -> Encoded:
        """Append what the verifier replied; return all up to the next answer."""
        attempts = row.episode.attempts
        attempts[-1] = replace(attempts[-1], reply=self._tokens_of_reply(row))
        return row.episode.encoded(row.prompt)


@dataclass
class _Row:
    """One episode under way."""

    seed: int
    state: dict[str, Any]
    messages: list[Message]
    prompt: Encoded
    number: int
    episode: Episode = field(default_factory=Episode)
    open: bool = True
    broken: bool = False


def _attempt(completion: Completion, verdict: Verdict) -> Attempt:
    return Attempt(
        completion.ids.tolist(), completion.logprobs.tolist(),
        [kept.tolist() for kept in completion.kept], completion.text, completion.finish,
        float(verdict.reward), verdict.success, verdict.message,
    )  # fmt: skip


def asking(message: Message, kind: str, tokens: int) -> Message:
    """Append to a prompt that its answer is to have so many tokens, see `Length`."""
    words = f" {SUFFIX[kind].format(tokens)}"
    return {**message, "content": [*message["content"], {"type": "text", "text": words}]}


@contextmanager
def _plainly(model: Any) -> Iterator[None]:
    """Draw from the model's own distribution, whatever its `generation_config` would make of it.

    A repetition penalty, say, would draw from other probabilities than are scored.
    """
    before = model.generation_config
    model.generation_config = GenerationConfig(
        eos_token_id=before.eos_token_id, pad_token_id=before.pad_token_id,
        bos_token_id=before.bos_token_id,
    )  # fmt: skip
    try:
        yield
    finally:
        model.generation_config = before
