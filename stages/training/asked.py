"""What a model answers to the same held-out prompts inside stages and after them."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

from data_shards.read.entry import read_shard
from data_shards.remote.files import is_url
from data_shards.shards.sample import Sample
from data_shards.shards.shard import Bad, find_shards
from omni.generation.answer import answer
from omni.generation.settings import Generation
from omni.media.decode import MediaError
from omni.processing.messages import MessageError
from omni.processing.processor import PlaceholderError

from ..recipe.sampled import Sampled, source_of
from ..recipe.schema import Recipe

HOW = Generation(max_new_tokens=48, stop=("\n\n",))


def held_out_answers(
    recipe: Recipe, model: Any, processor: Any, missing: list[str]
) -> list[dict[str, str]]:
    """Ask the first held-out samples of all sources in turn, as far as the model reads them.

    Args:
        recipe: names the sources, and how many are asked.
        model: in evaluation mode.
        processor: the one saved beside the model.
        missing: what could not be read is added.

    Returns:
        source, sample ("shard:key"), prompt (media as `<image>`), expected and answer of each.
    """
    found = []
    for name, sample in _in_turn(heldout_shards(recipe, recipe.sources, []), missing):
        if len(found) == recipe.probes.answers:
            break
        messages = sample.conversation()
        if messages[-1]["role"] != "assistant":
            continue
        prompt = messages[: next(n for n, m in enumerate(messages) if m["role"] == "assistant")]
        try:
            [text] = answer(model, processor, [prompt], HOW)
        except MessageError:
            continue  # of a modality that comes later
        except (MediaError, PlaceholderError) as error:
            missing.append(f"held-out answers: {sample.where}: {error}")
            continue
        found.append({
            "source": name, "sample": sample.where, "prompt": _shown(prompt),
            "expected": _shown(messages[len(prompt) : len(prompt) + 1]), "answer": text,
        })  # fmt: skip
    return found


def show_answers(answers: Iterable[Mapping[str, str]]) -> None:
    """Print a line for each."""
    for one in answers:
        print(f"  {one['prompt']} -> {one['answer']!r}, expected {one['expected']!r}", flush=True)


def heldout_shards(
    recipe: Recipe, sources: Iterable[str], missing: list[str]
) -> dict[str, list[Path]]:
    """Find the held-out shards beside the train shards of some sources."""
    found = {}
    for name in sources:
        source = source_of(recipe.sources[name])
        given = [] if isinstance(source, Sampled) else source  # its answers are to train on
        local = [pattern for pattern in given if not is_url(pattern)]
        folders = sorted({path.parent for path in find_shards(local)}) if local else []
        found[name] = [
            shard for folder in folders for shard in sorted(folder.glob("heldout-*.tar"))
        ]
        if not found[name]:
            missing.append(f"source {name!r} has no heldout-*.tar beside its shards on this disk")
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
