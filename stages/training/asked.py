"""What a finished stage answers to the same held-out prompts as every other."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

from data_shards.read.entry import read_shard
from data_shards.shards.sample import Sample
from data_shards.shards.shard import Bad
from omni.generation.answer import answer
from omni.generation.settings import Generation
from omni.media.decode import MediaError
from omni.processing.messages import MessageError
from omni.processing.processor import PlaceholderError

HOW = Generation(max_new_tokens=48, stop=("\n\n",))


def held_out_answers(
    model: Any,
    processor: Any,
    shards: Mapping[str, Sequence[Path]],
    count: int,
    missing: list[str],
) -> list[dict[str, str]]:
    """Ask the first held-out samples of all sources in turn, as far as the model reads them.

    Args:
        model: in evaluation mode.
        processor: the one saved beside the model.
        shards: source -> its held-out shards.
        count: prompts at most.
        missing: what could not be read is added.

    Returns:
        source, sample ("shard:key"), prompt (media as `<image>`), expected and answer of each.
    """
    found = []
    for name, sample in _in_turn(shards, missing):
        if len(found) == count:
            break
        messages = sample.conversation()
        if messages[-1]["role"] != "assistant":
            continue
        prompt = messages[: next(n for n, m in enumerate(messages) if m["role"] == "assistant")]
        try:
            [text] = answer(model, processor, [prompt], HOW)
        except (MessageError, MediaError, PlaceholderError):
            continue  # of a modality that comes later
        found.append({
            "source": name, "sample": sample.where, "prompt": _shown(prompt),
            "expected": _shown(messages[len(prompt) : len(prompt) + 1]), "answer": text,
        })  # fmt: skip
    return found


def _in_turn(
    shards: Mapping[str, Sequence[Path]], missing: list[str]
) -> Iterator[tuple[str, Sample]]:
    """Yield one sample of each source, then another of each, and so on."""

    def damaged(bad: Bad) -> None:
        missing.append(f"held-out answers: {bad}")

    each = [
        ((name, sample) for path in paths for sample in read_shard(path, damaged))
        for name, paths in shards.items()
    ]
    for some in zip_longest(*each):
        yield from (one for one in some if one)


def _shown(messages: Sequence[Mapping[str, Any]]) -> str:
    parts = [part for message in messages for part in message["content"]]
    return " ".join(p["text"] if p["type"] == "text" else f"<{p['type']}>" for p in parts)
