"""Tables as VLMEvalKit has them -> rows of the published schemas.

There a row has an `index`, its options in columns A, B, C ..., its image as base64, a list of
them as text, or the index of the row that has it, or the names of files in `image_path`.
"""

import ast
import re
import string
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..benchmarks.letters import SEED_TYPES
from ..benchmarks.vlmeval import FORMULAS
from ..lmms.benchmark import Benchmark
from ..lmms.bridge import prepare

Row = dict[str, Any]
REFERENCE = 64  # characters; a shorter image cell names the row that has the image
ONE_WORD = "Please answer directly with a single word or number."
KINDS = {"textrecognition": "textunderstanding"}  # what SEED-Bench calls one kind elsewhere


def is_kit(file: Path, rows: Sequence[Row]) -> bool:
    """Whether a file has VLMEvalKit's layout."""
    columns = {str(name).lower() for row in rows[:1] for name in row}
    images = columns & {"image", "image_path"}
    return file.suffix in (".tsv", ".csv") and {"index", "question"} <= columns and bool(images)


def published(benchmark: Benchmark, rows: Sequence[Row], folder: Path) -> list[Row]:
    """The rows of the benchmark's split with the columns that lmms-eval reads.

    Args:
        folder: of the table, below which `image_path` lies.

    Raises:
        ValueError: the layout is not known for this benchmark, or a row cannot be read; names it.
    """
    if benchmark.name not in TABLES:
        raise ValueError(f"VLMEvalKit's layout of {benchmark.title} is not known here")
    rows = [{_column(name): value for name, value in row.items()} for row in rows]
    images = {str(row["index"]): row["image"] for row in reversed(rows) if _whole(row.get("image"))}
    if benchmark.split in {row.get("split") for row in rows}:
        rows = [row for row in rows if row["split"] == benchmark.split]
    found = []
    for row in rows:
        try:
            shown = _images(row, images, folder)
            if shown or benchmark.name not in WITH_IMAGE_ONLY:
                found.append(TABLES[benchmark.name](row, shown))
        except KeyError as error:
            raise ValueError(f"there is no column {error}") from error
        except ValueError as error:
            raise ValueError(f"the row of index {row['index']}: {error}") from error
    return found


def _column(name: Any) -> str:
    return name if name in string.ascii_uppercase else str(name).lower()


def _whole(cell: Any) -> bool:
    return isinstance(cell, str) and len(cell) > REFERENCE


def _images(row: Row, images: dict[str, str], folder: Path) -> list[str]:
    """Of one row: base64, or files as paths relative to `folder`."""
    cell = row.get("image")
    if not cell:
        return [_file(name, folder) for name in _listed(row.get("image_path"))]
    if not _whole(cell) and cell in images:
        cell = images[cell]
    return [_image(item, images, folder) for item in _listed(cell)]


def _image(item: str, images: dict[str, str], folder: Path) -> str:
    if item.startswith("["):
        raise ValueError("its list of images does not end")
    if _whole(item):
        return item
    if item in images and not images[item].startswith("["):
        return images[item]
    return _file(item, folder)


def _file(name: str, folder: Path) -> str:
    """Where VLMEvalKit would have a file: beside the table, or in images/NAME of the benchmark."""
    for place in (folder, *sorted(folder.glob("images/*"))):
        if (place / name).is_file():
            return str((place / name).relative_to(folder))
    raise ValueError(f"its image {name} is no row's index, and no file below {folder}")


def _listed(cell: Any) -> list[str]:
    """The items of a list that is written as text; else the text alone, or nothing."""
    if cell is None or cell == "":
        return []
    if isinstance(cell, str) and cell.startswith("[") and cell.endswith("]"):
        with suppress(ValueError, SyntaxError):  # a text may stand in brackets
            return [str(item) for item in ast.literal_eval(cell)]
    return [str(cell)]


def _only(images: list[str]) -> str | None:
    if len(images) > 1:
        raise ValueError(f"it has {len(images)} images where the published schema has one")
    return images[0] if images else None


def _options(row: Row) -> dict[str, str]:
    """Letter -> text, of an unbroken row of options from A."""
    found = {k: row[k] for k in string.ascii_uppercase if row.get(k) not in (None, "")}
    if list(found) != list(string.ascii_uppercase[: len(found)]):
        raise ValueError(f"its options are {', '.join(found)}, with a gap")
    return found


def _number(row: Row, options: Sequence[str]) -> int:
    """Of the right option."""
    if row["answer"] not in string.ascii_uppercase[: len(options)]:
        raise ValueError(f"its answer {row['answer']!r} is none of {len(options)} options")
    return string.ascii_uppercase.index(row["answer"])


