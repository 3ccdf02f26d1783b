"""The omni-eval command."""

import resource
import sys
from pathlib import Path
from typing import Any

import typer

from data_shards.bench.result import Name, Small
from omni.serve.command import RunByDefault, announce, refused

from . import options
from .guard_command import guard
from .options import unescaped
from .suite_commands import prepare, suites
from .table_commands import compare, contamination, table
from .thinking_command import thinking as thinking_command

app = typer.Typer(
    cls=RunByDefault, no_args_is_help=True, add_completion=False, rich_markup_mode="markdown",
    help="Measure checkpoints: `omni-eval CHECKPOINT --suite mini`.",
)  # fmt: skip


@app.command("run")
def evaluate(
    checkpoint: options.Checkpoint = "",
    suite: options.Suite = "mini",
    data: options.Data = None,
    heldout: options.Heldout = None,
    score: options.Score = "",
    task: options.Task = None,
    env: options.Env = None,
    out: options.Out = Path("runs/eval"),
    rows: options.Rows = "",
    limit: options.Limit = None,
    controls: options.Controls = True,
    parent: options.Parent = None,
    model: options.Model = "",
    model_name: options.ModelName = "",
    judge: options.Judge = "",
    judge_model: options.JudgeModel = "",
    max_new_tokens: options.MaxNewTokens = None,
    stop: options.Stop = None,
    system: options.System = "",
    temperature: options.Temperature = 0.0,
    top_p: options.TopP = 1.0,
    seed: options.Seed = 0,
    thinking: options.Thinking = None,
    dtype: options.DType = "",
    min_pixels: options.MinPixels = None,
    max_pixels: options.MaxPixels = None,
    max_batch: options.MaxBatch = 32,
    token_budget: options.TokenBudget = 4096,
) -> None:
    """Measure a checkpoint on held-out data or public benchmarks and print a table.

    Every row comes with the number of questions, a 95 % interval, what guessing gives, and
    controls: the same model **blind** (image removed) or with **shuffled** images or sounds. A
    score that its control reaches as well was not earned by looking or listening.

    `mini-…` rows: lmms-eval's official task code on small files in the public schemas. The others
    (`category`, `spoken_word`, `transcription`, `human_word` ...) are ours, with open answers.

    Other suites are public benchmarks on lmms-eval's own tasks, read from the hub or a folder.
    Your own data is a row for each source with --heldout, your own lmms-eval task one with --task.

    Examples: `omni-eval runs/quickstart/sft --data data --out runs/quickstart/eval`,
    `omni-eval runs/quickstart/sft --suite image10 --data benchmarks --out runs/ten`

    OUT holds report.html (categories and failed answers to look at), rows.json, table.md, table.txt
    and answers.jsonl (every question, expected and given answer). Answers are kept in OUT/store as
    they are given, and are reused only for the same weights, words, media and way to answer; of an
    endpoint for the same address and name, so use another --out when the model behind it has
    changed. Answers are greedy, unless --temperature says otherwise. The exit status is 1 where not
    one row has a score.
    `torchrun --nproc-per-node 2 -m eval.cli …` shares the questions out.
    """
    announce(f"evaluating {checkpoint or model} into {out}", aside=True)
    from rich.console import Console

    from omni.load import CheckpointError
    from omni.weights import WeightsError

    from .rows.own import MissingDataError

    console = Console(file=sys.stdout)  # this very stream: lmms-eval's chatter is diverted later
    try:
        result = _run(
            console, _named(checkpoint, model), suite, data, out, heldout=heldout, score=score,
            task=task, env=tuple(env or ()),
            rows=rows, limit=limit, controls=controls, parent=parent,
            model_name=model_name, judge=judge, judge_model=judge_model,
            max_new_tokens=max_new_tokens,
            sampling={"temperature": temperature, "top_p": top_p, "seed": seed}
            | ({"stop": tuple(map(unescaped, stop))} if stop else {})
            | ({} if thinking is None else {"thinking": {"max": thinking}}),
            loading={"dtype": dtype, "min_pixels": min_pixels, "max_pixels": max_pixels},
            max_batch=max_batch, token_budget=token_budget, system=system,
        )  # fmt: skip
    except (ValueError, OSError, MissingDataError, CheckpointError, WeightsError) as error:
        raise refused(error) from error
    if result is not None:  # rank 0 says it all
        _tell(console, result, out)


@app.command()
def bench(name: Name = "", kit: options.Kit = None, small: Small = False) -> None:
    """Measure on this machine what the evaluation promises; without NAME, list the benches.

    Prints a table and, as its last line, one object of json: "ok" is true if the promise holds,
    and so is the exit status 0.

    Example: `omni-eval bench oracle`
    """
    from data_shards.bench.result import run_named

    from .bench import BENCHES

    if (name == "scorers") != (kit is not None):
        raise refused(ValueError("`bench scorers DIR`, and no other, takes a VLMEvalKit checkout"))
    given = {"checkout": kit} if kit else {}
    raise typer.Exit(run_named("eval.bench", BENCHES, name, small, **given))


