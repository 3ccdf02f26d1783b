"""The table of one result. JSON is the result itself."""

from collections.abc import Sequence
from typing import Any

from ..grid import Grid
from .mean import incomplete, unanswered, without_answer
from .second import with_second

HOW = {
    "official": "official, by the official code",
    "static": "static, by it without the judge that published numbers used",
    "judged": "judged, by it with the model that is named",
    "own": "own, as defined here",
}
COUNTED = {
    "unjudged": "answers that the judge did not read are wrong",
    "thought": "answers had thinking in them, which was removed",
    "cut": "answers were cut at the limit of new tokens",
    "shortened": "very long answers were scored without their middle",
    "unscorable": "answers that the official code fails over count as empty ones",
    "remarks": "questions were sent with pictures made smaller; rows.json says how",
}
"""what `details` list -> what is said of so many"""
HEAD = ("row", "score", "95 %", "n", "blind", "chance", "shuffled", "scored")


def grid(result: dict[str, Any]) -> Grid:
    """Every row with its controls, and the mean of the ten where they were asked for."""
    rows = [cells(row) for row in result["rows"]]
    mean, ruled = result.get("mean"), set()
    if mean:
        ruled = {len(rows) - 1}
        rows.append(mean_cells(mean))
    return with_second(Grid(list(HEAD), rows, notes(result), ruled), result["rows"])


def cells(row: dict[str, Any]) -> list[str]:
    """One line of text cells; why a row is missing stands in the notes."""
    name = row.get("title") or row["name"]
    if row["missing"]:
        return [name, "missing", "", "", "", "", "", row["how"]]
    controls = [
        f"{control.removeprefix('shuffled_')} {found['score']:.1f}"
        for control, found in row["controls"].items()
        if control != "blind"
    ]
    return [
        name,
        f"{row['score']:.1f}",
        f"{row['ci_low']:.1f}–{row['ci_high']:.1f}",
        count(row),
        number(row["blind"]),
        number(row["chance"]),
        ",\n".join(controls),
        row["how"],
    ]


def mean_cells(mean: dict[str, Any]) -> list[str]:
    """The line of the mean: a number, or why there is none."""
    if mean["score"] is None:
        return [f"mean of {mean['of']}", "–", "", "", "", "", "", mean["why"]]
    interval = "" if mean["ci_low"] is None else f"{mean['ci_low']:.2f}–{mean['ci_high']:.2f}"
    return [f"mean of {mean['of']}", f"{mean['score']:.2f}", interval, "", "", "", "", ""]


def notes(result: dict[str, Any]) -> list[str]:
    """What a reader must know beside the numbers."""
    notes = [f"Made on {result['images']}."]
    if any(row["name"].startswith("mini-") for row in result["rows"]):
        notes.append(
            "mini- rows are small sets of our own in the public schemas, scored by lmms-eval's own "
            "task code; they are not the benchmarks of that name and not comparable with them."
        )
    hows = {row["how"].partition(" ")[0] for row in result["rows"]}
    notes.append(
        f"scored: {'; '.join(text for how, text in HOW.items() if how in hows)}. blind: the images "
        "removed. shuffled: images or sounds of other things in their place. 95 %: bootstrap over "
        "questions, or over sets of them that belong together."
    )
    notes += [
        f"{row['name']} is missing: {row['missing']}" for row in result["rows"] if row["missing"]
    ]
    if rates := [r for r in result["rows"] if "wer" in r["details"]]:
        found = ", ".join(f"{row['name']} {row['details']['wer']:.0f} %" for row in rates)
        notes.append(f"Word error rate: {found}.")
    for row in result["rows"]:
        if "yes/no" in row["details"]:
            kinds = ", ".join(f"{k} {row['details'][k]:.0f}" for k in ("open", "yes/no"))
            notes.append(f"{row['name']} by type of question: {kinds} (yes/no by guessing: 50).")
    if result["limit"]:
        notes.append(f"Limited to {result['limit']} questions a row: not a full run.")
    notes += _generation(result)
    return [*notes, *_details(result["rows"])]