def _plain(text: str) -> str:
    """ "Instances Counting" and "instance_counting" alike."""
    return "".join(word.rstrip("s") for word in re.findall("[a-z]+", text.lower()))


def _mmbench(row: Row, images: list[str]) -> Row:
    if not _options(row):
        raise ValueError("it has no options")
    wanted = {name: row[name] for name in ("index", "question", "answer", "category")}
    others = dict.fromkeys(("hint", *"ABCD", "source", "l2-category", "comment", "split"))
    return {**others, **row, **wanted, "image": _only(images)}


def _seedbench(row: Row, images: list[str]) -> Row:
    options = _options(row)
    if len(options) != 4:
        raise ValueError(f"it has {len(options)} options, not 4")
    kinds, kind = [_plain(kind) for kind in SEED_TYPES], _plain(row["category"] or "")
    kind = KINDS.get(kind, kind)
    if kind not in kinds:
        raise ValueError(f"its category {row['category']!r} is none of {', '.join(SEED_TYPES)}")
    return {
        **{f"choice_{k.lower()}": text for k, text in options.items()},
        "answer": row["answer"], "question": row["question"], "image": images,
        "data_type": "image", "data_id": row["index"], "segment": [],
        "question_id": row.get("question_id") or row["index"],
        "question_type_id": kinds.index(kind) + 1,
    }  # fmt: skip


def _mmmu(row: Row, images: list[str]) -> Row:
    options, name = _options(row), row.get("id") or ""
    if not re.fullmatch(r"[^_]+_.+_\d+", name):
        subject = row["category"].replace(" ", "_")
        name = f"validation_{subject}_{re.sub(r'[^0-9]', '', str(row['index'])) or 0}"
    if len(images) > 7:
        raise ValueError(f"it has {len(images)} images, of 7 at most")
    return {
        "id": name, "question": row["question"], "options": str(list(options.values())),
        "question_type": "multiple-choice" if options else "open", "answer": row["answer"],
        **{f"image_{k + 1}": images[k] if k < len(images) else None for k in range(7)},
    }  # fmt: skip


def _hallusionbench(row: Row, images: list[str]) -> Row:
    """Its index is CATEGORY_SUBCATEGORY_VISUAL_SET_FIGURE_QUESTION."""
    parts = str(row["index"]).split("_")
    if len(parts) != 6:
        raise ValueError("an index as VD_illusion_1_0_1_2 is wanted")
    category, kind, visual, figures, figure, question = parts
    truth = {"yes": "1", "no": "0"}.get(str(row["answer"]).lower())
    if truth is None:
        raise ValueError(f"its answer {row['answer']!r} is neither Yes nor No")
    return {
        "category": category, "subcategory": kind, "visual_input": visual, "set_id": figures,
        "figure_id": figure, "question_id": question, "question": row["question"],
        "gt_answer": truth, "image": _only(images), "sample_note": "",
        "gt_answer_details": row.get("gt_answer_details") or row["answer"],
        "filename": row.get("image_path"),
    }  # fmt: skip


def _realworldqa(row: Row, images: list[str]) -> Row:
    prepare()
    from lmms_eval.tasks.realworldqa.utils import REPLACE_PROMPT

    lines, options = [row["question"]], _options(row)
    if options and not re.search(r"^A\. ", row["question"], re.MULTILINE):
        lines += [f"{k}. {text}" for k, text in options.items()]
    if "please answer" not in row["question"].lower():
        lines.append(REPLACE_PROMPT if options else ONE_WORD)
    image, name = _only(images), row.get("image_path")
    return {
        "question": "\n".join(lines), "answer": row["answer"], "image": image, "image_path": name
    }  # fmt: skip


def _mathvista(row: Row, images: list[str]) -> Row:
    """Its question is all that the model is asked: a hint, the question, the choices."""
    asked = re.search(r"Question:\s*(.*?)\s*(?:\nChoices:.*)?\Z", row["question"], re.DOTALL)
    choices = _listed(row.get("choices")) or list(_options(row).values()) or None
    answer, kind = row["answer"], row["answer_type"]
    if choices and answer not in choices:
        answer = choices[_number({"answer": row.get("answer_option") or answer}, choices)]
    precision = row.get("precision")
    if precision in (None, ""):  # it follows from the answer that is wanted
        precision = len(str(answer).partition(".")[2]) if kind == "float" else 0
    return {
        "pid": row.get("pid") or row["index"], "query": row["question"],
        "question": asked[1] if asked else row["question"], "decoded_image": _only(images),
        "image": row.get("image_path"), "choices": choices, "unit": row.get("unit"),
        "precision": precision, "answer": answer, "question_type": row["question_type"],
        "answer_type": kind,
        "metadata": {
            **{k: row.get(k) for k in ("category", "context", "grade", "language", "source")},
            "img_height": None, "img_width": None, "skills": _listed(row.get("skills")),
            "split": "testmini", "task": row["task"],
        },
    }  # fmt: skip


