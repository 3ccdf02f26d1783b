"""The command `omni-shards`: build sets of shards, look at them, and check them."""

import json
import os
import sys
from importlib.metadata import entry_points
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console
from rich.progress import DownloadColumn, MofNCompleteColumn, Progress
from rich.table import Table

from omni.serve.command import announce

from .bench.result import Name, Small
from .cli_build import build_app, console, fail, merge

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="rich",
    help="Build, inspect and check tar shards of conversations with images and audio.\n\n"
    "[bold]Example[/]\n\n"
    "  omni-shards build shapes --out data/shapes\n\n"
    "  omni-shards preview data/shapes --out sheet.html",
)
app.add_typer(build_app, name="build")
app.command()(merge)
Folder = Annotated[
    Path, typer.Argument(help="folder of a set of shards", exists=True, file_okay=False)
]


@app.command()
def index(
    folder: Folder,
    jobs: Annotated[int, typer.Option(min=0, help="processes that scan; 0: one per core")] = 0,
    check: Annotated[bool, typer.Option(help="read every shard again, changed or not")] = False,
) -> None:
    """Index the shards of a folder, so that any sample is one read and its cost is known.

    Only new and changed shards are read. Writes .data_shards/, and a .tar.idx beside each whole
    shard for Megatron-Energon. Damage is listed and passed over; `verify` fails on it.

    Example: omni-shards index data/shapes
    """
    from .index.index import build_index

    try:
        columns = (*Progress.get_default_columns(), DownloadColumn())
        with Progress(*columns, console=console, transient=True) as bar:
            task = bar.add_task("scanning", total=None)

            def tell(done: int, total: int) -> None:
                bar.update(task, completed=done, total=total)

            side = build_index(folder, jobs or os.cpu_count() or 1, check, tell)
    except (ValueError, OSError) as error:
        raise fail(error) from error
    for bad in side.bad:
        print(f"bad: {bad}")
    size = sum(table.nbytes for table in (side.samples, side.parts, side.keys))
    print(
        f"{side.home}: {len(side.samples):,} samples in {len(side.shards):,} shards, "
        f"{len(side.bad):,} bad; tables of {size / 1e6:.1f} MB"
    )


@app.command()
def info(folder: Folder) -> None:
    """Say what a set of shards holds: samples by split and kind, media, licences, sizes.

    Example: omni-shards info data/shapes
    """
    from .index.index import build_index
    from .shards.manifest import read_manifest

    try:
        manifest = read_manifest(folder) or {}
        side = build_index(folder)
    except (ValueError, OSError) as error:
        raise fail(error) from error
    size = sum(shard.bytes for shard in side.shards)
    origin = "no manifest.json"
    if manifest:
        origin = f"source {manifest.get('source')}, seed {manifest.get('seed')}"
    print(f"{folder}: {origin}, {len(side.shards)} shards, {size / 1e6:.1f} MB")
    table = Table("split", "kind", "samples")
    for split, found in manifest.get("splits", {}).items():
        for kind, count in found["kinds"].items():
            table.add_row(split, kind, f"{count:,}")
    if not manifest:
        table.add_row("all", "", f"{len(side.samples):,}")
    Console().print(table)
    for line in side.summary():
        print(line)
    for name, value in manifest.get("options", {}).items():
        print(f"option {name}: {value}")
    for name, path in manifest.get("paths", {}).items():
        print(f"{name} was read from {path}")
    for name, licence in manifest.get("licenses", {}).items():
        print(f"licence of {name}: {licence}")
    if manifest:
        print(
            f"{len(manifest['heldout_identities'])} identities held out, "
            f"{manifest.get('skipped', {}).get('count', 0)} inputs skipped"
        )
    for bad in side.bad[:10]:
        print(f"bad: {bad}")
    if len(side.bad) > 10:
        print(f"{len(side.bad) - 10:,} more bad: omni-shards index {folder}")


@app.command()
def preview(
    folder: Folder,
    out: Annotated[Path, typer.Option(help="the sheet, .html or .png")],
    count: Annotated[int, typer.Option(min=1, help="about how many samples")] = 24,
) -> None:
    """Render samples of every kind to one self-contained HTML page or PNG sheet.

    Example: omni-shards preview data/shapes --out sheet.html
    """
    from .preview import choose, write_preview

    try:
        samples = choose(folder, count)
        write_preview(samples, out)
    except (ValueError, OSError) as error:
        raise fail(error) from error
    print(f"{out}: {len(samples)} samples")


@app.command()
def verify(folder: Folder) -> None:
    """Read everything again: checksums, headers, json, all media, the split. Exit code 1 if bad.

    Checks against manifest.json and the index, whichever there are. What shards of other makers
    lack beside them is said and not counted as bad.

    Example: omni-shards verify data/shapes
    """
    from .shards.manifest import read_manifest
    from .verify import verify as check

    good, bad, notes = 0, 0, []
    try:
        listed = (read_manifest(folder) or {"shards": {}})["shards"].values()
        columns = (*Progress.get_default_columns(), MofNCompleteColumn())
        with Progress(*columns, console=console, transient=True) as bar:
            task = bar.add_task("verifying", total=sum(s["samples"] for s in listed) or None)

            def count(_: object) -> None:
                nonlocal good
                good += 1
                bar.update(task, advance=1)

            for found in check(folder, count, notes.append):
                bad += 1
                print(f"bad: {found}", file=sys.stdout)
    except (ValueError, OSError) as error:
        raise fail(error) from error
    for line in notes:
        print(f"note: {line}")
    print(f"{folder}: {good:,} samples good, {bad:,} problems")
    if bad:
        raise typer.Exit(1)