app.command()(suites)
app.command()(guard)
app.command("thinking")(thinking_command)
app.command()(prepare)
app.command()(table)
app.command()(compare)
app.command()(contamination)


def _named(checkpoint: str, model: str) -> str:
    if bool(checkpoint) == bool(model):
        raise ValueError("name one model: a CHECKPOINT folder, or --model hf:ID or openai:URL")
    return checkpoint or model


def _run(
    console: Any,
    spec: str,
    suite: str,
    data: Path | None,
    out: Path,
    *,
    heldout: Path | None,
    score: str,
    task: Path | None,
    env: tuple[str, ...],
    parent: str | None,
    rows: str,
    model_name: str,
    judge: str,
    judge_model: str,
    max_new_tokens: int | None,
    sampling: dict[str, Any],
    loading: dict[str, Any],
    max_batch: int,
    token_budget: int,
    system: str,
    **asking: Any,
) -> dict[str, Any] | None:
    """Evaluate; on ranks other than 0 return None."""
    from omni.weights import resolve

    from .answering.backends import PREFIXES, check_sampling, check_spec
    from .answering.ranks import join
    from .harness import Harness
    from .lmms.judge import open_judge
    from .lmms.official import Official
    from .progress import AnswerProgress
    from .run import choose, evaluate, write_result
    from .suites.registry import asked_suite, found_data

    # whatever is wrong with what was given should not cost the time to load a model
    asked = asked_suite(suite, heldout, score, task, env)
    chosen = choose(asked, rows, max_new_tokens)
    check_sampling(spec, sampling)
    if parent and spec.startswith(PREFIXES):
        raise ValueError("--parent measures a CHECKPOINT of ours, not other models")
    data, shown = found_data(asked, data)
    bare = resolve(parent).folder if parent else None
    ranks = join()
    judging = open_judge(judge, judge_model, ranks=ranks) if judge else None
    check_spec(spec, **loading)
    with _alone_in(out, ranks), Harness(asked, data) as harness:
        limits = {"max_batch": max_batch, "token_budget": token_budget, "ranks": ranks,
                  "sampling": sampling, "system": system, **loading}  # fmt: skip
        if any(isinstance(row, Official) for row in chosen):
            harness.start()  # it imports lmms-eval while the model is loaded
        opened = _open(console, spec, model_name, heldout or shown, limits)
        with AnswerProgress(console) as progress:
            opened.answerer.progress = progress.answered
            result = evaluate(
                opened.answerer, opened.weights, asked, data, out, rows=rows,
                max_new_tokens=max_new_tokens, on_condition=progress.condition,
                model=f"{spec} {model_name}".strip(), judge=judging, run_row=harness.run, **asking,
            )  # fmt: skip
    if ranks.rank:
        return None
    if bare is not None:
        drift = _drift(opened.model, opened.processor, bare)
        console.print(f"text drift from {parent}: {drift:.4f} nats a token")
        result["figures"]["text_drift"] = drift
    result["peak_rss_gb"] = _peak_rss_gb()
    write_result(result, out)
    return result


def _open(
    console: Any, spec: str, model_name: str, heldout: Path | None, limits: dict[str, Any]
) -> Any:
    """Open the model, and refuse one that was trained on what is held out here."""
    from .answering.backends import open_model
    from .rows.heldout import refuse_other_split

    with console.status("loading the model"):
        opened = open_model(spec, model_name, **limits)
        if opened.model is not None and heldout:
            refuse_other_split(opened.model.config.parts, heldout)
    return opened


def _alone_in(out: Path, ranks: Any) -> Any:
    """Rank 0 holds the folder for all."""
    from contextlib import nullcontext

    from omni.files.lock import exclusive

    return nullcontext() if ranks.rank else exclusive(out)


def _peak_rss_gb() -> float:
    """Of the model's process and of lmms-eval's, which has ended."""
    both = resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN
    return round(sum(resource.getrusage(who).ru_maxrss for who in both) / 2**20, 2)


def _tell(console: Any, result: dict[str, Any], out: Path) -> None:
    """Print the table; where it has no score at all, exit with 1."""
    from .grid import show
    from .report.table import grid

    show(grid(result), console)
    console.print(f"written: {out}/report.html, rows.json, table.md, table.txt, answers.jsonl")
    if all(row["score"] is None for row in result["rows"]):
        raise typer.Exit(1)


def _drift(model: Any, processor: Any, folder: Path) -> float:
    from transformers import AutoModelForCausalLM

    from .rows.drift import text_drift

    bare = AutoModelForCausalLM.from_pretrained(folder, dtype="float32").to(model.device)
    return text_drift(model, bare, processor)


if __name__ == "__main__":
    app()
