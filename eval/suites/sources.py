"""Where public benchmarks are read from: a folder of files in the published schemas, or the hub."""

import hashlib
import importlib.metadata
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

from ..benchmarks import EVERY
from ..lmms.benchmark import Benchmark
from ..lmms.decoding import PICTURES
from ..lmms.official import Source

VIDEOS = (".mp4", ".mkv", ".webm", ".avi", ".mov")
UNPACKED = "_local"  # how VLMEvalKit calls a table whose images it has written to files
RAW = (".tsv", ".csv", ".jsonl", ".json", ".arrow")  # what `omni-eval prepare` reads


@dataclass(frozen=True)
class Local:
    """DATA/NAME/SPLIT-*.parquet, as a clone of the dataset's repository has them too.

    NAME is a benchmark's name, title or repository with its configuration; case and punctuation do
    not matter: mmbench_en, MMBench-EN and MMBench/en are one. A folder `data` is passed over. Where
    several benchmarks have the name of a folder or of one above it, the deepest is meant:
    DocVQA/InfographicVQA is not DocVQA's.
    """

    root: Path

    @property
    def digest(self) -> str:
        """Of names, sizes and times: the answers are kept by what was asked, not by this."""
        facts = [
            (str(file.relative_to(self.root)), file.stat().st_size, file.stat().st_mtime_ns)
            for file in self.files
        ]
        return hashlib.sha256(repr(facts).encode()).hexdigest()

    @property
    def label(self) -> str:
        return f"the files of {self.root}"

    @cached_property
    def files(self) -> list[Path]:
        return sorted(file for file in self.root.rglob("*") if file.is_file())

    def of(self, benchmark: Benchmark) -> Iterator[Path]:
        """Every file that lies in a folder of this benchmark, or has its name."""
        return (file for file in self.files if self.belongs(file, benchmark))

    def belongs(self, file: Path, benchmark: Benchmark) -> bool:
        """Whether the folder or the name of a file is this benchmark's and no other's."""
        mine, known = _known(benchmark)
        relative = file.relative_to(self.root).with_suffix("")
        parts = [part.removesuffix(UNPACKED) for part in relative.parts if part != "data"]
        names = [plain("".join(parts[:depth])) for depth in range(len(parts), 0, -1)]
        return next((name for name in names if name in known), None) in mine

    def find(self, benchmark: Benchmark) -> list[Path]:
        """The parquet files of the benchmark's split.

        Raises:
            LookupError: there are none; says what there is and what to do.
        """
        mine = list(self.of(benchmark))
        parquet = [file for file in mine if file.suffix == ".parquet"]
        if found := [file for file in parquet if split_of(file) == benchmark.split]:
            return found
        wanted = f"{benchmark.name}/{benchmark.split}-*.parquet"
        if parquet:
            splits = ", ".join(sorted({split_of(file) for file in parquet}))
            raise LookupError(
                f"{parquet[0].parent}: no file of the split {benchmark.split!r}, there is: "
                f"{splits}. lmms-eval reads {wanted}; rename the file if it is that split."
            )
        if raw := [file for file in mine if file.suffix in RAW]:
            raise LookupError(
                f"{raw[0]} is not parquet; `omni-eval prepare {self.root}` converts it"
            )
        raise LookupError(f"nothing of {benchmark.title} under {self.root}; put {wanted} there")

    def video(self, benchmark: Benchmark, name: str) -> Path:
        """The video of this name, with or without its ending, anywhere among the benchmark's files.

        Raises:
            FileNotFoundError: there is none.
        """
        stem = Path(name).stem if Path(name).suffix.lower() in VIDEOS else Path(name).name
        if found := _videos(self, benchmark).get(stem):
            return found
        raise FileNotFoundError(f"no video {stem} among the files of {benchmark.name}")


@dataclass(frozen=True)
class Hub:
    """The datasets that lmms-eval's own yaml files name."""

    @property
    def digest(self) -> str:
        return f"lmms-eval {importlib.metadata.version('lmms-eval')}"

    @property
    def label(self) -> str:
        return f"the Hugging Face datasets that {self.digest} names"


@lru_cache
def _known(benchmark: Benchmark) -> tuple[set[str], set[str]]:
    """The plain names of a benchmark, and of all."""
    mine = {plain(name) for name in benchmark.names}
    return mine, mine | {plain(name) for other in EVERY for name in other.names}


@lru_cache
def _videos(source: Local, benchmark: Benchmark) -> dict[str, Path]:
    """Name without ending -> video, or the folder of its frames."""
    found: dict[str, Path] = {}
    for file in source.of(benchmark):
        if file.suffix.lower() in VIDEOS:
            found[file.stem] = file
        elif file.suffix.lower() in PICTURES:
            found[file.parent.name] = file.parent
    return found


def open_source(data: Path | None) -> Source:
    """Without a folder, the hub.

    Raises:
        FileNotFoundError: there is no such folder.
    """
    if data is None:
        return Hub()
    if not data.is_dir():
        raise FileNotFoundError(f"{data}: no such folder; without --data the hub is read")
    return Local(data)


def files_of(source: Source, benchmark: Benchmark) -> list[Path] | None:
    """What `load_task` takes: files, or None for the hub."""
    return source.find(benchmark) if isinstance(source, Local) else None


def split_of(file: Path) -> str:
    """ "test" of test.parquet, test-00000-of-00004.parquet and test_00.parquet."""
    return re.sub(r"[-_.]\d+(-of-\d+)?(-[0-9a-f]{16})?$", "", file.stem)


def plain(name: str) -> str:
    """Letters and digits in lower case."""
    return re.sub(r"[^a-z0-9]", "", name.lower())
