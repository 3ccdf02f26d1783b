"""omni-train: run a recipe, stage by stage, resuming wherever it stopped."""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Annotated

import typer

from data_shards.bench.result import Name, Small
from omni.serve.command import RunByDefault, announce, refused
from omni.serve.export import export

from .doctor.command import doctor, plan
from .recipe.arguments import Overrides, RecipeName
from .report.command import report, watch
from .sampling.command import sample

app = typer.Typer(
    cls=RunByDefault, no_args_is_help=True, add_completion=False, rich_markup_mode="markdown",
    help="Train a model through the stages of a recipe: `omni-train RECIPE [key=value ...]`.",
)  # fmt: skip


@app.command("run")
def train(
    recipe: RecipeName,
    overrides: Overrides = None,
    stage: Annotated[
        str | None, typer.Option(help="run this stage alone; its parent must be finished")
    ] = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="move an earlier run of the same output aside first")
    ] = False,
    redo: Annotated[
        str | None,
        typer.Option(help="move the results of this stage and of all later ones aside first"),
    ] = None,
    show: Annotated[
        bool, typer.Option("--show", help="print the resolved recipe and stop")
    ] = False,
) -> None:
    """Train a model through the stages of RECIPE.

    Run it again after an interruption and it goes on; finished stages are kept. SIGINT and
    SIGTERM write a checkpoint first. To tune a stage, `--redo` it: it starts again from its
    parent's checkpoint; what it had made is kept in OUTPUT.old0 and so on, as with `--fresh`.
    Several processes, with GPUs or without: `torchrun --nproc-per-node 2 -m stages.cli RECIPE`.

    Example: `omni-train quickstart stages.sft.steps=50 output=runs/short`
    """
    from omegaconf import OmegaConf

    from .recipe.read import load_recipe, read_places
    from .recipe.schema import RecipeError

    try:
        config, places = load_recipe(recipe, overrides), read_places(recipe, overrides)
    except RecipeError as error:
        raise refused(error) from error
    if show:
        print(OmegaConf.to_yaml(OmegaConf.structured(config)))
        return
    announce(f"{recipe}: {', '.join(s.name for s in config.stages)} in {config.output}")
    _run(config, places, stage, fresh, redo)


def _run(config, places, stage: str | None, fresh: bool, redo: str | None) -> None:
    # large pages: a third off an align step on a CPU, whose time goes into fresh memory
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    from transformers.utils import logging

    logging.disable_progress_bar()
    from data_shards.read.quarantine import TooManyBad
    from omni.files.lock import exclusive
    from omni.load import CheckpointError
    from omni.weights import WeightsError

    from .engine.distribute import by_main, join
    from .trainable.patterns import PatternError
    from .training.chain import building_on, check_machine, refuse_mistakes, run_recipe

    names = [s.name for s in config.stages]
    for name in (stage, redo):
        if name and name not in names:
            raise refused(f"no stage {name!r} in the recipe; stages: {', '.join(names)}")
    again = [redo] if redo and stage == redo else building_on(config, redo) if redo else []
    output = Path(config.output)
    try:
        accelerator = join(config.precision)
        check_machine(config, accelerator)
        with ExitStack() as held:

            def begin() -> None:
                with _writing(output):
                    held.enter_context(exclusive(output))
                refuse_mistakes(config, places, accelerator.num_processes, stage,
                                names if fresh else again)  # fmt: skip
                with _writing(output):
                    _prepare(output, config, fresh, again)

            by_main(accelerator, begin)
            run_recipe(config, accelerator, stage)
    except (CheckpointError, PatternError, WeightsError, TooManyBad, ValueError,
            FileNotFoundError, FloatingPointError, MemoryError) as error:  # fmt: skip
        raise refused(error) from error


@contextmanager
def _writing(output: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ValueError(f"output {output}: cannot be written: {error}") from error


def _prepare(output: Path, config, fresh: bool, again: list[str]) -> None:
    """Make the run's folder, and the recipe in it, after what is to be made anew moved aside."""
    from omegaconf import OmegaConf

    from omni.files.atomic import write_text

    from .training.aside import move_run, move_stages

    if fresh and output.exists():
        print(f"the earlier run is in {move_run(output)}")
    elif again and output.exists():
        print(f"the earlier {', '.join(again)}: in {move_stages(output, again)}")
    output.mkdir(parents=True, exist_ok=True)
    write_text(output / "recipe.yaml", OmegaConf.to_yaml(OmegaConf.structured(config)))


@app.command()
def init(
    data: Annotated[list[Path], typer.Argument(help="folders of shards, as omni-shards makes")],
    start: Annotated[
        str | None,
        typer.Option("--from", help="the text LLM, or the omni checkpoint to go on from"),
    ] = None,
    shape: Annotated[
        str | None,
        typer.Option(help="build an omni model, tune one with lora, or evaluate one "
                          "[default: what fits --from]"),
    ] = None,
    output: Annotated[str, typer.Option(help="folder of the run")] = "runs/mine",
) -> None:  # fmt: skip
    """Print a commented recipe for folders of shards; read it, change it, train it.

    Example: `omni-train init data/images data/spoken > mine.yaml`
    """
    from .recipe.init import choose_shape, commented, look_at
    from .recipe.schema import RecipeError

    try:
        chosen = choose_shape(shape, start)
        text = commented(chosen, [look_at(folder) for folder in data], start, output)
    except (RecipeError, ValueError, OSError) as error:
        raise refused(error) from error
    print(text, end="")


@app.command()
def keys() -> None:
    """Print every key of a recipe with its type, default and meaning.

    Example: `omni-train keys`
    """
    announce("collecting the keys of a recipe", aside=True)
    from .recipe.reference import reference

    print(reference(), end="")


for command in (doctor, plan, report, watch, sample, export):
    app.command()(command)


@app.command()
def bench(
    name: Name = "",
    small: Small = False,
    seeds: Annotated[
        int | None, typer.Option(min=1, help="of a bench of learning: how often it is run [1]")
    ] = None,
    folder: Annotated[
        Path | None,
        typer.Option(help="a bench of learning works here and goes on with what is finished here"),
    ] = None,
    every: Annotated[
        bool, typer.Option("--all", help="of generalpoints: with pictures and sounds too")
    ] = False,
) -> None:
    """Measure on this machine what the training engine promises; without NAME, list the benches.

    Prints a table and, as its last line, one object of json: "ok" is true if the promise holds,
    and so is the exit status 0. A and B of a comparison take turns within the run.

    Example: `omni-train bench throughput`
    """
    from data_shards.bench.result import run_named

    from .bench import BENCHES

    given = ({} if seeds is None else {"seeds": seeds}) | ({"all": True} if every else {})
    raise typer.Exit(run_named("stages.bench", BENCHES, name, small, folder, **given))


if __name__ == "__main__":
    app()
