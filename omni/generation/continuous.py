"""Answers that are written together and begin and end at any token: continuous batching."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch.nn import functional as F

from .prefix import repeated, share
from .settings import Generation
from .watch import Watcher
from .writer import Writer

if TYPE_CHECKING:
    from torch import Tensor

    from ..model.forward import OmniForConditionalGeneration
    from ..processing.processor import Encoded, OmniProcessor


class Asked(NamedTuple):
    """A prompt, up to the header of its answer, and how it is answered; see `complete`."""

    prompt: "Encoded"
    key: str
    how: Generation
    watcher: Watcher


class Continuous:
    """The rows that one model is writing, each for a prompt that joined when it came.

    Scheduling by the token is Orca's (Yu et al., OSDI 2022). The rows lie in one cache, padded on
    the left; those that join are run by themselves first, and what a step costs is one forward
    pass of one token a row. Each prompt has its own settings and streams of random numbers, and
    what `generate` of transformers would choose and end by, so that it is answered as if alone.

    Args:
        model: one that `prefix.shares`, in evaluation mode.
        processor: the one saved beside it.
    """

    def __init__(self, model: "OmniForConditionalGeneration", processor: "OmniProcessor") -> None:
        self.model, self.processor = model, processor
        self.answers: list[_Answers] = []
        self.last: _Last | None = None

    @torch.inference_mode()
    def join(self, asked: Sequence[Asked]) -> None:
        """Run prompts up to their ends; what breaks one of them does not harm who is there."""
        prompts = [one.prompt for one in asked]
        given = (shared.to_generate(self.model) if (shared := share(self.processor, prompts))
                 else repeated(self.model, self.processor.pad(prompts)))  # fmt: skip
        ids, mask = given["input_ids"], given["attention_mask"]
        known = given.pop("past_key_values", None)
        start = known.get_seq_length() if known else 0
        places = (mask.cumsum(1) - 1).clamp(min=0)[:, start:]
        found = self.model(
            **given | {"input_ids": ids[:, start:]}, position_ids=places, past_key_values=known,
            use_cache=True, logits_to_keep=1,
        )  # fmt: skip
        new = _Last(found.past_key_values, mask, found.logits[:, -1].float())
        times = torch.tensor([one.how.n for one in asked], device=ids.device)
        new = new.select(torch.arange(len(ids), device=ids.device).repeat_interleave(times))
        answers = [_Answers(self.model, self.processor, row[keep.bool()], one)
                   for row, keep, one in zip(ids, mask, asked, strict=True)]  # fmt: skip
        self.last = self.last.beside(new) if self.last else new
        self.answers += answers

    @torch.inference_mode()
    def step(self) -> None:
        """Write a token of each row; watchers hear of it, and who has all of his rows leaves."""
        assert self.last is not None
        rows = self.last.logits.split([len(one.ids) for one in self.answers])
        tokens = torch.cat([one.choose(scores)
                            for one, scores in zip(self.answers, rows, strict=True)])  # fmt: skip
        stay = torch.cat([one.open.any().expand(len(one.ids)) for one in self.answers])
        for one in [one for one in self.answers if not one.open.any()]:
            self.answers.remove(one)
            one.writer.end(one.ids)
        if not self.answers:
            self.last = None
            return
        cache, mask, _ = self.last if bool(stay.all()) else self.last.select(stay.nonzero()[:, 0])
        mask = F.pad(mask, (0, 1), value=1)
        found = self.model(
            input_ids=tokens[stay][:, None], attention_mask=mask, past_key_values=cache,
            position_ids=mask.sum(1, keepdim=True) - 1, use_cache=True, logits_to_keep=1,
        )  # fmt: skip
        self.last = _Last(found.past_key_values, mask, found.logits[:, -1].float())


class _Answers:
    """The rows of one prompt: what is written of them, and which are not whole yet.

    Args:
        ids: (P,) the prompt.
    """

    def __init__(self, model: Any, processor: Any, ids: "Tensor", asked: Asked) -> None:
        self.ids = ids.repeat(asked.how.n, 1)  # (n, P + T)
        self.writer = Writer(model, processor, self.ids, asked.how, [asked.key], asked.watcher)
        options = self.writer.options
        self.pad = options["pad_token_id"]
        self.open = torch.ones(asked.how.n, dtype=torch.bool, device=ids.device)
        self.processors, self.criteria = model.generate(
            self.ids, attention_mask=torch.ones_like(self.ids), custom_generate=_prepared, **options
        )

    def choose(self, scores: "Tensor") -> "Tensor":
        """Take the next token of each row by its scores (n, V); returns (n,)."""
        chosen = self.processors(self.ids, scores).argmax(-1).where(self.open, self.pad)
        self.ids = torch.cat([self.ids, chosen[:, None]], 1)
        self.open = self.open & ~self.criteria(self.ids, None)
        return chosen


def _prepared(
    model: Any, input_ids: "Tensor", logits_processor: Any, stopping_criteria: Any,
    generation_config: Any, **kwargs: Any,
) -> tuple[Any, Any]:  # fmt: skip
    """Stand for the loop of `generate`: return what it was to choose and to end by."""
    return logits_processor, stopping_criteria


class _Last(NamedTuple):
    """What a forward pass left: keys and values, their mask (R, T), and scores (R, V)."""

    cache: Any  # transformers' DynamicCache
    mask: "Tensor"
    logits: "Tensor"

    def select(self, rows: "Tensor") -> "_Last":
        """Keep rows, in this order, and no column that is padding in all of them."""
        mask = self.mask[rows]
        first = int(mask.any(0).int().argmax())
        self.cache.batch_select_indices(rows)
        for layer in self.cache.layers:
            layer.keys, layer.values = layer.keys[..., first:, :], layer.values[..., first:, :]
        return _Last(self.cache, mask[:, first:], self.logits[rows])

    def beside(self, other: "_Last") -> "_Last":
        """Put other rows behind these, both as long as the longer, padded on the left."""
        width = max(self.mask.shape[1], other.mask.shape[1])
        parts = [(one, width - one.mask.shape[1]) for one in (self, other)]
        for mine, its in zip(self.cache.layers, other.cache.layers, strict=True):
            both = [(layer, more) for layer, (_, more) in zip((mine, its), parts, strict=True)]
            mine.keys = torch.cat([F.pad(layer.keys, (0, 0, more, 0)) for layer, more in both])
            mine.values = torch.cat([F.pad(layer.values, (0, 0, more, 0)) for layer, more in both])
        mask = torch.cat([F.pad(one.mask, (more, 0)) for one, more in parts])
        return _Last(self.cache, mask, torch.cat([self.logits, other.logits]))
