"""What the stages and the mixtures are for, on the demo's own parts, scored on held-out data.

Each comparison changes one thing of the same short recipe: pictures and words are aligned, then
the LLM learns with them. Every arm runs the commands that users run, in processes of their own.
"""

import json
import statistics
import subprocess
import sys
from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from data_shards.bench.result import Result

from ..training.checkpoint import DONE

PICTURES = ("--variants", "1", "--turns", "2", "--kinds", "category,caption")
WORDS = ("--text", "words", "--renditions", "8")
SETS = {  # folder -> source and options
    "both": ("pictures", *PICTURES),
    "drawings": ("stamps", *PICTURES),
    "voices": ("speech", *WORDS),
    # hibari alone trains: the others are the ones that are held out, as among all of them
    "voice": ("speech", *WORDS, "--voices", "hibari,pico:en-GB,flite:slt"),
    "photos": ("photos",),
}
ASKED = ("both", "voices", "photos")  # whose held-out part the rows ask about
ROWS = ("category", "spoken_word", "photos_category")
TRIAL = 4  # steps that tell what one takes
STEPS = {"vision_align": 60, "audio_align": 60, "sft": 12}
NEAR_T = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571}  # 97.5 % of Student's t; then 2.5


class Arm(NamedTuple):
    """A way to train: on which sets, and in which stages."""

    images: str = "both"
    words: str = "voices"
    stages: tuple[str, ...] = ("vision_align", "audio_align", "sft")
    as_long_as: str = ""
    """an arm whose seconds it is given"""


ARMS = {
    "staged": Arm(),
    "joint": Arm(stages=("sft",), as_long_as="staged"),
    "sft alone": Arm(stages=("sft",)),
    "one voice": Arm(words="voice"),
    "drawings": Arm(images="drawings"),
}
COMPARISONS = {  # what is asked -> the better arm by our claim, the other, the row
    "staged, joint at equal compute: pictures": ("staged", "joint", "category"),
    "staged, joint at equal compute: words": ("staged", "joint", "spoken_word"),
    "aligned first, as many steps of sft alone: pictures": ("staged", "sft alone", "category"),
    "aligned first, as many steps of sft alone: words": ("staged", "sft alone", "spoken_word"),
    "seven voices, one: unseen voices": ("staged", "one voice", "spoken_word"),
    "drawings and emoji, drawings: photographs": ("staged", "drawings", "photos_category"),
}
CLAIMED = [q for q, (_, other, _) in COMPARISONS.items() if other in ("joint", "sft alone")]


def run(folder: Path, small: bool = False, seeds: int = 1) -> Result:
    """Train and score every arm with every seed; about 20 minutes a seed on two cores.

    The promise is that alignment pays: staged before joint training and before sft alone. What
    voices and emoji do is told, whatever it is.

    Args:
        folder: for shards and runs; parts of wheels are kept in the cache of this machine.
        small: two steps a stage and four questions a row, which show nothing.
        seeds: each gives another order of the samples and other new weights.
    """
    for name, (source, *options) in SETS.items():
        _command("omni-shards", "build", source, "--out", folder / "data" / name, *options)
    scores: dict[str, list[dict[str, float]]] = {name: [] for name in ARMS}
    for seed in range(seeds):
        spent: dict[str, float] = {}
        for name, arm in ARMS.items():
            run_folder = folder / f"{name.replace(' ', '_')}-{seed}"
            spent[name] = _train(folder, run_folder, arm, seed, small, spent)
            scores[name].append(_score(folder, run_folder, small))
    rows = [_compared(question, *sides, scores) for question, sides in COMPARISONS.items()]
    figures = {"seeds": seeds, "arms": {name: _means(found) for name, found in scores.items()}}
    pays = all(row["difference"] > 0 for row in rows if row["question"] in CLAIMED)
    return Result(small or pays, figures, rows)


def _train(
    folder: Path, target: Path, arm: Arm, seed: int, small: bool, spent: dict[str, float]
) -> float:
    """Train an arm and return the seconds of its stages."""
    steps = dict.fromkeys(STEPS, 2) if small else dict(STEPS)
    if arm.as_long_as and not small:
        trial = _recipe(folder, target.with_name(f"{target.name}-trial"), arm, seed)
        pace = _timed(trial, dict.fromkeys(STEPS, TRIAL)) / TRIAL
        steps["sft"] = max(1, round(spent[arm.as_long_as] / pace))
    return _timed(_recipe(folder, target, arm, seed), steps)


