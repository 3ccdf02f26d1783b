"""A sample that makes NaN and one too large for memory: both are named, left out, and no other.

The one holds a token whose row of the embedding table overflowed, as happens in vocabularies with
unused rows; nothing is wrong with its file. The other is long, and a step may take so much memory
and no more (`RLIMIT_AS`), so that it is the system that refuses.
"""

import resource
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from data_shards.bench.forked import start, wait
from data_shards.bench.result import Result
from omni.files.jsonl import read_lines

from .life import losses

COUNT, BATCH = 40, 5  # samples, and those of a pack
RARE, LONG = "~", 24000  # the token of the one, the characters of the other
ROOM = 512 << 20  # bytes that a step may take; the long one needs four times as many by itself
RECIPE = """\
text: {folder}/llm
output: set below
precision: fp32
threads: 0
sources: {{text: [set below]}}
stages:
  - name: only
    trainable: {{"*": 1.0e-3}}
    data: {{mixture: {{text: 1}}, max_length: {length}}}
    steps: 1
"""
PLANTED = {"nan": "00000012", "giant": "00000027"}  # key of each


def run(folder: Path, small: bool = False, fault: str = "") -> Result:
    """Train on shards with both, alone and as two ranks, and without the guard.

    Args:
        folder: to work in.
        small: one rank alone.
        fault: "blind" lets the search find nothing; to see the bench fail.
    """
    write_parts(folder)
    steps = COUNT // BATCH * 2  # two epochs: what was left out stays out
    ways = {"1": (1, "none", PLANTED)}
    if not small:
        nan = {"nan": PLANTED["nan"]}
        ways |= {"2": (2, "none", nan), "2 sharded": (2, "full", nan)}
    rows = []
    for way, (ranks, sharding, planted) in ways.items():
        target = folder / f"run-{way.replace(' ', '-')}"
        settings = [f"output={target}", f"sharding={sharding}", f"stages.only.steps={steps}",
                    f"stages.only.data.batch_size={BATCH // ranks}",
                    f"sources.text=[{_shards(folder, planted)}]"]  # fmt: skip
        code = _train(folder, ranks, settings, fault, "giant" in planted)
        rows.append({"ranks": way, "planted": ", ".join(planted), "guard": "on", "exit": code,
                     **_found(target, planted)})  # fmt: skip
    target = folder / "run-off"
    off = [f"output={target}", "max_offenders=0", f"stages.only.steps={steps}",
           f"stages.only.data.batch_size={BATCH}",
           f"sources.text=[{_shards(folder, PLANTED)}]"]  # fmt: skip
    code = _train(folder, 1, off, fault, True)
    control = {"ranks": "1", "planted": ", ".join(PLANTED), "guard": "off", "exit": code,
               **_found(target, PLANTED)}  # fmt: skip
    good = [row["exit"] == 0 and row["steps"] == steps and row["others"] == 0
            and row["named"] == row["quarantined"] == len(row["planted"].split(", "))
            for row in rows]  # fmt: skip
    stops = control["exit"] == 2 and control["steps"] < steps
    first = rows[0]
    figures = {"named": first["named"], "quarantined": first["quarantined"],
               "steps": first["steps"], "of": steps, "stops_without": stops,
               "ways": len(good), "ways_ok": sum(good)}  # fmt: skip
    return Result(all(good) and stops, figures, [*rows, control])


def write_parts(folder: Path) -> None:
    """Write the LLM with the damaged row, and shards with both samples, one and none."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    from data_shards.bench.data import samples
    from data_shards.shards.write import write_shards
    from omni.processing.messages import assistant, user
    from omni.weights import resolve

    tiny = resolve("tiny:llama").folder
    tokenizer = AutoTokenizer.from_pretrained(tiny)
    config = AutoConfig.from_pretrained(
        tiny, intermediate_size=1024, max_position_embeddings=2 * LONG, tie_word_embeddings=False
    )
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        model.get_input_embeddings().weight[tokenizer.convert_tokens_to_ids(RARE)] = float("inf")
    for part in (model, tokenizer):
        part.save_pretrained(folder / "llm")
    (folder / "recipe.yaml").write_text(RECIPE.format(folder=folder, length=2 * LONG))
    for names in ([*PLANTED], ["nan"], []):
        rows = list(samples(COUNT, media=[], chars=(20, 60)))
        if "nan" in names:
            rows[int(PLANTED["nan"])].messages[1] = assistant(f"odd {RARE}")
        if "giant" in names:
            rows[int(PLANTED["giant"])].messages[0] = user("long " * (LONG // 5))
        write_shards(rows, folder / "-".join(["shards", *names]))


def _shards(folder: Path, planted: Iterable[str]) -> str:
    return f"{folder / '-'.join(['shards', *planted])}/train-*.tar"


def _train(folder: Path, ranks: int, settings: list[str], fault: str, tight: bool) -> int:
    """Run the ranks of a training to their end; return the exit code, or 1 if it hung.

    `tight`: their steps may take `ROOM` bytes and no more.
    """
    arguments = [str(folder / "recipe.yaml"), *settings], fault, ROOM * tight
    processes = start(rank, arguments, ranks, folder)
    try:
        wait(processes, folder)
    except RuntimeError:
        return next((p.exitcode for p in processes if p.exitcode and p.exitcode > 0), 1)
    return 0


def _found(run: Path, planted: dict[str, str]) -> dict[str, int]:
    """Count which planted samples are named and quarantined, what else is, and the steps."""
    folder = run / "resume" / "only"
    wanted = {f"train-000000.tar:{key}" for key in planted.values()}
    named = {
        row["sample"] for row in read_lines(folder / "offenders.jsonl") if row["event"] == "culprit"
    }
    out = {f"{row['shard']}:{row['key']}" for row in read_lines(folder / "quarantine.jsonl")}
    return {"named": len(named & wanted), "quarantined": len(out & wanted),
            "others": len((named | out) - wanted),
            "steps": len(dict(losses(run)))}  # fmt: skip


@contextmanager
def limited(room: int) -> Iterator[None]:
    """Let this process take `room` bytes more than it has, and no more."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limits = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + room, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)


def rank(arguments: list[str], fault: str, room: int) -> None:
    """Be one rank: `omni-train` itself, but for the memory of its steps."""
    from ..training import guard
    from ..training.trainer import Trainer

    if fault == "blind":
        guard.halve = lambda *_, **__: []
    real = Trainer.update

    def update(self: Any, step: Any) -> float:
        with limited(room):
            return real(self, step)

    if room:  # not for several ranks, whose threads begin when they please
        Trainer.update = update
    [command] = entry_points(group="console_scripts", name="omni-train")
    command.load()(arguments)
