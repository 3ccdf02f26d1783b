"""What a loop that makes tokens needs to write answers, and what reads the tokens that it made."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

from .budget import Budget
from .forcing import Forcing
from .sampling import Sampler
from .settings import Completion, Generation
from .stops import Stops
from .thinking import cut, first_stop, opening, spell
from .watch import Watched, Watcher

if TYPE_CHECKING:
    from torch import Tensor

PROMPT_END = 16  # tokens, of which the tag that opens thinking may be made


class Writer:
    """Chooses and ends the tokens of rows that go on from prompts, and makes answers of them.

    Args:
        model, processor, generation, keys, watcher, keep: see `complete`.
        ids: (rows, P), the prompts, padded on the left, each n times in a row.
    """

    def __init__(
        self, model: Any, processor: Any, ids: "Tensor", generation: Generation,
        keys: Sequence[str], watcher: Watcher | None = None, keep: bool = False,
    ) -> None:  # fmt: skip
        self.tokenizer = tokenizer = processor.tokenizer
        names, words = getattr(processor, "ends", ([], ""))
        self.stop = (*generation.stop, *([words] if words else []))
        self.ends = ends_of(model, tokenizer, names)
        self.prompt = ids.shape[1]
        self.begun = [opening(end) for end in tokenizer.batch_decode(ids[:, -PROMPT_END:])]
        self.sampler = Sampler(generation, keys, ids.device, keep)
        self.forcing: Forcing | None = None
        if isinstance(generation.thinking, Budget):
            self.forcing = Forcing(
                generation.thinking, generation.max_new_tokens, tokenizer, self.sampler,
                self.prompt, self.begun, self.ends, self.stop,
            )  # fmt: skip
        self.stops = self.forcing or Stops(
            tokenizer, self.prompt, self.stop, self.begun, self.ends, generation.max_new_tokens
        )
        self.most = self.forcing.new_tokens if self.forcing else generation.max_new_tokens
        self.watched = watcher and Watched(
            self.stops, watcher, self.prompt, len(ids), torch.inference_mode(False)(self._written)
        )

    @property
    def options(self) -> dict[str, Any]:
        """What `generate` of transformers takes to write so."""
        criteria = [self.stops.ended] if self.forcing or self.stop else []
        criteria += [self.watched] if self.watched else []
        return {
            "max_new_tokens": self.most, "do_sample": False, "num_beams": 1,
            "eos_token_id": self.ends, "pad_token_id": self.tokenizer.pad_token_id or 0,
            "logits_processor": [self.sampler, self.forcing] if self.forcing else [self.sampler],
            "stopping_criteria": criteria or None,
        }  # fmt: skip

    @torch.inference_mode(False)  # tensors of inference cannot take part in training
    def end(self, ids: "Tensor") -> list[Completion]:
        """Return the answers of rows (rows, P + T) that have all ended; the watcher has them."""
        new = ids[:, self.prompt :].cpu()
        if self.watched:
            self.watched.end(new)
        return [self._written(row, new) for row in range(len(new))]

    def _written(self, row: int, new: "Tensor") -> Completion:
        length = self.stops.lengths.get(row, new.shape[1])
        tokens, logprobs = new[row, :length].clone(), self.sampler.logprobs_of(row)[:length].clone()
        if self.forcing:
            found = self.forcing.rows[row]
            finish = "stop" if found.stopped else "length"
            text = self.forcing.whole(row)
            return Completion(text, tokens, logprobs, finish, len(found.thought))
        found = written(self.tokenizer, tokens, logprobs, self.ends, self.stop, self.begun[row])
        return found._replace(kept=self.sampler.kept_of(row)[: len(found.ids)])


def written(
    tokenizer: Any, tokens: "Tensor", logprobs: "Tensor", ends: Sequence[int],
    stop: Sequence[str], begun: str = "",
) -> Completion:  # fmt: skip
    """Make an answer of tokens (T,): without what pads them behind an end marker.

    Args:
        tokenizer: that spells them.
        tokens, logprobs: as they were drawn.
        ends: ids of end markers.
        stop: strings that end an answer.
        begun: the tag that opens thinking, where the prompt ends with it.
    """
    ended = torch.isin(tokens, torch.tensor(ends, dtype=tokens.dtype)).nonzero()[:1, 0].tolist()
    length = ended[0] + 1 if ended else len(tokens)
    text = begun + spell(tokenizer, tokens[:length].tolist())
    finish = "stop" if ended or first_stop(text, stop) >= 0 else "length"
    return Completion(cut(text, stop), tokens[:length], logprobs[:length], finish)


def ends_of(model: Any, tokenizer: Any, ids: Sequence[int]) -> list[int]:
    """Every id that ends an answer; each place names one, a list of them, or none."""
    ends = {tokenizer.eos_token_id, *ids}
    for config in (model.config, model.generation_config):
        found = getattr(config, "eos_token_id", None)
        ends |= set(found if isinstance(found, list) else [found])
    return sorted(ends - {None})
