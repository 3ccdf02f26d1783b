"""How long a conversation an LLM has positions for."""

from typing import Any


def positions_of(config: Any) -> int | None:
    """Return how many positions an LLM's config speaks of, None where it speaks of none."""
    config = config.get_text_config()
    stated = getattr(config, "max_position_embeddings", None)
    rope = getattr(config, "rope_parameters", None) or {}
    original, factor = rope.get("original_max_position_embeddings"), rope.get("factor")
    if stated and original and factor:  # some state what they have before it is stretched
        stated = max(stated, int(original * factor))
    return stated
