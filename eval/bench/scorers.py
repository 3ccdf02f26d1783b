"""Each of the ten scored by VLMEvalKit's rules as its own functions do, and what differs."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from data_shards.bench.result import Result

from ..answering.answerer import Answerer
from ..benchmarks.image import IMAGE10
from ..benchmarks.vlmeval import RULES
from ..lmms.benchmark import Benchmark
from ..lmms.bridge import prepare
from ..lmms.official import Official
from ..minisuite.schema import SCHEMAS, write_parquet
from .kit import Kit
from .oracle import Oracle
from .styles import Style, styles

SMALL = 211  # styles of a benchmark in a quick run
NAMES = ("official", "VLMEvalKit")


def run(folder: Path, small: bool = False, checkout: Path | None = None) -> Result:
    """Score every style by our rules, by a checkout's functions and by the official code.

    Args:
        folder: to work in.
        small: about two hundred styles of each benchmark, not all.
        checkout: of VLMEvalKit; nothing of it is part of this package.

    Raises:
        FileNotFoundError: there is no checkout.
    """
    if checkout is None:
        raise FileNotFoundError("name a checkout of VLMEvalKit: `omni-eval bench scorers DIR`")
    prepare()
    kit, rows, figures = Kit(checkout), [], {}
    for benchmark in IMAGE10:
        asked = styles(benchmark.name)
        asked = asked[:: max(1, len(asked) // SMALL)] if small else asked
        ours = [RULES[benchmark.name](_row(benchmark, k, s), s.answer) for k, s in enumerate(asked)]
        theirs = [
            kit.points(benchmark.name, _row(benchmark, k, s), s.answer) for k, s in enumerate(asked)
        ]
        official = official_points(benchmark, asked, folder / benchmark.name)
        agree = np.isclose(ours, theirs).tolist()
        figures[benchmark.name] = {
            "styles": len(asked),
            "as_vlmevalkit": sum(agree),
            "unlike": [s.answer for s, same in zip(asked, agree, strict=True) if not same][:8],
            "official_differs": int((~np.isclose(official, theirs)).sum()),
        }
        rows += differences(benchmark.title, asked, official, theirs, agree)
    ok = all(f["as_vlmevalkit"] == f["styles"] >= 200 for f in figures.values())
    return Result(ok, figures, rows)


def differences(
    title: str,
    asked: Sequence[Style],
    official: Sequence[float],
    theirs: Sequence[float],
    agree: Sequence[bool],
) -> list[dict[str, Any]]:
    """A line for all styles of a benchmark, and one for each form on which the two differ."""
    lines = [_line(title, "all", asked, agree, "", "")]
    by_form: dict[str, list[int]] = defaultdict(list)
    for k, style in enumerate(asked):
        if not np.isclose(official[k], theirs[k]):
            by_form[style.form].append(k)
    for form, places in by_form.items():
        right = [
            sum((points[k] > 0) == asked[k].right for k in places) for points in (official, theirs)
        ]
        who = ", ".join(f"{name} {n}" for name, n in zip(NAMES, right, strict=True) if n)
        some = [asked[k] for k in places]
        same = [agree[k] for k in places]
        lines.append(_line(title, form, some, same, some[0].answer, who))
    return lines


def _line(
    title: str, form: str, asked: Sequence[Style], agree: Sequence[bool], example: str, who: str
) -> dict[str, Any]:
    return {
        "benchmark": title, "form": form, "answers": len(asked),
        "as VLMEvalKit": f"{sum(agree)} of {len(agree)}",
        "official differs, for example": repr(example) if who else "", "right": who,
    }  # fmt: skip


def official_points(benchmark: Benchmark, asked: Sequence[Style], folder: Path) -> list[float]:
    """What the row itself gives each answer, 0-1, through lmms-eval."""
    folder.mkdir(parents=True, exist_ok=True)
    picture = folder / "picture.png"
    Image.new("RGB", (8, 8)).save(picture)
    data, rows = picture.read_bytes(), []
    for k, style in enumerate(asked):
        kinds = SCHEMAS[benchmark.name].items()
        images = {name: data for name, kind in kinds if kind == "image"}
        images |= {name: [data] for name, kind in kinds if kind == ["image"]}
        rows.append(_row(benchmark, k, style) | images)
    file = write_parquet(benchmark.name, rows, folder / "rows.parquet")

    def answer(doc: dict[str, Any]) -> str:
        return asked[int(doc["question"].split("#")[1].split()[0])].answer

    row = Official(benchmark.name, replace(benchmark, truth=answer), lambda *_: [file])
    oracle = Oracle([row], None, folder)
    scored = row.run(Answerer(oracle, lambda messages: 1), None, "normal", None, folder / "work")
    return [outcome.correct for outcome in scored.outcomes]


def _row(benchmark: Benchmark, number: int, style: Style) -> dict[str, Any]:
    """The doc of a style in the published schema, its number in the question."""
    question = f"<image 1> Which #{number}{style.doc.get('after', '')}"
    names = {"index": number, "figure_id": str(number), "id": f"validation_Art_{number}"}
    return {"question": question, **names, **style.doc}
