"""Attention over packed rows: each document by itself, instead of one masked square over all."""

from typing import Any

import torch
from torch.nn import functional as F
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

PACKED_SDPA = "packed_sdpa"


def restarts(position_ids: torch.Tensor | None) -> bool:
    """Tell whether positions (B, T) restart in a row, which then holds several documents."""
    return position_ids is not None and bool((position_ids.diff() != 1).any())


def without_mask(
    mask: torch.Tensor | None, position_ids: torch.Tensor | None
) -> torch.Tensor | None:
    """Drop a mask (B, T) of ones from rows of several documents: transformers would not part them.

    Raises:
        ValueError: such a row is padded as well.
    """
    if not isinstance(mask, torch.Tensor) or position_ids is None:
        return mask
    if mask.ndim != 2 or position_ids.ndim != 2 or mask.shape[1] != position_ids.shape[1]:
        return mask
    seen = mask.bool()
    if not ((position_ids.diff() != 1) & seen[:, 1:] & seen[:, :-1]).any():
        return mask
    if seen.all():
        return None
    raise ValueError(
        "position_ids restart within a row that attention_mask pads: leave the mask and the "
        "padding of packed rows out, as OmniProcessor.pack does"
    )


def starts(positions: torch.Tensor) -> list[int]:
    """Return where the documents of a row begin, from its positions (T,)."""
    return [0, *((positions.diff() != 1).nonzero()[:, 0] + 1).tolist()]


def documents(position_ids: torch.Tensor | None) -> list[int] | None:
    """Return the lengths of a packed row's documents from its positions (1, T), else None.

    On a GPU it is None too: many small kernels and the wait for their lengths cost more there
    than the mask does.
    """
    if position_ids is None or len(position_ids) > 1 or position_ids.device.type != "cpu":
        return None
    return torch.tensor([*starts(position_ids[0]), position_ids.shape[1]]).diff().tolist()


def packed_mask(config: Any, position_ids: torch.Tensor | None) -> torch.Tensor | None:
    """Return what a packed row on a GPU may see, (1, 1, T, T), or None: the LLM finds out itself.

    An LLM of transformers asks the GPU if the row is packed at all, and waits for the answer.
    Where its layers see everything before them, the mask can be made without.
    """
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    window = getattr(config, "sliding_window", None)
    if position_ids is None or position_ids.device.type == "cpu" or len(position_ids) > 1:
        return None
    if kinds != {"full_attention"} or window or getattr(config, "attention_chunk_size", None):
        return None
    document = F.pad((position_ids.diff() != 1).cumsum(1), (1, 0))  # (1, T)
    return (document[:, None, :, None] == document[:, None, None, :]).tril()


def packed_sdpa(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    documents: list[int] | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Run transformers' SDPA; a packed row, (1, heads, T, D), one document after the other.

    The work is the sum of squared lengths, not the square of their sum. The mask is cut to each
    document's own block, so sliding windows and the like stay as the LLM defines them.
    """
    if not documents or len(documents) == 1:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)
    outputs, start = [], 0
    # split, not slices: the gradient of a slice is a row of zeros as long as the whole
    for q, k, v in zip(*(t.split(documents, dim=2) for t in (query, key, value)), strict=True):
        span = slice(start, start := start + q.shape[2])
        mask = None if attention_mask is None else attention_mask[..., span, span]
        outputs.append(sdpa_attention_forward(module, q, k, v, mask, **kwargs)[0])
    return torch.cat(outputs, dim=1), None  # (1, T, heads, D)


AttentionInterface.register(PACKED_SDPA, packed_sdpa)
AttentionMaskInterface.register(PACKED_SDPA, sdpa_mask)
