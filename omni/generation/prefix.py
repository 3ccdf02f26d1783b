"""Prompts that begin alike: what they have in common runs through the LLM once."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from ..processing.processor import Encoded
from .cut import cut, spans

if TYPE_CHECKING:
    from ..model.forward import OmniForConditionalGeneration
    from ..processing.processor import OmniProcessor

LEAST = 0.125  # of all prompt tokens; sparing fewer does not pay for a second forward pass


@dataclass(frozen=True)
class Shared:
    """A batch of prompts, each the beginning that it shares with others and the rest.

    Args:
        heads: the beginnings, padded: `input_ids`, `attention_mask` (G, P) and media.
        tails: the rests, padded on the left too: (B, S).
        of: (B,) the row of `heads` that goes before each of `tails`.
    """

    heads: dict[str, torch.Tensor]
    tails: dict[str, torch.Tensor]
    of: torch.Tensor

    def to_generate(self, model: "OmniForConditionalGeneration", times: int = 1) -> dict[str, Any]:
        """Run the beginnings; return what `model.generate` needs to go on from there.

        Each prompt is there as many `times`, one after the other.
        """
        heads, tails = repeated(model, self.heads), repeated(model, self.tails, times)
        of = self.of.repeat_interleave(times).to(model.device)
        places = (heads["attention_mask"].cumsum(1) - 1).clamp(min=0)
        cache = model(**heads, position_ids=places, use_cache=True, logits_to_keep=1)
        cache.past_key_values.batch_select_indices(of)
        whole = {name: torch.cat([heads[name][of], tails[name]], 1)
                 for name in ("input_ids", "attention_mask")}  # fmt: skip
        return {**tails, **whole, "past_key_values": cache.past_key_values}


def repeated(
    model: Any, batch: Mapping[str, torch.Tensor], times: int = 1
) -> dict[str, torch.Tensor]:
    """Move prompts (B, L) and their media to the model, each prompt `times` in a row."""
    moved = {name: tensor.to(model.device) for name, tensor in batch.items()}
    ids, rest = model._expand_inputs_for_generation(times, **moved)
    return {"input_ids": ids, **rest}


def shares(model: "OmniForConditionalGeneration") -> bool:
    """Tell whether the LLM keeps keys and values of all positions, whatever lies in between.

    A sliding window would count the padding of the tails, and a recurrent state goes over it.
    """
    from transformers.cache_utils import DynamicCache, DynamicLayer

    layers = DynamicCache(config=model.config.get_text_config(decoder=True)).layers
    return all(type(layer) is DynamicLayer for layer in layers)


def share(processor: "OmniProcessor", prompts: list[Encoded]) -> Shared | None:
    """Split prompts where that spares at least an eighth of their tokens, padding included."""
    groups = _groups(processor, prompts)
    rests = [len(prompts[row]) - g.common for g in groups if len(g.rows) > 1 for row in g.rows]
    if not rests:
        return None
    # no head is longer than need be, so that those of prompts that share with nobody pad none
    wanted = [max(len(prompts[row]) for row in g.rows) - max(rests) for g in groups]
    heads = [cut(processor, prompts[g.rows[0]], 0, min(g.common, max(1, count)))
             for g, count in zip(groups, wanted, strict=True)]  # fmt: skip
    of = {row: number for number, g in enumerate(groups) for row in g.rows}
    tails = [_after(prompt, heads[of[row]]) for row, prompt in enumerate(prompts)]
    spent = sum(len(part) * max(map(len, part)) for part in (heads, tails))
    if spent > (1 - LEAST) * len(prompts) * max(map(len, prompts)):
        return None
    return Shared(
        processor.pad(heads), processor.pad(tails), torch.tensor([of[row] for row in sorted(of)])
    )


def groups_of(processor: "OmniProcessor", prompts: list[Encoded]) -> Shared:
    """Split prompts before their last token: what several answers to one have in common.

    Args:
        processor: the one saved beside the model.
        prompts: with no medium at the end, as those that end with the header of an answer.
    """
    heads = [cut(processor, prompt, 0, len(prompt) - 1) for prompt in prompts]
    tails = [_after(prompt, head) for prompt, head in zip(prompts, heads, strict=True)]
    return Shared(processor.pad(heads), processor.pad(tails), torch.arange(len(prompts)))


@dataclass
class _Group:
    """Rows that begin with `common` tokens (and media) of the first of them."""

    rows: list[int]
    common: int


def _groups(processor: "OmniProcessor", prompts: list[Encoded]) -> list[_Group]:
    """Put each prompt where a quarter is in common, and who is there keeps three quarters."""
    groups: list[_Group] = []
    for row, prompt in enumerate(prompts):
        found = [(min(g.common, _common(processor, prompts[g.rows[0]], prompt)), g) for g in groups]
        most, group = max(found, key=lambda pair: pair[0], default=(0, _Group([], 0)))
        fits = len(group.rows) == 1 or 4 * most >= 3 * group.common
        if fits and 4 * most >= len(prompt):
            group.rows.append(row)
            group.common = most
        else:
            groups.append(_Group([row], len(prompt) - 1))
    return groups


def _common(processor: "OmniProcessor", one: Encoded, other: Encoded) -> int:
    """Count the tokens that two prompts begin with, no medium cut; of each at least one is left."""
    most = min(len(one), len(other)) - 1
    differing = (one.input_ids[:most] != other.input_ids[:most]).nonzero()
    most = int(differing[0]) if len(differing) else most
    for name, items in one.media.items():
        for number, (first, last) in enumerate(spans(processor.modalities[name], one, items)):
            # where the ids are equal up to its last token, the other has a medium there too
            if first < most and (
                last >= most or not _same(items[number], other.media[name][number])
            ):
                most = first
    return most


def _same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(tensor, other[name]) for name, tensor in one.items())


def _after(prompt: Encoded, head: Encoded) -> Encoded:
    media = {name: items[len(head.media.get(name, [])) :] for name, items in prompt.media.items()}
    return Encoded(prompt.input_ids[len(head) :], prompt.labels[len(head) :], media)
