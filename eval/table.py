"""The table of a result, for the terminal and as Markdown. JSON is the result itself."""

import io
from typing import Any

HEAD = ("row", "score", "95 %", "n", "blind", "chance", "swapped", "scored")


def cells(row: dict[str, Any]) -> list[str]:
    """One line of text cells; why a row is missing stands in the notes."""
    if row["missing"]:
        return [row["name"], "missing", "", "", "", "", "", row["how"]]
    controls = [
        f"{name.removeprefix('shuffled_')} {found['score']:.1f}"
        for name, found in row["controls"].items()
        if name != "blind"
    ]
    return [
        row["name"],
        f"{row['score']:.1f}",
        f"{row['ci_low']:.1f}–{row['ci_high']:.1f}",
        str(row["n"]),
        _number(row["blind"]),
        _number(row["chance"]),
        ", ".join(controls),
        row["how"],
    ]


def notes(result: dict[str, Any]) -> list[str]:
    """What a reader must know beside the numbers."""
    said = [f"Made on {result['images']}."]
    if any(row["name"].startswith("mini-") for row in result["rows"]):
        said.append(
            "mini- rows are small sets of our own in the public schemas, scored by lmms-eval's own "
            "task code; they are not the benchmarks of that name and not comparable with them."
        )
    said.append(
        "scored: official code; static, the official code without the judge that published numbers "
        "used; own, defined here. blind: the images removed. swapped: images or sounds of other "
        "things in their place."
    )
    said += [
        f"{row['name']} is missing: {row['missing']}" for row in result["rows"] if row["missing"]
    ]
    if rates := [r for r in result["rows"] if "wer" in r["details"]]:
        found = ", ".join(f"{row['name']} {row['details']['wer']:.0f} %" for row in rates)
        said.append(f"Word error rate: {found}.")
    for row in result["rows"]:
        if "yes/no" in row["details"]:
            kinds = ", ".join(f"{k} {row['details'][k]:.0f}" for k in ("open", "yes/no"))
            said.append(f"{row['name']} by type of question: {kinds} (yes/no by guessing: 50).")
    if result["limit"]:
        said.append(f"Limited to {result['limit']} questions a row: not a full run.")
    if result["problems"]:
        said.append(
            f"{len(result['problems'])} questions have no answer and count as wrong; the first: "
            f"{result['problems'][0]}."
        )
    if shortened := result.get("shortened"):
        said.append(f"{len(shortened)} very long answers were scored without their middle.")
    return said


def markdown(result: dict[str, Any]) -> str:
    """The table with its notes."""
    lines = ["| " + " | ".join(HEAD) + " |", "|" + "---|" * len(HEAD)]
    for row in result["rows"]:
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells(row)) + " |")
    return "\n".join([*lines, "", *notes(result), ""])


def rich_table(result: dict[str, Any]) -> Any:
    """A rich Table; print it on a console."""
    from rich import box
    from rich.table import Table

    caption = "\n".join(notes(result))
    table = Table(
        box=box.SIMPLE_HEAD,
        collapse_padding=True,
        pad_edge=False,
        caption=caption,
        caption_justify="left",
    )
    for name in HEAD:
        right = name in ("score", "95 %", "n", "blind", "chance")
        table.add_column(name, justify="right" if right else "left", no_wrap=name != "swapped")
    for row in result["rows"]:
        *numbers, swapped, how = cells(row)
        table.add_row(*numbers, swapped.replace(", ", "\n"), how)
    return table


def terminal(result: dict[str, Any], width: int = 110) -> str:
    """The table as plain text."""
    from rich.console import Console

    buffer = io.StringIO()
    Console(file=buffer, width=width, no_color=True).print(rich_table(result))
    return buffer.getvalue()


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f}"
