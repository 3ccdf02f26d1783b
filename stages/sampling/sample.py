"""Answers of a checkpoint to the prompts of shards, written as shards."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain, islice
from pathlib import Path
from typing import Any, NamedTuple

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

from .mined import Judged, correlation
from .samples import SOURCE, Answer, Pairing, Prompt, equal, judge, samples_of


def sample_answers(
    checkpoints: Sequence[Path], folders: Sequence[Path], out: Path, generation: Generation,
    batch: int = 8, device: str = "cpu", pairing: Pairing = Pairing(),  # noqa: B008 - frozen
) -> dict[str, Any]:  # fmt: skip
    """Answer the train prompts of some folders of shards; return the manifest of `out`.

    Answers are written down batch by batch, so that a kill loses one. They follow from weights,
    prompts, seed and settings, which the manifest names, and not from the batch; what is at `out`
    is kept if it was made of the same, and replaced if it was sampled from something else.

    Args:
        checkpoints: of omni models; the answers of all of them to a prompt are put together, each
            with the seed after that of the one before it.
        folders: of shards.
        out: becomes a folder of shards, a sample for each of the `n` answers to a prompt, or what
            `pairing` makes of them.
        generation: how.
        batch: prompts that are answered at once.
        device: where the model runs.
        pairing: what answers become; see `samples_of`.

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
    asked = {"pairs": pairing.about, "prompts": {str(p): sha256(p) for p in shards}}
    miners = [
        _Miner(*load(checkpoint), replace(generation, seed=generation.seed + number))
        for number, checkpoint in enumerate(checkpoints)
    ]
    each = [miner.about | asked for miner in miners]
    request = {name: _together([one[name] for one in each]) for name in each[0]}
    if found:
        other = [name for name, value in request.items() if found.get(name, "") != value]
        if not other:
            return found
        print(f"{out}: sampled anew, as the answers there are of other {', '.join(other)}")
    skipped: dict[str, str] = {}
    files = [out.parent / f".{out.name}.answers" / f"{_digest(one)}.jsonl" for one in each]
    for miner, kept in zip(miners, files, strict=True):
        miner.model.to(device)
        _answer(miner, shards, batch, kept, skipped)
        miner.model.to("cpu")
    answers = _read_answers(files)
    if not answers:
        first = next(iter(skipped.items()), ("there", "are no samples"))
        raise ValueError(f"no prompt can be answered; {': '.join(first)}")
    manifest = _write(out, find_prompts(shards, skipped), answers, pairing, skipped, {
        **request, "checkpoint": _together([str(checkpoint) for checkpoint in checkpoints]),
    })  # fmt: skip
    for kept in files:
        kept.unlink()
    return manifest


class _Miner(NamedTuple):
    """A model that answers, and how."""

    model: Any
    processor: Any
    generation: Generation

    @property
    def about(self) -> dict[str, Any]:
        """Return what its answers follow from beside the prompts."""
        return {
            "source": SOURCE, "weights": weights_hash(self.model),
            "processor": self.processor.fingerprint, "generation": json.loads(self.generation.key),
        }  # fmt: skip


def _read_answers(files: Iterable[Path]) -> dict[str, list[Answer]]:
    """Return the answers to each prompt, file by file."""
    answers: dict[str, list[Answer]] = {}
    for line in chain.from_iterable(map(read_lines, files)):
        mine = (Answer(**one) for one in line["answers"])
        answers.setdefault(line["prompt"], []).extend(mine)
    return answers


def _digest(facts: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


def _together(values: Sequence[Any]) -> Any:
    """Return what all are, or all of them."""
    return values[0] if all(value == values[0] for value in values) else list(values)


def described(title: str, manifest: Mapping[str, Any]) -> list[str]:
    """Return lines about what was sampled."""
    left, count = manifest["skipped"], manifest["splits"]["train"]["samples"]
    figures = [f"{count} answers", f"{left['count']} prompts left out"]
    if mined := manifest.get("mined"):
        figures += [f"{mined['right']} prompts always right, {mined['wrong']} never",
                    f"length against rightness r = {_signed(mined['correlation'])}"]  # fmt: skip
    elif manifest.get("pairs"):
        figures.append(f"{manifest['equal']} equal to the real answer left out")
    return [f"{title}: {'; '.join(figures)}", *(f"  {reason}" for reason in left["first"])]


def _signed(value: float | None) -> str:
    return "n/a" if value is None else f"{value:+.2f}"


def _write(
    out: Path, found: Iterator[Prompt], answers: Mapping[str, Sequence[Answer]],
    pairing: Pairing, skipped: dict[str, str], about: dict[str, Any],
) -> dict[str, Any]:  # fmt: skip
    """Write what answers become as shards at `out`; return the manifest."""
    licenses: dict[str, str] = {}
    alike = written = 0
    judged: list[Judged] = []
    with ShardSet(out) as made:
        for prompt in found:
            given = answers.get(prompt.name, [])
            made_of = samples_of(prompt, given, pairing, skipped)
            if pairing.kind == "hard" and given and prompt.name not in skipped:
                judged.append(judge(prompt, given, pairing))
            for sample in made_of:
                licenses[sample.meta["of"]] = sample.meta["license"]
                made.add(sample)
                written += 1
            alike += sum(equal(prompt.real, answer) for answer in given)
        if judged:
            about |= {"mined": _mined(judged)}
        if not written and judged:
            raise ValueError(f"no pair can be made: of {len(judged)} prompts none is answered both "
                             "rightly and wrongly; raise n or the temperature")  # fmt: skip
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


def _mined(judged: Sequence[Judged]) -> dict[str, Any]:
    """Return how hard the prompts are, and how far length tells right answers to the mixed ones."""
    mixed = [one for one in judged if one.mixed]
    return {"mixed": len(mixed), "right": sum(not one.wrong for one in judged),
            "wrong": sum(not one.right for one in judged),
            "correlation": correlation(mixed)}  # fmt: skip


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
    miner: _Miner, shards: Sequence[Path], batch: int, kept: Path, skipped: dict[str, str]
) -> None:
    """Append the answers to the prompts that have none, batch by batch."""
    model, processor, generation = miner
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
