"""Held-out data of one's own: any shards, a row for each source that they hold."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from data_shards.read.entry import Bad, read_shard
from omni.processing.messages import bind, media_refs

from ..rows.heldout import TRANSCRIPTS, digest_of, prompt_and_expected
from ..rows.own import Doc, MissingDataError, Own
from ..scoring.right import Outcome, Scored
from .scores import fitting_score, named_score

FEWEST, MOST = 32, 512  # new tokens
CONTROLS = {
    "image": ("blind", "shuffled_images"),
    "video": ("blind",),
    "audio": ("shuffled_audio",),
}


@dataclass
class Mine:
    """Docs by source, and what was left out of each and why."""

    docs: dict[str, list[Doc]] = field(default_factory=dict)
    left_out: dict[str, list[str]] = field(default_factory=dict)
    spoken: set[str] = field(default_factory=set)
    digest: str = ""
    label: str = ""


def shards_of(path: Path) -> list[Path]:
    """A shard; or of a folder heldout-*.tar, and where there is none every shard below it.

    Raises:
        FileNotFoundError: there is none.
    """
    if path.is_file():
        return [path]
    every = sorted(file for file in path.rglob("*.tar") if not _hidden(file.relative_to(path)))
    if not every:
        raise FileNotFoundError(f"{path}: no shard (.tar) here or below; see `omni-shards build`")
    return [file for file in every if file.name.startswith("heldout-")] or every


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def load_mine(path: Path) -> Mine:
    """Read every sample of a path's shards; their media stay in memory.

    Raises:
        FileNotFoundError: see `shards_of`.
    """
    shards = shards_of(path)
    mine, bad = Mine(digest=digest_of(shards)), list[Bad]()
    for shard in shards:
        for sample in read_shard(shard, bad.append):
            source = str(sample.meta.get("source") or shard.parent.name).replace(",", " ")
            try:
                doc = _doc(sample, f"{shard.relative_to(_root(path))}:{sample.key}")
            except ValueError as error:
                mine.left_out.setdefault(source, []).append(str(error))
                continue
            mine.docs.setdefault(source, []).append(doc)
            if sample.meta.get("kind") in TRANSCRIPTS:
                mine.spoken.add(source)
        for reason in bad:
            mine.left_out.setdefault(shard.parent.name, []).append(str(reason))
        bad.clear()
    number = sum(map(len, mine.docs.values()))
    held = all(shard.name.startswith("heldout-") for shard in shards)
    kind = "held-out samples" if held else "samples, which are NOT marked as held out,"
    mine.label = f"{number} {kind} of {path}"
    return mine


def _root(path: Path) -> Path:
    return path.parent if path.is_file() else path


def _doc(sample: Any, name: str) -> Doc:
    """What is asked is all before the last answer. Raises ValueError where there is none."""
    prompt, expected = prompt_and_expected(sample)
    if not expected.strip():
        raise ValueError(f"{sample.key}: the last answer has no text")
    asked = [turn for turn in prompt if turn["role"] == "user"][-1:]
    question = " ".join(
        part["text"] for turn in asked for part in turn["content"] if part["type"] == "text"
    )
    identities = {kind: _identity(sample, prompt, kind) for kind in ("image", "audio")}
    return Doc(
        name, bind(prompt, sample.parts), question.strip(), expected,
        image_identity=identities["image"], audio_identity=identities["audio"],
    )  # fmt: skip


def _identity(sample: Any, prompt: list[Any], kind: str) -> str:
    """What may not stand in for a sample's media: the same thing, or the same bytes."""
    if kind == "image" and (named := sample.meta.get("identity")):
        return str(named)
    whole = hashlib.sha256()
    for found, ref in media_refs(prompt):
        if found == kind:
            whole.update(sample.parts[ref])
    return whole.hexdigest()


def rows_of(mine: Mine, scores: str = "") -> tuple[Own, ...]:
    """A row for each source, by name.

    Args:
        scores: of `--score`: one for all, or SOURCE=SCORE with commas in between.

    Raises:
        ValueError: no such score or source; MissingDataError: nothing can be asked.
    """
    if not mine.docs:
        reasons = [reason for some in mine.left_out.values() for reason in some]
        raise MissingDataError(f"{mine.label}: nothing can be asked: {(reasons or ['empty'])[0]}")
    wanted = _wanted(scores, mine)
    return tuple(_row(mine, source, wanted.get(source, "")) for source in sorted(mine.docs))


def _wanted(scores: str, mine: Mine) -> Mapping[str, str]:
    parts = [part.strip() for part in scores.split(",") if part.strip()]
    if len(parts) == 1 and "=" not in parts[0]:
        return dict.fromkeys(mine.docs, parts[0])
    wanted = {source: score for source, _, score in (part.rpartition("=") for part in parts)}
    if unknown := [source for source in wanted if source not in mine.docs]:
        raise ValueError(f"--score: no source {unknown[0]!r}; there is {', '.join(mine.docs)}")
    return wanted


def _row(mine: Mine, source: str, name: str) -> Own:
    docs = mine.docs[source]
    expected = [doc.expected for doc in docs]
    name = name or fitting_score(
        [doc.question for doc in docs], expected, transcripts=source in mine.spoken
    )
    kinds = {kind for doc in docs for kind, _ in media_refs(doc.messages)}
    controls = tuple(control for kind in CONTROLS if kind in kinds for control in CONTROLS[kind])
    return Own(
        source, lambda _: docs, _with_left_out(named_score(name), mine.left_out.get(source, [])),
        tuple(dict.fromkeys(controls)), min(MOST, max(FEWEST, *map(len, expected))),
        how=f"own ({name})",
    )  # fmt: skip


def _with_left_out(
    score: Callable[[list[Outcome]], Scored], left_out: list[str]
) -> Callable[[list[Outcome]], Scored]:
    def both(outcomes: list[Outcome]) -> Scored:
        scored = score(outcomes)
        if left_out:
            scored.details["left_out"] = left_out
        return scored

    return both
