"""A folder of public files: what is not parquet is converted, and every row is tried."""

import ast
import base64
import binascii
import json
import os
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..grid import Grid
from ..lmms.benchmark import Benchmark
from ..lmms.decoding import tolerant
from ..lmms.official import Official
from ..minisuite.schema import SCHEMAS
from ..rows.own import MissingDataError
from .kit import is_kit, published
from .sources import RAW, Local, split_of

IMAGES = ("image", "decoded_image")  # columns of files that no schema here describes
DESCRIBES = ("state.json", "dataset_info.json", "dataset_dict.json")  # of an Arrow folder
SHOWN = 5  # problems of a row


@dataclass
class Checked:
    """What a folder holds of one benchmark."""

    row: str
    docs: int = 0
    of: int = 0
    problems: list[str] = field(default_factory=list)  # docs that cannot be scored or shown
    missing: str = ""  # why there is nothing
    converted: str = ""

    @property
    def complete(self) -> bool:
        return self.docs == self.of > 0 and not self.problems


def prepare(
    root: Path, rows: Iterable[Any], progress: Callable[[str], None] = lambda row: None
) -> list[Checked]:
    """Convert and check what `root` holds of each row; every image is decoded.

    Raises:
        FileNotFoundError: there is no such folder; ValueError: a row has no public files.
    """
    if not root.is_dir():
        raise FileNotFoundError(f"{root}: no such folder")
    found = []
    for spec in rows:
        if not isinstance(spec, Official) or not spec.public:
            raise ValueError(f"{spec.name} has no public files: its questions are made here")
        progress(spec.name)
        try:
            converted = convert(root, spec.benchmark)
        except ValueError as error:
            found.append(Checked(spec.name, of=spec.benchmark.rows, missing=str(error)))
            continue
        checked = check(Local(root), spec)
        checked.converted = str(converted.relative_to(root)) if converted else ""
        found.append(checked)
    return found


def check(source: Local, spec: Official) -> Checked:
    """Try every doc: lmms-eval must make a question of it and take its true answer."""
    from ..lmms.bridge import prepare as import_lmms_eval

    import_lmms_eval()
    from ..lmms.adapter import convert as as_messages

    checked = Checked(spec.name, of=spec.benchmark.rows)
    with tempfile.TemporaryDirectory() as scratch:
        try:
            task, docs, checked.problems = spec.load(source, None, Path(scratch))
        except MissingDataError as error:
            checked.missing = str(error)
            return checked
        checked.docs = len(docs)
        with tolerant():
            held = task.dataset[spec.benchmark.split]
            for place, number in enumerate(docs):
                try:
                    as_messages(task.doc_to_messages(held[place]))
                except (Exception, SystemExit) as error:
                    name = f"{spec.benchmark.task}:{number}"
                    checked.problems.append(f"{name}: {type(error).__name__}: {error}")
    return checked


def report(found: list[Checked]) -> Grid:
    """What was found, the first problems under each row."""
    rows = []
    for row in found:
        state = "complete" if row.complete else row.missing
        if not state:
            state = f"{row.docs} of {row.of} docs, {len(row.problems)} unusable"
        lines = [state, *row.problems[:SHOWN]]
        if row.converted:
            lines.insert(1, f"converted to {row.converted}")
        if len(row.problems) > SHOWN:
            lines.append(f"and {len(row.problems) - SHOWN} more")
        rows.append([row.row, str(row.docs), str(row.of), "\n".join(lines)])
    return Grid(["row", "docs", "of", "state"], rows)


def convert(root: Path, benchmark: Benchmark) -> Path | None:
    """Write SPLIT-00000.parquet beside the first raw file of a benchmark that has no parquet.

    Raises:
        ValueError: it cannot be read as rows of the benchmark; names the file and the reason.
    """
    source = Local(root)
    mine = list(source.of(benchmark))
    if any(file.suffix == ".parquet" and split_of(file) == benchmark.split for file in mine):
        return None
    raw = [file for file in mine if file.suffix in RAW and file.name not in DESCRIBES]
    named = [file for file in raw if benchmark.split in (split_of(file), file.parent.name)]
    if not (chosen := (named or raw)[:1]):
        return None
    folder, name = chosen[0].parent, f"{benchmark.split}-00000.parquet"
    if not source.belongs(target := folder / name, benchmark):  # many share the folder
        target = folder / benchmark.name / name
    try:
        rows = read_rows(chosen[0])
        if is_kit(chosen[0], rows):
            rows = published(benchmark, rows, chosen[0].parent)
        return write_rows(rows, benchmark.name, target, chosen[0])
    except Exception as error:  # a half line, a word for a number: parsers raise nearly anything
        reason = f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
        raise ValueError(f"{chosen[0]} cannot be converted: {reason}") from error