def _generation(result: dict[str, Any]) -> list[str]:
    """How the answers were generated, as far as the result says."""
    notes, sampling = [], result.get("sampling", {})
    if sampling.get("temperature"):
        drawn = {name: sampling[name] for name in ("temperature", "top_p", "seed")
                 if name in sampling}  # fmt: skip
        how = ", ".join(f"{name} {value}" for name, value in drawn.items())
        notes.append(f"Answers were drawn, not the likeliest taken: {how}.")
    if not (found := result.get("generation")):
        return notes
    stop = found["stop"]
    facts = [
        f"temperature {found['temperature']:g}",
        f"at most {found['max_new_tokens'] or _tokens(result['rows'])} new tokens",
        "no stop strings but a blank line in rows of our own" if stop is None
        else f"stop strings {', '.join(map(repr, stop))}",
        f"system prompt {found['system']!r}" if found["system"] else "no system prompt",
    ]  # fmt: skip
    named = ("max_new_tokens", "stop", "temperature", "top_p", "seed", "system")
    facts += [f"{name} {value}" for name, value in found.items() if name not in named]
    return [*notes, f"Generation: {', '.join(facts)}."]


def _tokens(rows: Sequence[dict[str, Any]]) -> str:
    """The limits of the rows, and of which: "16 (ChartQA), 128 (MMMU (val))"."""
    by_limit: dict[int, list[str]] = {}
    for row in rows:
        if most := row["details"].get("max_new_tokens"):
            by_limit.setdefault(most, []).append(row.get("title") or row["name"])
    if len(by_limit) == 1:
        return str(*by_limit)
    return ", ".join(f"{most} ({', '.join(names)})" for most, names in sorted(by_limit.items()))


def _details(rows: Sequence[dict[str, Any]]) -> list[str]:
    """What is special about the scorer or the docs of some rows; said once of all it is true of."""
    notes: dict[str, list[str]] = {}
    for row in rows:
        found, name = row["details"], row.get("title") or row["name"]
        texts = [found["rule"]] if found.get("rule") else []
        if other := found.get("against"):
            texts.append(
                f"{other['score']:+.1f} ({other['low']:+.1f} to {other['high']:+.1f}) against "
                f"{other['row']}, paired by {other['n']} units"
            )
        if left_out := found.get("left_out"):
            texts.append(f"{len(left_out)} docs left out; the first: {left_out[0]}")
        texts += [f"{len(found[kind])} {text}" for kind, text in COUNTED.items() if found.get(kind)]
        if unanswered(row):
            lines = [line.partition("\n")[0] for line in found.get("unreadable", ())]
            first = f"; the first: {lines[0]}" if lines else ""
            texts.append(
                f"{without_answer(row)} questions have no answer and count as wrong{first}"
            )
        texts += [
            f"{control['unanswered']} questions have no answer in the control "
            f"{condition.replace('_', ' ')}"
            for condition, control in row["controls"].items()
            if control.get("unanswered")
        ]
        texts += [
            f"{condition.replace('_', ' ')} on {control['n']} of {row['n']} questions, drawn with "
            "a seed"
            for condition, control in row["controls"].items()
            if control.get("n", row["n"]) < row["n"]
        ]
        if fewer := found.get("fewer"):
            texts.append(f"{fewer} questions or sets; the held-out pictures are too few for more")
        if official := found.get("official_max_new_tokens"):
            texts.append(
                f"answers end after {found['max_new_tokens']} tokens, officially {official}"
            )
        for text in texts:
            notes.setdefault(text, []).append(name)
    texts = [f"{', '.join(names)}: {text}." for text, names in notes.items()]
    parts = incomplete(rows)
    return [*texts, f"Not whole benchmarks: {', '.join(parts)}."] if parts else texts


def number(value: float | None) -> str:
    """One decimal, or a dash where nothing was measured."""
    return "–" if value is None else f"{value:.1f}"


def count(row: dict[str, Any]) -> str:
    """n, and how many docs have no answer."""
    lost = f"\n({without_answer(row)} unanswered)" if unanswered(row) else ""
    return f"{row['n']}{lost}"