def _textvqa(row: Row, images: list[str]) -> Row:
    name = str(row.get("question_id") or row["index"])
    if not name.isdigit():
        raise ValueError(f"its number {name!r} is none")
    return {
        "image_id": row.get("image_id"), "question_id": name, "question": row["question"],
        "answers": _answers(row), "image": _only(images),
    }  # fmt: skip


def _answers(row: Row) -> list[str]:
    return _listed(row["answers"] if "answers" in row else row["answer"])


def _chartqa(row: Row, images: list[str]) -> Row:
    named = str(row["type"] if "type" in row else row["split"]).lower()
    kinds = [kind for kind in ("human_test", "augmented_test") if kind[:3] in named]
    answers = _listed(row["answer"])
    if len(kinds) != 1 or len(answers) != 1:
        raise ValueError("a split test_human or test_augmented and one answer are wanted")
    question, image = row["question"], _only(images)
    return {"type": kinds[0], "question": question, "answer": answers[0], "image": image}


def _ocrbench(row: Row, images: list[str]) -> Row:
    kind = row["question_type"] if "question_type" in row else row["category"]
    data = row.get("dataset") or ("HME100k" if kind == FORMULAS else kind)
    return {
        "dataset": data, "question": row["question"], "question_type": kind,
        "answer": _listed(row["answer"]), "image": _only(images),
    }  # fmt: skip


def _ai2d(row: Row, images: list[str]) -> Row:
    options = list(_options(row).values())
    number = str(_number(row, options))
    return {
        "question": row["question"], "options": options, "answer": number, "image": _only(images)
    }  # fmt: skip


def _mmstar(row: Row, images: list[str]) -> Row:
    question, options = row["question"], _options(row)
    if options and "Options:" not in question:
        question += "\nOptions: " + ", ".join(f"{k}: {text}" for k, text in options.items())
    return {
        "index": int(row["index"]), "question": question, "answer": row["answer"],
        "category": row["category"], "l2_category": row["l2_category"], "image": _only(images),
    }  # fmt: skip


def _scienceqa(row: Row, images: list[str]) -> Row:
    options = list(_options(row).values())
    return {
        "question": row["question"], "choices": options, "answer": _number(row, options),
        "hint": row.get("hint") or "", "subject": row.get("subject") or row.get("category") or "",
        "image": _only(images),
    }  # fmt: skip


def _yes_no(row: Row, images: list[str], answer: Callable[[str], str], name: str) -> Row:
    if str(row["answer"]).lower() not in ("yes", "no"):
        raise ValueError(f"its answer {row['answer']!r} is neither yes nor no")
    return {
        "question_id": str(row[name]), "question": row["question"], "category": row["category"],
        "answer": answer(row["answer"]), "image": _only(images),
    }  # fmt: skip


def _pope(row: Row, images: list[str]) -> Row:
    return {"id": str(row["index"]), **_yes_no(row, images, str.lower, "index")}


def _mme(row: Row, images: list[str]) -> Row:
    """Both questions about an image are scored together."""
    name = "question_id" if "question_id" in row else "image_path"
    return _yes_no(row, images, str.capitalize, name)


def _document(row: Row, images: list[str]) -> Row:
    return {
        "questionId": str(row.get("questionid") or row["index"]), "question": row["question"],
        "answers": _answers(row), "image": _only(images),
    }  # fmt: skip


TABLES: dict[str, Callable[[Row, list[str]], Row]] = {
    "mmbench_en": _mmbench, "mmbench_cn": _mmbench, "seedbench": _seedbench, "mmmu": _mmmu,
    "hallusionbench": _hallusionbench, "realworldqa": _realworldqa, "mathvista": _mathvista,
    "textvqa": _textvqa, "chartqa": _chartqa, "ocrbench": _ocrbench, "ai2d": _ai2d,
    "mmstar": _mmstar, "scienceqa_img": _scienceqa, "pope": _pope, "mme": _mme,
    "docvqa": _document, "infovqa": _document,
}  # fmt: skip
WITH_IMAGE_ONLY = ("hallusionbench", "scienceqa_img")  # of these the split has no others
