"""The public parquet schemas of the benchmarks, and the only function that writes them."""

import contextlib
import io
from pathlib import Path
from typing import Any

TEXT = "string"
# column -> type, in the published order; "image" is the datasets Image feature
SCHEMAS: dict[str, dict[str, Any]] = {
    "mmbench_en": {
        "index": "int64", "question": TEXT, "hint": TEXT, "answer": TEXT, "A": TEXT, "B": TEXT,
        "C": TEXT, "D": TEXT, "category": TEXT, "image": "image", "source": TEXT,
        "L2-category": TEXT, "comment": TEXT, "split": TEXT,
    },
    "realworldqa": {"image": "image", "image_path": TEXT, "question": TEXT, "answer": TEXT},
    "hallusionbench": {
        "category": TEXT, "subcategory": TEXT, "visual_input": TEXT, "set_id": TEXT,
        "figure_id": TEXT, "sample_note": TEXT, "question_id": TEXT, "question": TEXT,
        "gt_answer_details": TEXT, "gt_answer": TEXT, "filename": TEXT, "image": "image",
    },
    "ocrbench": {
        "dataset": TEXT, "question": TEXT, "question_type": TEXT, "answer": "strings",
        "image": "image",
    },
}  # fmt: skip


def features(benchmark: str) -> Any:
    """The `datasets.Features` of one benchmark."""
    import datasets

    kinds = {"image": datasets.Image(), "strings": datasets.List(datasets.Value(TEXT))}
    return datasets.Features(
        {
            column: kinds.get(kind) or datasets.Value(kind)
            for column, kind in SCHEMAS[benchmark].items()
        }
    )


def write_parquet(benchmark: str, rows: list[dict[str, Any]], path: Path) -> Path:
    """Write rows (images as file bytes) so that datasets reads the published features back.

    Written beside the target and renamed: a kill leaves no half file that a later run would trust.
    """
    import datasets

    columns = SCHEMAS[benchmark]
    images = {column for column, kind in columns.items() if kind == "image"}
    data = {
        column: [
            {"bytes": row[column], "path": None} if column in images else row.get(column)
            for row in rows
        ]
        for column in columns
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    with contextlib.redirect_stderr(io.StringIO()):  # its progress bar
        datasets.Dataset.from_dict(data, features=features(benchmark)).to_parquet(str(partial))
    partial.rename(path)
    return path
