"""The model card of a checkpoint: its parts and data with their licences, stages and scores."""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..files.atomic import write_text

FILE = "README.md"
_OURS = "<!-- written by omni-stages from config.json -->"
_TEMPLATE = "This model card has been automatically generated."  # transformers', which says nothing
PROJECTOR = ".projector"  # after the name of a modality, of a projector with weights of its own
_USE = """\
```python
from transformers import AutoModelForImageTextToText, AutoProcessor  # omni-stages is installed

model = AutoModelForImageTextToText.from_pretrained(FOLDER, trust_remote_code=True).eval()
processor = AutoProcessor.from_pretrained(FOLDER, trust_remote_code=True)
```
"""


def card(
    config: Mapping[str, Any], stages: Sequence[Mapping[str, Any]] = (),
    rows: Sequence[Mapping[str, Any]] = (),
) -> str:  # fmt: skip
    """Return the card as Markdown with a header in YAML.

    Args:
        config: of the checkpoint, as config.json has it: `parts`, `modalities`, `heads`.
        stages: facts of the stages that made it, as stage.json has them.
        rows: scores, as omni-eval's rows.json has them.
    """
    parts = config.get("parts") or {}
    data = {name: of for name, of in parts.items() if name.startswith("data.")}
    own = {name: of for name, of in parts.items() if name not in data}
    modalities = config.get("modalities") or {}
    kinds = modalities | (config.get("heads") or {})
    reads = ["text", *sorted(modalities)]
    sections = [
        _header(own), _OURS,
        f"# A model of {', '.join(reads)}\n\nA text LLM to which "
        f"{' and '.join(sorted(modalities)) or 'nothing'} is attached, made by omni-stages.", _USE,
        "## Parts\n\n" + _table(("part", "kind", "source", "licence"), (
            (name, _kind(name, kinds), of.get("source"), of.get("license"))
            for name, of in own.items()
        )),
    ]  # fmt: skip
    if data:
        sections.append("## Data\n\n" + _table(("data", "source", "licence"), (
            (name.removeprefix("data."), of.get("source"), of.get("license"))
            for name, of in data.items()
        )))  # fmt: skip
    if stages:
        sections.append("## Stages\n\n" + _table(("stage", "tokens", "last loss"), (
            (s.get("name"), f"{s.get('tokens', 0):,}", s.get("last_loss")) for s in stages
        )))  # fmt: skip
    if rows := [row for row in rows if row["score"] is not None]:
        sections.append(
            "## Scores\n\nPer cent, 95 % intervals; `blind` is without the picture or sound.\n\n"
            + _table(("row", "score", "interval", "n", "blind", "chance"), (
                (row["name"], row["score"], f"{row['ci_low']} to {row['ci_high']}", row["n"],
                 row["blind"], row["chance"]) for row in rows
            ))
        )  # fmt: skip
    return "\n\n".join(section.strip() for section in sections) + "\n"


def write_card(folder: Path, text: str) -> None:
    """Write the card into a checkpoint; one that somebody else wrote is left alone."""
    file = folder / FILE
    if file.is_file():
        there = file.read_text(encoding="utf-8", errors="replace")
        if _OURS not in there and _TEMPLATE not in there:
            return
    write_text(file, text)


def _header(parts: Mapping[str, Mapping[str, Any]]) -> str:
    """Say what a hub files the model under; licences that are not one are `other`."""
    licenses = {str(of.get("license")) for of in parts.values()}
    known = len(licenses) == 1 and re.fullmatch(r"[A-Za-z0-9][\w.-]*", next(iter(licenses)))
    named = known[0].lower() if known else "other"
    bases = [of["source"].removeprefix("hub:") for of in parts.values()
             if str(of.get("source")).startswith("hub:")]  # fmt: skip
    lines = ["---", f"license: {named}", "library_name: transformers",
             "tags:", "- omni-stages", "- custom_code"]  # fmt: skip
    lines += ["base_model:", *(f"- {base}" for base in bases)] if bases else []
    return "\n".join([*lines, "---"])


def _kind(name: str, kinds: Mapping[str, Any]) -> str:
    if name.endswith(PROJECTOR):
        spec = kinds.get(name.removesuffix(PROJECTOR))
        return f"projector {spec['projector']['kind']}" if spec else "projector"
    spec = kinds.get(name)
    if not spec:
        return "LLM"
    if "encoder" not in spec:
        return f"head {spec['kind']}"
    return f"encoder {spec['encoder']['kind']}, projector {spec['projector']['kind']}"


def _table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for row in rows:
        cells = ("–" if cell is None else str(cell).replace("|", "\\|") for cell in row)
        lines.append("| " + " | ".join(" ".join(cell.split()) for cell in cells) + " |")
    return "\n".join(lines)
