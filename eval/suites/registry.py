"""Which rows a suite has, and where it takes their docs from."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..benchmarks.audio import AUDIO
from ..benchmarks.image import IMAGE10
from ..benchmarks.more_image import MORE_IMAGE
from ..benchmarks.omni import OMNI
from ..benchmarks.text import TEXT
from ..benchmarks.video import VIDEO
from ..lmms.benchmark import Benchmark
from ..lmms.official import Official, Source
from ..minisuite import BUILDERS, build_minisuite
from ..rows import own, speech, spoken, voice
from ..rows.heldout import HeldOut, heldout_shards, load_heldout
from . import guard, ood, pictures
from .mine import load_mine, rows_of
from .sources import files_of, open_source
from .task import PREFIX, open_task, task_rows

SHARE = 0.4  # of a mini row's units, at most `own.CONTROLLED`, are also asked blind
CAP = 128  # new tokens: what the yaml files of most benchmarks ask for at most


@dataclass(frozen=True)
class Suite:
    """Rows, and `open`: what `--data` names -> the source of their docs."""

    rows: tuple[Official | own.Own, ...]
    open: Callable[[Path | None], Source]
    help: str
    name: str = ""
    """of one that is made for a run"""
    heldout: bool = False
    """its docs come from the shards that a checkpoint's training held out"""


def _mini(held: HeldOut, benchmark: Benchmark, limit: int | None, scratch: Path) -> list[Path]:
    return [build_minisuite(held, benchmark.name, scratch / "parquet", limit)]


def _mini_row(benchmark: Benchmark) -> Official:
    units = BUILDERS[benchmark.name][1]
    most = min(round(SHARE * units), own.CONTROLLED)
    return Official(f"mini-{benchmark.name}", benchmark, _mini, units=units, controlled=most)


def _published(source: Any, benchmark: Benchmark, limit: int | None, scratch: Path) -> Any:
    return files_of(source, benchmark)


def _heldout(data: Path | None) -> HeldOut:
    if data is None:
        raise FileNotFoundError("this suite needs --data: a folder with held-out shards")
    return load_heldout(data)


def public(benchmarks: Iterable[Benchmark], text: str) -> Suite:
    """A suite of benchmarks as they are published, read from the hub or a folder."""
    return Suite(tuple(map(_row, benchmarks)), open_source, text)


def _row(benchmark: Benchmark) -> Official:
    cap = max(CAP, benchmark.max_new_tokens)
    return Official(benchmark.name, benchmark, _published, cap=cap, public=True)


SUITES: dict[str, Suite] = {
    "mini": Suite(
        (*map(_mini_row, IMAGE10), *own.ROWS, *spoken.ROWS, *pictures.ROWS),
        _heldout,
        "small rows of our own for the image benchmarks, and held-out speech",
        heldout=True,
    ),
    "speech": Suite(
        (*speech.ROWS, *voice.ROWS),
        _heldout,
        "spoken answers to held-out questions, written or spoken, heard by a recogniser",
        heldout=True,
    ),
    "image10": public(IMAGE10, "the ten image benchmarks of Baichuan-Omni-1.5's mean"),
    "image": public(MORE_IMAGE, "general questions, documents, yes or no"),
    "video": public(VIDEO, "actions, scenes and long videos, as frames"),
    "audio": public(AUDIO, "transcripts in English and Chinese, questions about sounds"),
    "omni": public(OMNI, "what must be seen and heard at once"),
    "guard": Suite(
        guard.ROWS,
        guard.open_folder,
        "harmful requests and responses, and refusals: thirteen sets from local files",
    ),
    "ood": Suite(
        ood.rows_of(ood.entry_of(())),
        ood.open_world,
        "a world with verified answers (--env), as trained on and with other rules and looks",
    ),
    "text": public(TEXT, "eight subjects of MMLU: what was not to be forgotten"),
}


def suite_of(suite: str | Suite) -> Suite:
    """The suite of a name, or the one that was made for this run.

    Raises:
        ValueError: there is none of that name; says which there are.
        FileNotFoundError: of a task's folder, see `task_rows`.
    """
    if isinstance(suite, Suite):
        return suite
    if suite.startswith(PREFIX):
        folder = Path(suite.removeprefix(PREFIX))
        return Suite(task_rows(folder), open_task, "a task of your own")
    if suite not in SUITES:
        raise ValueError(f"unknown suite {suite!r}; there is: {', '.join(SUITES)}")
    return SUITES[suite]


def heldout_suite(data: Path, scores: str = "") -> Suite:
    """A row for each source of held-out data of one's own: what `--heldout` and `--score` name.

    Raises:
        FileNotFoundError: there is no shard; ValueError: no such score or source;
        MissingDataError: no sample can be asked.
    """
    mine = load_mine(data)
    return Suite(rows_of(mine, scores), lambda _: mine, "held-out data of your own", "heldout")


def asked_suite(
    suite: str, heldout: Path | None, scores: str = "", task: Path | None = None,
    env: Sequence[str] = (),
) -> str | Suite:  # fmt: skip
    """The suite of a name, or what is made of one's own data or task.

    Raises:
        ValueError: two of them are given, or a score or --env of what is not; see `heldout_suite`
        and `ood.rows_of`.
    """
    if heldout and task:
        raise ValueError("--heldout and --task are two evaluations; give one of them")
    if scores and not heldout:
        raise ValueError("--score says how --heldout is scored, which is not given")
    if env and (suite != "ood" or heldout or task):
        raise ValueError("--env says which world --suite ood asks about, which is not given")
    if task:
        return f"{PREFIX}{task}"
    if heldout:
        return heldout_suite(heldout, scores)
    return _ood(env) if env else suite


def _ood(env: Sequence[str]) -> Suite:
    return replace(SUITES["ood"], rows=ood.rows_of(ood.entry_of(env)), name="ood")


def found_data(suite: str | Suite, data: Path | None) -> tuple[Path | None, Path | None]:
    """What a suite reads, None is the hub; and the same where a training held it out.

    Raises:
        FileNotFoundError: it is not there.
    """
    if not suite_of(suite).heldout:
        suite_of(suite).open(data)
        return data, None
    data = data or Path("data")
    heldout_shards(data)
    return data, data
