"""Answers of a checkpoint to the prompts of shards, written as shards."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from data_shards.read.entry import read_shard
from data_shards.shards.manifest import read_manifest, sha256
from data_shards.shards.sample import Sample
from data_shards.shards.shard import Bad, find_shards
from data_shards.shards.write import ShardSet
from data_shards.sources.base import facts
from omni.features.cache import weights_hash
from omni.files.jsonl import append_lines, read_lines
from omni.generation.answer import complete, prompts
from omni.generation.prefix import shares
from omni.generation.settings import Generation
from omni.load import load
from omni.media.decode import MediaError
from omni.processing.identity import identify
from omni.processing.messages import Message, MessageError, assistant, fill
from omni.processing.processor import PlaceholderError

SOURCE = "sample"


class Prompt(NamedTuple):
    """What is asked: a sample up to its last answer; `name` is "path:key"."""

    name: str
    messages: list[Message]
    sample: Sample

    def shown(self) -> list[Message]:
        """Return the messages with their media."""
        return fill(self.messages, self.sample.parts)


def sample_answers(
    checkpoint: Path, folders: Sequence[Path], out: Path, generation: Generation,
    batch: int = 8, device: str = "cpu",
) -> dict[str, Any]:  # fmt: skip
    """Answer the train prompts of some folders of shards; return the manifest of `out`.

    Answers are written down batch by batch, so that a kill loses one. They follow from weights,
    prompts, seed and settings, which the manifest names, and not from the batch; what is at `out`
    is kept if it was made of the same, and replaced if it was sampled from something else.

    Args:
        checkpoint: of an omni model.
        folders: of shards.
        out: becomes a folder of shards, a sample for each of the `n` answers to a prompt.
        generation: how.
        batch: prompts that are answered at once.
        device: where the model runs.

    Raises:
        CheckpointError: see `omni.load.load`.
        FileNotFoundError: a folder holds no shards.
        FileExistsError: `out` holds something else.
        ValueError: no prompt can be answered; names the first reason.
    """
    shards = [path for folder in folders for path in find_shards(folder)]
    found = read_manifest(out) if out.is_dir() else None
    if out.exists() and (found is None or found.get("source") != SOURCE) and any(out.iterdir()):
        raise FileExistsError(f"{out} holds something other than sampled answers; choose another")
    model, processor = load(checkpoint)
    request = {
        "source": SOURCE, "weights": weights_hash(model), "processor": processor.fingerprint,
        "generation": json.loads(generation.key), "prompts": {str(p): sha256(p) for p in shards},
    }  # fmt: skip
    if found and all(found.get(name) == value for name, value in request.items()):
        return found
    digest = hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()[:16]
    kept = out.parent / f".{out.name}.answers" / f"{digest}.jsonl"
    model.to(device)  # type: ignore[arg-type]
    skipped: dict[str, str] = {}
    _answer(model, processor, shards, generation, batch, kept, skipped)
    answers = {line["prompt"]: line["answers"] for line in read_lines(kept)}
    if not answers:
        first = next(iter(skipped.items()), ("there", "are no samples"))
        raise ValueError(f"no prompt can be answered; {': '.join(first)}")
    licenses: dict[str, str] = {}
    with ShardSet(out) as made:
        for prompt in _prompts(shards, skipped):
            for sample in _samples(prompt, answers.get(prompt.name, []), licenses):
                made.add(sample)
        manifest = made.commit({
            **request, "checkpoint": str(checkpoint), "licenses": licenses,
            "skipped": {"count": len(skipped), "first": [*map(": ".join, skipped.items())][:20]},
        })  # fmt: skip
    kept.unlink()
    return manifest


def _prompts(shards: Sequence[Path], skipped: dict[str, str]) -> Iterator[Prompt]:
    """Yield every prompt in order; what is none is named in `skipped`, with the reason."""

    def bad(one: Bad) -> None:
        skipped[f"{one.shard}:{one.key}"] = one.reason

    for path in shards:
        for sample in read_shard(path, bad):
            name, messages = f"{path}:{sample.key}", sample.messages
            while messages and messages[-1]["role"] == "assistant":
                messages = messages[:-1]
            if messages and messages[-1]["role"] == "user":
                yield Prompt(name, messages, sample)
            else:
                skipped[name] = "it asks nothing"


def _answer(
    model: Any, processor: Any, shards: Sequence[Path], generation: Generation, batch: int,
    kept: Path, skipped: dict[str, str],
) -> None:  # fmt: skip
    """Append the answers to the prompts that have none, batch by batch."""
    done = {line["prompt"] for line in read_lines(kept)}
    left = (prompt for prompt in _prompts(shards, skipped) if prompt.name not in done)
    usable = (prompt for prompt in left if _usable(processor, prompt, skipped))
    while some := [*islice(usable, batch)]:
        asked = [prompt.shown() for prompt in some]
        given = prompts(processor, asked, sharing=shares(model))
        keys = [identify(messages).whole for messages in asked]
        found = complete(model, processor, given, generation, keys=keys)
        each = [found[n : n + generation.n] for n in range(0, len(found), generation.n)]
        append_lines(kept, [
            {"prompt": prompt.name,
             "answers": [{"text": one.text, "finish": one.finish} for one in several]}
            for prompt, several in zip(some, each, strict=True)
        ])  # fmt: skip


def _usable(processor: Any, prompt: Prompt, skipped: dict[str, str]) -> bool:
    try:
        processor.encode(prompt.shown(), generation=True)
    except (MessageError, MediaError, PlaceholderError) as error:
        skipped[prompt.name] = str(error)
        return False
    return True


def _samples(
    prompt: Prompt, answers: Sequence[dict[str, str]], licenses: dict[str, str]
) -> Iterator[Sample]:
    """Yield a sample for each answer, with the media of its prompt."""
    meta, shown = prompt.sample.meta, {*_refs(prompt.messages)}
    licence, source = str(meta.get("license", "unknown")), str(meta.get("source", "unknown"))
    licenses[source] = licence
    parts = {name: data for name, data in prompt.sample.parts.items() if name in shown}
    for number, answer in enumerate(answers):
        more = {"prompt": prompt.name, "number": number, "finish": answer["finish"]}
        if "identity" in meta:
            more["identity"] = meta["identity"]
        about = facts(SOURCE, licence, "sampled", of=source, **more)
        yield Sample([*prompt.messages, assistant(answer["text"])], parts, about)


def _refs(messages: Sequence[Message]) -> Iterator[str]:
    for message in messages:
        yield from (part[part["type"]] for part in message["content"] if part["type"] != "text")
