"""The public parquet schemas of the benchmarks, and the only function that writes them."""

import contextlib
import io
from pathlib import Path
from typing import Any

from omni.files.atomic import replacing

TEXT = "string"
MMBENCH = {
    "index": "int64", "question": TEXT, "hint": TEXT, "answer": TEXT, "A": TEXT, "B": TEXT,
    "C": TEXT, "D": TEXT, "category": TEXT, "image": "image", "source": TEXT,
    "L2-category": TEXT, "comment": TEXT, "split": TEXT,
}  # fmt: skip
# column -> type, in the published order: a type of datasets.Value, "image", [type of a list's
# items], or {field: type}
SCHEMAS: dict[str, dict[str, Any]] = {
    "mmbench_en": MMBENCH,
    "mmbench_cn": MMBENCH,
    "seedbench": {
        "answer": TEXT, "choice_a": TEXT, "choice_b": TEXT, "choice_c": TEXT, "choice_d": TEXT,
        "data_id": TEXT, "data_type": TEXT, "question": TEXT, "question_id": TEXT,
        "question_type_id": "int16", "image": ["image"], "segment": ["int64"],
    },
    "mmmu": {
        "id": TEXT, "question": TEXT, "options": TEXT, "explanation": TEXT,
        **{f"image_{k}": "image" for k in range(1, 8)},
        "img_type": TEXT, "answer": TEXT, "topic_difficulty": TEXT, "question_type": TEXT,
        "subfield": TEXT,
    },
    "mathvista": {
        "pid": TEXT, "question": TEXT, "image": TEXT, "decoded_image": "image", "choices": [TEXT],
        "unit": TEXT, "precision": "float64", "answer": TEXT, "question_type": TEXT,
        "answer_type": TEXT,
        "metadata": {
            "category": TEXT, "context": TEXT, "grade": TEXT, "img_height": "int64",
            "img_width": "int64", "language": TEXT, "skills": [TEXT], "source": TEXT,
            "split": TEXT, "task": TEXT,
        },
        "query": TEXT,
    },
    "textvqa": {
        "image_id": TEXT, "question_id": "int32", "question": TEXT, "question_tokens": [TEXT],
        "image": "image", "image_width": "int32", "image_height": "int32",
        "flickr_original_url": TEXT, "flickr_300k_url": TEXT, "answers": [TEXT],
        "image_classes": [TEXT], "set_name": TEXT, "ocr_tokens": [TEXT],
    },
    "chartqa": {"type": TEXT, "question": TEXT, "answer": TEXT, "image": "image"},
    "realworldqa": {"image": "image", "image_path": TEXT, "question": TEXT, "answer": TEXT},
    "hallusionbench": {
        "category": TEXT, "subcategory": TEXT, "visual_input": TEXT, "set_id": TEXT,
        "figure_id": TEXT, "sample_note": TEXT, "question_id": TEXT, "question": TEXT,
        "gt_answer_details": TEXT, "gt_answer": TEXT, "filename": TEXT, "image": "image",
    },
    "ocrbench": {
        "dataset": TEXT, "question": TEXT, "question_type": TEXT, "answer": [TEXT],
        "image": "image",
    },
}  # fmt: skip


def features(benchmark: str) -> Any:
    """The `datasets.Features` of one benchmark."""
    import datasets

    return datasets.Features(
        {column: _feature(kind) for column, kind in SCHEMAS[benchmark].items()}
    )


def _feature(kind: Any) -> Any:
    import datasets

    if isinstance(kind, list):
        return datasets.List(_feature(kind[0]))
    if isinstance(kind, dict):
        return {name: _feature(field) for name, field in kind.items()}
    return datasets.Image() if kind == "image" else datasets.Value(kind)


def write_parquet(benchmark: str, rows: list[dict[str, Any]], path: Path) -> Path:
    """Write rows (images as file bytes) so that datasets reads the published features back."""
    import datasets

    data = {
        column: [_stored(row.get(column), kind) for row in rows]
        for column, kind in SCHEMAS[benchmark].items()
    }
    return save(datasets.Dataset.from_dict(data, features=features(benchmark)), path)


def save(dataset: Any, path: Path) -> Path:
    """Write a dataset, whole or not at all: no run may trust half a file."""
    with replacing(path) as scratch, contextlib.redirect_stderr(io.StringIO()):  # its progress bar
        dataset.to_parquet(str(scratch))
    return path


def _stored(value: Any, kind: Any) -> Any:
    """Bytes of images as the Image feature keeps them."""
    if kind == ["image"]:
        return [_stored(item, "image") for item in value]
    return {"bytes": value, "path": None} if kind == "image" and value is not None else value