@app.command()
def plan(
    recipe: Annotated[
        list[str] | None,
        typer.Argument(help="a recipe and changes to it, which `omni-train plan` then plans"),
    ] = None,
    shards: Annotated[
        list[str] | None,
        typer.Option(help="[NAME=]PATTERN[:WEIGHT] of a source, once or more", show_default=False),
    ] = None,
    processor: Annotated[
        str | None, typer.Option(help="a checkpoint of ours, or a text LLM: what counts tokens")
    ] = None,
    max_tokens: Annotated[int | None, typer.Option(help="of a pack")] = None,
    max_samples: Annotated[int | None, typer.Option(help="of a pack")] = None,
    max_patches: Annotated[int | None, typer.Option(help="of images in a pack")] = None,
    max_frames: Annotated[int | None, typer.Option(help="of audio in a pack")] = None,
    max_length: Annotated[
        int | None, typer.Option(help="tokens of the longest sample [default: --max-tokens]")
    ] = None,
    overlong: Annotated[str, typer.Option(help="skip, truncate or split")] = "skip",
    window: Annotated[int, typer.Option(help="samples among which a pack chooses")] = 256,
    by: Annotated[str, typer.Option(help="what weights weigh: samples or tokens")] = "samples",
    packs_per_step: Annotated[
        int | None, typer.Option(help="over all ranks [default: --ranks]")
    ] = None,
    shuffle_shards: Annotated[
        int | None, typer.Option(help="shuffle within windows of so many shards")
    ] = None,
    seed: Annotated[int, typer.Option(help="of the order")] = 0,
    stage: Annotated[
        str | None, typer.Option(help="of the recipe [default: all]", show_default=False)
    ] = None,
    ranks: Annotated[int, typer.Option(min=1, help="that share the packs of a step")] = 1,
    steps: Annotated[
        int | None, typer.Option(min=1, help="to plan [default: until all was drawn once]")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print one object of json")] = False,
) -> None:
    """Say what an epoch would be: packs, padding, shares, balance, and what is left out and why.

    Plans it by what training plans with, without weights and without decoding anything. Of
    sources of more than a million samples together the beginning is planned, and the rest
    follows from that.

    Example: omni-shards plan --shards data/text --processor tiny:llama --max-tokens 2048
    """
    settings = {
        "max_tokens": max_tokens, "max_samples": max_samples, "max_patches": max_patches,
        "max_frames": max_frames, "max_length": max_length, "overlong": overlong,
        "window": window, "by": by, "packs_per_step": packs_per_step or ranks,
        "shuffle_shards": shuffle_shards, "seed": seed,
    }  # fmt: skip
    if recipe and not shards:
        options = {"--stage": stage, "--ranks": ranks, "--steps": steps}
        words = [word for name, value in options.items() if value for word in (name, str(value))]
        raise typer.Exit(_omni_train("plan", *recipe, *words, *(["--json"] if as_json else [])))
    if recipe or not shards or not processor:
        raise fail("give either a RECIPE, or --shards and --processor")
    announce(f"planning {', '.join(shards)}", aside=as_json)
    from omni.weights import WeightsError

    from .outlook import load_processor, parse_shards, plan_shards, show, survey_plan
    from .plan.mixture import PlanConfig

    try:
        patterns, weights = parse_shards(shards)
        config = PlanConfig(weights, **settings)
        counts = load_processor(processor)
        found = survey_plan(plan_shards(patterns, counts, config), counts, ranks, steps)
    except (WeightsError, ValueError, OSError) as error:
        raise fail(error) from error
    if as_json:
        print(json.dumps(found.figures()))
    else:
        show(found, Console())


def _omni_train(*words: str) -> int:
    """Run the command that knows recipes, which is not of this package; return its status."""
    found = [*entry_points(group="console_scripts", name="omni-train")]
    if not found:
        raise fail("a recipe is planned by omni-train, which is not installed")
    command = typer.main.get_command(found[0].load())
    return command.main([*words], prog_name="omni-train", standalone_mode=False) or 0


@app.command()
def export(
    folder: Folder,
    to: Annotated[Literal["energon", "hf"], typer.Option(help="the other reader")],
) -> None:
    """Write what Megatron-Energon or Hugging Face datasets want beside the shards.

    Example: omni-shards export data/shapes --to energon
    """
    from .shards.export import export as write

    try:
        for path in write(folder, to):
            print(path)
    except (ValueError, OSError) as error:
        raise fail(error) from error
    if to == "energon":
        print(f"now run: energon prepare --tar-index-only {folder}")


@app.command()
def bench(
    name: Name = "",
    small: Small = False,
) -> None:
    """Measure on this machine what the data engine promises; without NAME, list the benches.

    Prints a table and, as its last line, one object of json: "ok" is true if the promise holds,
    and so is the exit status 0. Everything is made in a temporary folder from fixed seeds, so
    only times differ from run to run. TMPDIR says where that folder is.

    Example: omni-shards bench resume
    """
    from .bench import BENCHES
    from .bench.result import run_named

    raise typer.Exit(run_named("data_shards.bench", BENCHES, name, small))


if __name__ == "__main__":
    app()
