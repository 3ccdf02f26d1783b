"""Functions of a checkout of VLMEvalKit, without the packages that it imports around them."""

import __future__

import ast
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

MISC = "vlmeval/smp/misc.py"
MATCHING = "vlmeval/utils/matching_util.py"
CHOICE = "vlmeval/dataset/utils/multiple_choice.py"
VQA = "vlmeval/dataset/utils/vqa_eval.py"
YES_NO = "vlmeval/dataset/utils/yorn.py"
MATHVISTA = "vlmeval/dataset/utils/mathvista.py"
OCR = "vlmeval/dataset/image_vqa.py"
LETTERS = "ABCDEFGHI"


class Kit:
    """What a checkout says of an answer, without a judge.

    Args:
        checkout: its root folder.

    Raises:
        FileNotFoundError: it is none; LookupError: it lacks a function that is compared.
    """

    def __init__(self, checkout: Path) -> None:
        given: dict[str, Any] = {"get_logger": logging.getLogger, "ImageBaseDataset": object}
        shared = ("cn_string", "istype", "listinstr", "process_punctuation")
        misc = load(checkout, MISC, given, *shared)
        given |= {name: misc[name] for name in shared}
        given["can_infer"] = load(checkout, MATCHING, given, "can_infer")["can_infer"]
        given["build_option_str"] = str  # of a prompt to the judge
        self.choice = load(
            checkout, CHOICE, given, "prefetch_circular_group", "eval_vanilla", "MMMU_preproc"
        )
        self.vqa = load(checkout, VQA, given, "process_line", "hit_calculate")
        self.yes_no = load(checkout, YES_NO, given, "YOrN_Extraction")
        self.maths = load(checkout, MATHVISTA, given, "post_check")
        files: dict[str, Any] = {  # a file of answers is the table itself
            "load": lambda table: table,
            "dump": lambda table, file: None,
            "get_intermediate_file_path": lambda file, *name: "",
            "tqdm": lambda rows: rows,
        }
        self.ocr = load(checkout, OCR, given | files, "OCRBench")["OCRBench"]

    def points(self, name: str, doc: dict[str, Any], answer: str) -> float:
        """What the functions for a benchmark give an answer to one of its docs, 0-1."""
        return float(ASKED[name](self, doc, answer))

    def mmbench(self, doc: dict[str, Any], answer: str) -> float:
        """A circle of one copy."""
        options = {k: doc[k] for k in "ABCD" if doc[k] != "nan"}
        item = {"question": doc["question"], "GT": doc["answer"], "prediction": answer} | options
        found = self.choice["prefetch_circular_group"](pd.DataFrame([item]))
        return found["hit"] if found else 0.0

    def choose(self, options: dict[str, str], right: str, answer: str) -> float:
        """A question with options."""
        item = {"question": "", "GT": right, "prediction": answer} | options
        return self.choice["eval_vanilla"](None, item)["hit"]

    def seedbench(self, doc: dict[str, Any], answer: str) -> float:
        """SEED-IMG."""
        options = {k: doc[f"choice_{k.lower()}"] for k in "ABCD"}
        return self.choose(options, doc["answer"], answer)

    def realworldqa(self, doc: dict[str, Any], answer: str) -> float:
        """Its options have columns of their own there, and here lines of the question."""
        lines = [line.split(". ", 1) for line in doc["question"].splitlines()[1:-1]]
        return self.choose(dict(lines), doc["answer"], answer)

    def mmmu(self, doc: dict[str, Any], answer: str) -> float:
        """Open questions are made over into two options."""
        texts = ast.literal_eval(doc["options"])
        options = dict(zip(LETTERS, [*texts, None, None][: max(2, len(texts))], strict=False))
        table = pd.DataFrame([options | {"answer": doc["answer"]}], dtype=object)
        row = self.choice["MMMU_preproc"](table).iloc[0].to_dict()
        right = row.pop("answer")
        return self.choose(row, right if right in LETTERS else "A", answer)

    def hallusionbench(self, doc: dict[str, Any], answer: str) -> float:
        """One answer."""
        right = "Yes" if doc["gt_answer"] == "1" else "No"
        return self.yes_no["YOrN_Extraction"](answer) == right

    def mathvista(self, doc: dict[str, Any], answer: str) -> float:
        """The answer where the judge's extraction would be."""
        line = doc | {"res": answer, "prediction": answer, "choices": repr(doc["choices"])}
        if doc["choices"]:
            line["answer_option"] = LETTERS[doc["choices"].index(doc["answer"])]
        return self.maths["post_check"](line)

    def textvqa(self, doc: dict[str, Any], answer: str) -> float:
        """VQA accuracy."""
        return self._short(repr(doc["answers"]), answer, "vqa_score", "TextVQA_VAL")

    def chartqa(self, doc: dict[str, Any], answer: str) -> float:
        """Relaxed accuracy."""
        return self._short(doc["answer"], answer, "relaxed_accuracy", "ChartQA_TEST")

    def _short(self, right: str, answer: str, method: str, dataset: str) -> float:
        line = self.vqa["process_line"]({"answer": right, "prediction": answer}, method)
        return self.vqa["hit_calculate"]([line], dataset)[0]

    def ocrbench(self, doc: dict[str, Any], answer: str) -> float:
        """Its whole evaluation, of one row."""
        row = {"answer": repr(doc["answer"]), "category": doc["question_type"]}
        return self.ocr.evaluate(pd.DataFrame([row | {"prediction": answer}]))["Final Score"]


ASKED: dict[str, Callable[[Kit, dict[str, Any], str], Any]] = {
    "mmbench_en": Kit.mmbench, "mmbench_cn": Kit.mmbench, "seedbench": Kit.seedbench,
    "mmmu": Kit.mmmu, "hallusionbench": Kit.hallusionbench, "realworldqa": Kit.realworldqa,
    "mathvista": Kit.mathvista, "textvqa": Kit.textvqa, "chartqa": Kit.chartqa,
    "ocrbench": Kit.ocrbench,
}  # fmt: skip


def load(checkout: Path, file: str, given: dict[str, Any], *wanted: str) -> dict[str, Any]:
    """Run the functions and constants of one file, and of its classes those that are wanted.

    Its imports of VLMEvalKit itself, and of what is not installed here, are left out; `given` has
    what it needs of them.

    Raises:
        FileNotFoundError: there is no such file; LookupError: it lacks what is wanted.
    """
    path = checkout / file
    if not path.is_file():
        raise FileNotFoundError(f"{checkout} has no {file}: it is no checkout of VLMEvalKit")
    found = dict(given)
    kinds = (ast.FunctionDef, ast.Assign, ast.Import, ast.ImportFrom)
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        named = isinstance(node, ast.ClassDef) and node.name in wanted
        if not (named or isinstance(node, kinds)) or _of_itself(node):
            continue
        module = ast.Module([node], [])
        code = compile(module, str(path), "exec", __future__.annotations.compiler_flag)
        try:
            exec(code, found)
        except (ImportError, NameError):  # what needs it will say so when it is called
            continue
        found.update(given)
    if missing := [name for name in wanted if name not in found]:
        raise LookupError(f"{path} has no {', '.join(missing)}: its version is another than ours")
    return found


def _of_itself(node: ast.stmt) -> bool:
    return isinstance(node, ast.ImportFrom) and (
        node.level > 0 or str(node.module).startswith("vlmeval")
    )
