"""What an LLM must do to be a part: take embeddings as it takes ids, keep packed documents apart.

Found out by running it once on a few tokens, because neither its config nor its name says so. An
LLM that carries a state from token to token, or whose positions cannot restart, does not keep the
documents of a row apart; it runs them one after the other instead.
"""

from typing import Any

import torch

from .attention import starts

TOLERANCE = 1e-4  # of the largest value: rounding is far below, what leaks is far above
LENGTHS = (7, 9)  # tokens of the two documents of the probe


class UnfitError(ValueError):
    """An LLM, or its tokenizer, that cannot be a part; the text names it and says why."""


@torch.no_grad()
def check_embeddings(language_model: Any) -> None:
    """Refuse an LLM that makes more of ids than the rows of its embedding.

    Raises:
        UnfitError: logits of ids differ from those of their embeddings, or it wants ids.
    """
    name, ids = _name(language_model), _ids(language_model)
    embeds = language_model.get_input_embeddings()(ids)
    between = (embeds + embeds.roll(1, dims=1)) / 2  # of no token, as media are
    try:
        by_ids = language_model(input_ids=ids, use_cache=False).logits
        by_embeds = language_model(inputs_embeds=embeds, use_cache=False).logits
        language_model(inputs_embeds=between, use_cache=False)
    except (RuntimeError, ValueError, TypeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UnfitError(f"the LLM {name} does not run on embeddings alone: {reason}") from error
    if not _equal(by_embeds, by_ids):
        raise UnfitError(
            f"the LLM {name} makes more of token ids than their embeddings (per-layer embeddings, "
            "or a scale that it applies to ids alone), so media cannot stand among its tokens; "
            "choose another LLM"
        )


def check_vocabulary(model: Any, tokenizer: Any) -> None:
    """Refuse a tokenizer with tokens that the LLM has no row for.

    Raises:
        UnfitError: says how many, and the first of them.
    """
    rows = len(model.get_input_embeddings().get_parameter("weight"))
    over = {i: token for token, i in tokenizer.get_vocab().items() if i >= rows}
    if over:
        raise UnfitError(
            f"the tokenizer has {len(over)} tokens beyond the {rows:,} rows of the embedding of "
            f"the LLM {_name(model.language_model)}, the first {over[min(over)]!r} with the id "
            f"{min(over)}: take the tokenizer that the LLM was trained with, or give it more rows "
            "(resize_token_embeddings) and save it anew"
        )


@torch.no_grad()
def isolates(model: Any) -> bool:
    """Tell whether a row of two documents gives the second what it gets alone.

    Args:
        model: an omni model, in evaluation mode.
    """
    embeds = model.get_input_embeddings()(_ids(model.language_model))
    positions = torch.cat([torch.arange(n) for n in LENGTHS])[None].to(embeds.device)
    first = LENGTHS[0]
    packed = model.decode(embeds, position_ids=positions).last_hidden_state[:, first:]
    alone = model.decode(embeds[:, first:], position_ids=positions[:, first:]).last_hidden_state
    return _equal(packed, alone)


@torch.no_grad()
def continues(model: Any) -> bool:
    """Tell whether prompts in a batch, padded on the left, go on with a cache as alone without.

    An LLM may not look at the mask, or keep its state in a way of its own.

    Args:
        model: an omni model, in evaluation mode.
    """
    [ids] = _ids(model.language_model)
    short = LENGTHS[0]
    settings: dict[str, Any] = {
        "max_new_tokens": 3, "min_new_tokens": 3, "do_sample": False, "output_logits": True,
        "return_dict_in_generate": True, "pad_token_id": 0,
    }  # fmt: skip
    batch = torch.stack([ids, torch.cat([torch.zeros_like(ids[short:]), ids[:short]])])
    mask = torch.ones_like(batch)
    mask[1, : len(ids) - short] = 0
    try:
        together = model.generate(batch, attention_mask=mask, use_cache=True, **settings).logits
    except Exception:  # whatever a cache of another kind cannot do
        return False
    for row, length in enumerate((len(ids), short)):
        alone = model.generate(ids[None, :length], use_cache=False,
                               attention_mask=mask[:1, :length], **settings).logits  # fmt: skip
        if not all(_equal(a[row], b[0]) for a, b in zip(together, alone, strict=True)):
            return False
    return True


def one_by_one(
    decoder: Any, embeds: torch.Tensor, position_ids: torch.Tensor, **kwargs: Any
) -> Any:
    """Run a decoder on each document of each row: (B, T, D), (B, T) -> its output, joined again."""
    rows = []
    for row, positions in zip(embeds.split(1), position_ids.expand(len(embeds), -1), strict=True):
        lengths = torch.tensor([*starts(positions), len(positions)]).diff().tolist()
        pieces = zip(row.split(lengths, dim=1), positions[None].split(lengths, dim=1), strict=True)
        outputs = [
            decoder(inputs_embeds=piece, position_ids=place, use_cache=False, **kwargs)
            for piece, place in pieces
        ]
        rows.append(_joined(outputs, 1))
    return _joined(rows, 0)


def _joined(outputs: list[Any], dim: int) -> Any:
    """Join what decoders returned, hidden states along `dim`, router logits token by token."""
    joined: dict[str, Any] = {
        "last_hidden_state": torch.cat([o.last_hidden_state for o in outputs], dim)
    }
    for name, along in (("hidden_states", dim), ("router_logits", 0)):
        if outputs[0].get(name) is not None:
            layers = zip(*(output[name] for output in outputs), strict=True)
            joined[name] = tuple(torch.cat(layer, along) for layer in layers)
    return type(outputs[0])(**joined)


def _ids(language_model: Any) -> torch.Tensor:
    """Return ids spread over the vocabulary, (1, T), the same every time."""
    table = language_model.get_input_embeddings().weight
    return torch.linspace(1, len(table) - 1, sum(LENGTHS), device=table.device).long()[None]


def _equal(found: torch.Tensor, right: torch.Tensor) -> bool:
    return bool((found - right).abs().max() <= TOLERANCE * right.abs().max())  # NaN is not


def _name(language_model: Any) -> str:
    return f"{language_model.config.model_type} ({type(language_model).__name__})"
