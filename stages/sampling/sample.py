"""Answers of a checkpoint to the prompts of shards, written as shards."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from data_shards.read.entry import read_shard
from data_shards.shards.manifest import read_manifest, sha256
from data_shards.shards.shard import Bad, find_shards
from data_shards.shards.write import ShardSet
from omni.features.cache import weights_hash
from omni.files.jsonl import append_lines, read_lines
from omni.generation.answer import complete, prompts
from omni.generation.prefix import shares
from omni.generation.settings import Generation
from omni.load import load
from omni.media.decode import MediaError
from omni.processing.identity import identify
from omni.processing.messages import MessageError
from omni.processing.processor import PlaceholderError

from .samples import SOURCE, Answer, Prompt, equal, samples_of


def sample_answers(
    checkpoint: Path, folders: Sequence[Path], out: Path, generation: Generation,
    batch: int = 8, device: str = "cpu", pairs: str = "",
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
        pairs: "spin": each answer beside the real one, as a preference; see `samples_of`.

    Raises:
        CheckpointError: see `omni.load.load`.
        FileNotFoundError: a folder holds no shards.
        FileExistsError: `out` holds something else.
        ValueError: no prompt can be answered, which names the first reason; or every answer equals
            the real one.
    """
    shards = [path for folder in folders for path in find_shards(folder)]
    found = read_manifest(out) if out.is_dir() else None
    if out.exists() and (found is None or found.get("source") != SOURCE) and any(out.iterdir()):
        raise FileExistsError(f"{out} holds something other than sampled answers; choose another")
    model, processor = load(checkpoint)
    request = {
        "source": SOURCE, "weights": weights_hash(model), "processor": processor.fingerprint,
        "generation": json.loads(generation.key), "pairs": pairs,
        "prompts": {str(p): sha256(p) for p in shards},
    }  # fmt: skip
    if found:
        other = [name for name, value in request.items() if found.get(name, "") != value]
        if not other:
            return found
        print(f"{out}: sampled anew, as the answers there are of other {', '.join(other)}")
    digest = hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()[:16]
    kept = out.parent / f".{out.name}.answers" / f"{digest}.jsonl"
    model.to(device)  # type: ignore[arg-type]
    skipped: dict[str, str] = {}
    _answer(model, processor, shards, generation, batch, kept, skipped)
    answers = {line["prompt"]: [Answer(**one) for one in line["answers"]]
               for line in read_lines(kept)}  # fmt: skip
    if not answers:
        first = next(iter(skipped.items()), ("there", "are no samples"))
        raise ValueError(f"no prompt can be answered; {': '.join(first)}")
    manifest = _write(out, find_prompts(shards, skipped), answers, pairs, skipped, {
        **request, "checkpoint": str(checkpoint),
    })  # fmt: skip
    kept.unlink()
    return manifest


def described(title: str, manifest: Mapping[str, Any]) -> list[str]:
    """Return lines about what was sampled."""
    left, count = manifest["skipped"], manifest["splits"]["train"]["samples"]
    figures = [f"{count} answers", f"{left['count']} prompts left out"]
    if manifest.get("pairs"):
        figures.append(f"{manifest['equal']} equal to the real answer left out")
    return [f"{title}: {'; '.join(figures)}", *(f"  {reason}" for reason in left["first"])]


def _write(
    out: Path, found: Iterator[Prompt], answers: Mapping[str, Sequence[Answer]], pairs: str,
    skipped: dict[str, str], about: dict[str, Any],
) -> dict[str, Any]:  # fmt: skip
    """Write what answers become as shards at `out`; return the manifest."""
    licenses: dict[str, str] = {}
    alike = written = 0
    with ShardSet(out) as made:
        for prompt in found:
            given = answers.get(prompt.name, [])
            for sample in samples_of(prompt, given, pairs, skipped):
                licenses[sample.meta["of"]] = sample.meta["license"]
                made.add(sample)
                written += 1
            alike += sum(equal(prompt.real, answer) for answer in given)
        if not written:
            first = "".join(f"; {name}: {reason}" for name, reason in islice(skipped.items(), 1))
            raise ValueError(
                f"no pair can be made: {alike} answers equal the real ones, and {len(skipped)} "
                f"prompts are left out{first}"
            )
        return made.commit({
            **about, "licenses": licenses, "equal": alike,
            "skipped": {"count": len(skipped), "first": [*map(": ".join, skipped.items())][:20]},
        })  # fmt: skip


def find_prompts(shards: Sequence[Path], skipped: dict[str, str]) -> Iterator[Prompt]:
    """Yield every prompt in order; what is none is named in `skipped`, with the reason."""

    def bad(one: Bad) -> None:
        skipped[f"{one.shard}:{one.key}"] = one.reason

    for path in shards:
        for sample in read_shard(path, bad):
            name, messages = f"{path}:{sample.key}", sample.messages
            while messages and messages[-1]["role"] == "assistant":
                messages = messages[:-1]
            if messages and messages[-1]["role"] == "user":
                yield Prompt(name, messages, sample.messages[len(messages) :], sample)
            else:
                skipped[name] = "it asks nothing"


def _answer(
    model: Any, processor: Any, shards: Sequence[Path], generation: Generation, batch: int,
    kept: Path, skipped: dict[str, str],
) -> None:  # fmt: skip
    """Append the answers to the prompts that have none, batch by batch."""
    done = {line["prompt"] for line in read_lines(kept)}
    left = (prompt for prompt in find_prompts(shards, skipped) if prompt.name not in done)
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