def _timed(recipe: dict[str, Any], steps: dict[str, int]) -> float:
    for stage in recipe["stages"]:
        stage["steps"] = steps[stage["name"]]
    target = Path(recipe["output"])
    path = Path(f"{target}.yaml")
    path.write_text(yaml.safe_dump(recipe, sort_keys=False))
    _command("omni-train", path)
    done = [json.loads((target / s["name"] / DONE).read_text()) for s in recipe["stages"]]
    return sum(stage["seconds"] for stage in done)


def _recipe(folder: Path, target: Path, arm: Arm, seed: int) -> dict[str, Any]:
    """Return the recipe of an arm: the quickstart's parts, in these stages, without steps."""
    from ..recipe.read import load_recipe

    attached = {s.name: deepcopy(s.attach) for s in load_recipe("quickstart").stages if s.attach}
    align = {
        "vision_align": ("projectors.vision", {"images": 1}, 32),
        "audio_align": ("projectors.audio", {"words": 1}, 32),
    }
    stages: list[dict[str, Any]] = []
    for name in arm.stages:
        if name in align:
            pattern, mixture, batch = align[name]
            stages.append({"name": name, "attach": attached[name], "objective": "align",
                           "trainable": {pattern: 1e-3},
                           "data": {"mixture": mixture, "batch_size": batch}})  # fmt: skip
        else:
            stages.append({"name": "sft", "trainable": {"projectors": 3e-4},
                           "lora": {"language_model": {"r": 32, "alpha": 64, "lr": 1e-3}},
                           "data": {"mixture": {"images": 0.5, "words": 0.5},
                                    "batch_size": 24}})  # fmt: skip
    if len(arm.stages) == 1:  # nothing was attached before
        stages[0]["attach"] = {kind: spec for each in attached.values() for kind, spec in
                               each.items()}  # fmt: skip
        stages[0]["trainable"] = {"projectors": 1e-3}
    sources = {
        "images": [str(folder / "data" / arm.images / "train-*.tar")],
        "words": [str(folder / "data" / arm.words / "train-*.tar")],
    }
    return {"output": str(target), "seed": seed, "text": load_recipe("quickstart").text,
            "feature_cache_mb": 400, "sources": sources, "stages": stages}  # fmt: skip


def _score(folder: Path, target: Path, small: bool) -> dict[str, float]:
    """Return the score of each row; all arms are asked the same."""
    asked = folder / "asked"
    asked.mkdir(exist_ok=True)
    for name in ASKED:
        if not (asked / name).exists():
            (asked / name).symlink_to(folder / "data" / name)
    out = target / "eval"
    _command(
        "omni-eval", target / "sft", "--suite", "mini", "--data", asked, "--out", out,
        "--rows", ",".join(ROWS), "--no-controls", "--limit", "4" if small else "100",
    )  # fmt: skip
    rows = json.loads((out / "rows.json").read_text())["rows"]
    return {row["name"]: row["score"] for row in rows if row["score"] is not None}


def _compared(
    question: str, first: str, second: str, row: str, scores: dict[str, list[dict[str, float]]]
) -> dict[str, Any]:
    """Return a line of the table: means over the seeds, and the interval of their difference."""
    pairs = [(a[row], b[row]) for a, b in zip(scores[first], scores[second], strict=True)]
    differences = [a - b for a, b in pairs]
    line = {"question": question, "row": row, "first": _mean([a for a, _ in pairs]),
            "second": _mean([b for _, b in pairs]), "difference": _mean(differences)}  # fmt: skip
    line["95 %"] = "one seed"
    if len(differences) > 1:
        error = statistics.stdev(differences) / len(differences) ** 0.5
        half = NEAR_T.get(len(differences) - 1, 2.5) * error
        line["95 %"] = f"{line['difference'] - half:.1f} to {line['difference'] + half:.1f}"
    return line


def _means(found: list[dict[str, float]]) -> dict[str, float]:
    return {row: _mean([scores[row] for scores in found]) for row in ROWS}


def _mean(values: Sequence[float]) -> float:
    return round(statistics.mean(values), 1)


def _command(name: str, *words: object) -> None:
    """Run a command of this project, its output going to stderr.

    Raises:
        RuntimeError: it failed; says which.
    """
    command = [str(Path(sys.executable).with_name(name)), *map(str, words)]
    if subprocess.run(command, stdout=sys.stderr).returncode:
        raise RuntimeError(f"failed: {' '.join(command)}")