def read_rows(file: Path) -> list[dict[str, Any]]:
    """The rows of a TSV, CSV, JSON, JSONL or Arrow file, an Arrow folder with all its files."""
    if file.suffix in (".tsv", ".csv"):
        import pandas as pd

        # "None" and "NA" are options that people choose, not missing values
        table = pd.read_csv(
            file, sep="\t" if file.suffix == ".tsv" else ",", dtype=str, keep_default_na=False
        )
        rows = [{str(k): v or None for k, v in row.items()} for row in table.to_dict("records")]
    elif file.suffix == ".jsonl":
        with file.open(encoding="utf-8") as lines:
            rows = [json.loads(line) for line in lines if line.strip()]
    elif file.suffix == ".json":
        rows = json.loads(file.read_text(encoding="utf-8"))
    else:
        import datasets

        parts = sorted(file.parent.glob("*.arrow"))
        read = datasets.concatenate_datasets([datasets.Dataset.from_file(str(p)) for p in parts])
        rows = read.with_format("arrow").to_list()
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ValueError(f"{file}: a list of rows is wanted, each an object with named columns")
    return rows


def write_rows(rows: list[dict[str, Any]], benchmark: str, path: Path, source: Path) -> Path:
    """Write rows in the published schema, as far as they have its columns.

    Images may be bytes, {"bytes", "path"}, base64, or the path of a file in the folder of `source`.
    """
    import datasets

    from ..minisuite.schema import features, save

    names = {str(name).lower(): name for row in rows for name in row}
    if benchmark in SCHEMAS:
        known = features(benchmark)
        _refuse_options({str(name) for name in names.values()} - set(known), benchmark)
        kinds = {column: known[column] for column in known if column.lower() in names}
    else:
        kinds = {n: datasets.Image() if n in IMAGES else None for n in names.values()}
    columns = {
        column: [_cell(row.get(names[column.lower()]), kind, source.parent) for row in rows]
        for column, kind in kinds.items()
    }
    known = datasets.Features({n: kind for n, kind in kinds.items() if kind is not None})
    read = datasets.Dataset.from_dict(columns)
    for name, kind in known.items():
        read = read.cast_column(name, kind)
    return save(read, path)


def _refuse_options(unknown: set[str], benchmark: str) -> None:
    """Columns that the schema lacks are left out, but no question loses its options.

    Raises:
        ValueError: among the columns are options.
    """
    if options := sorted(name for name in unknown if len(name) == 1 and name.isupper()):
        raise ValueError(
            f"the published {benchmark} has no columns {', '.join(options)}; as VLMEvalKit has "
            "them, a TSV needs the columns index, question and image or image_path"
        )


def _cell(value: Any, kind: Any, folder: Path) -> Any:
    import datasets

    if isinstance(kind, datasets.Image):
        return _image(value, folder)
    if isinstance(kind, datasets.List) and isinstance(value, str):  # TSV writes lists as text
        value = ast.literal_eval(value) if value.startswith("[") else [value]
    if isinstance(kind, datasets.List) and isinstance(kind.feature, datasets.Image):
        return [_image(item, folder) for item in value or []]
    dtype = getattr(kind, "dtype", "")
    if value is None or not dtype:
        return value
    if dtype == "string":
        return value if isinstance(value, str) else str(value)
    return int(float(value)) if "int" in dtype else float(value)


def _image(value: Any, folder: Path) -> dict[str, Any] | None:
    """What datasets stores of an image: its file. Whether it can be read is seen later."""
    if isinstance(value, str):
        if len(value) < 4096 and os.path.isfile(folder / value):  # False for names of any length
            if os.path.isabs(value) or Path(os.path.normpath(value)).parts[0] == os.pardir:
                raise ValueError(f"the image {value} is outside {folder}")
            value = (folder / value).read_bytes()
        else:
            try:
                value = base64.b64decode(value, validate=True)
            except (binascii.Error, ValueError):
                value = value.encode()
    if isinstance(value, bytes):
        return {"bytes": value, "path": None}
    return value
