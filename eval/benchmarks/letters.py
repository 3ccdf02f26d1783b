"""Benchmarks answered with the letter of an option: MMBench, SEED, RealWorldQA, MMMU."""

import ast
from typing import Any

from ..lmms.bridge import TaskResult
from ..scoring.right import Outcome, Scored, agree, circular, majority, proportion
from .outcome import outcome

COPY = 1_000_000  # what MMBench adds to the index of each rotated copy
NO_OPTION = (None, "", "nan")  # tables that went through TSV say "nan"


def score_mmbench(result: TaskResult) -> Scored:
    """Circular, static: each copy through the official evaluator, then every copy must be right."""
    from lmms_eval.tasks.mmbench.mmbench_evals import MMBench_Evaluator

    outcomes, options = mmbench_outcomes(result, MMBench_Evaluator(), static=True)
    return circular(outcomes, options, result.metrics["gpt_eval_score"])


def mmbench_outcomes(
    result: TaskResult, evaluator: Any, static: bool
) -> tuple[list[Outcome], dict[str, int]]:
    """Every copy through the official evaluator, and how many options each question has."""
    import pandas as pd

    outcomes, options = [], {}
    for sample in result.samples:
        row = sample["gpt_eval_score"]
        group = str(row["index"] % COPY)
        copy = pd.DataFrame([row])
        right = evaluator.eval_sub_data(copy, {row["index"]: row["answer"]}, static_only=static)
        found = outcome(sample, row["question"], row["answer"], right, group, row["category"])
        outcomes.append(found)
        options[group] = sum(row[letter] not in NO_OPTION for letter in "ABCD")
    return outcomes, options


def mmbench_cn_overrides() -> dict[str, Any]:
    """Score like the English static task, and never write the hint "nan" into the question."""
    from lmms_eval.tasks.mmbench import cn_utils

    def score(results: list[dict[str, Any]], args: Any) -> float:
        share: Any = cn_utils.mmbench_evaluator.eval_result(results, eval_method="static")[0]
        return 100 * share

    def text(doc: dict[str, Any], lmms_eval_specific_kwargs: Any = None) -> str:
        hint = None if doc["hint"] in NO_OPTION else doc["hint"]
        return cn_utils.mmbench_doc_to_text({**doc, "hint": hint}, lmms_eval_specific_kwargs)

    metric = {"metric": "gpt_eval_score", "aggregation": score, "higher_is_better": True}
    return {"doc_to_text": text, "metric_list": [metric]}


def score_realworldqa(result: TaskResult) -> Scored:
    """The official letter extraction; chance is the most frequent letter."""
    outcomes = [
        outcome(s, s["doc"]["question"], s["doc"]["answer"], s["exact_match"])
        for s in result.samples
    ]
    scored = proportion(outcomes, majority([o.expected for o in outcomes]))
    agree("exact match", scored.score, 100 * result.metrics["exact_match"])
    return scored


SEED_TYPES = (
    "Scene Understanding", "Instance Identity", "Instance Attributes", "Instance Location",
    "Instances Counting", "Spatial Relation", "Instance Interaction", "Visual Reasoning",
    "Text Understanding",
)  # fmt: skip
"""of question_type_id 1 to 9, those of images; https://github.com/AILab-CVPR/SEED-Bench"""


def score_seed(result: TaskResult) -> Scored:
    """The official first character; `any_form` in `details` reads the letter out of a sentence."""
    from lmms_eval.tasks._task_utils.mcq_extract import extract_mcq_answer

    outcomes, any_form = [], 0
    for sample in result.samples:
        doc, found = sample["doc"], sample["seed_image"]
        right = found["pred"].lower().strip() == found["answer"].lower().strip()
        kind = SEED_TYPES[int(doc["question_type_id"]) - 1]
        outcomes.append(outcome(sample, doc["question"], doc["answer"], right, category=kind))
        any_form += extract_mcq_answer(outcomes[-1].answer, list("ABCD")) == doc["answer"]
    chance = majority([o.expected for o in outcomes])
    scored = proportion(outcomes, chance, any_form=100 * any_form / len(outcomes))
    agree("image accuracy", scored.score, 100 * result.metrics["seed_image"])
    return scored


def seed_overrides() -> dict[str, Any]:
    """Images only, as SEED-IMG is; and no seed_submission.json in the working folder."""
    from lmms_eval.tasks.seedbench.utils import seed_aggregation_result

    def images(docs: Any) -> Any:  # input_columns: no image is decoded to read the type
        return docs.filter(lambda kind: kind == "image", input_columns=["data_type"])

    metric = {
        "metric": "seed_image", "aggregation": seed_aggregation_result, "higher_is_better": True
    }  # fmt: skip
    return {"process_docs": images, "metric_list": [metric]}


class NoDraw(list):
    """Options of which `random.choice` draws "": the official parser indexes only to guess."""

    def __getitem__(self, index: Any) -> Any:
        return ""


def score_mmmu(result: TaskResult) -> Scored:
    """The official parser without its guess. Chance: one of the options, and 0 for open questions.

    `unparsable` in `details` counts answers without a letter, which the official code guesses.
    """
    from lmms_eval.tasks.mmmu.utils import evaluate_mmmu

    outcomes, unparsable, chance = [], 0, 0.0
    for sample in result.samples:
        doc, found = sample["doc"], sample["mmmu_acc"]
        verdict: Any = evaluate_mmmu([found])
        right, domain = verdict[1]["acc"] == 1, _domain(found["subdomain"])
        outcomes.append(outcome(sample, doc["question"], doc["answer"], right, category=domain))
        unparsable += found["parsed_pred"] == [""]
        if doc["question_type"] == "multiple-choice":
            chance += 100 / len(ast.literal_eval(doc["options"]))
    scored = proportion(outcomes, chance / len(outcomes), unparsable=unparsable)
    agree("MMMU accuracy", scored.score, 100 * result.metrics["mmmu_acc"])
    return scored


def _domain(subject: str) -> str:
    from lmms_eval.tasks.mmmu.utils import DOMAIN_CAT2SUB_CAT

    return next((name for name, known in DOMAIN_CAT2SUB_CAT.items() if subject in known), subject)


def mmmu_overrides() -> dict[str, Any]:
    """An answer without a letter is wrong; the official code draws one, differently each run."""
    from lmms_eval.tasks._task_utils.mmmu_mcq_utils import parse_mmmu_multi_choice_response
    from lmms_eval.tasks.mmmu import utils

    def process(doc: dict[str, Any], results: list[str]) -> dict[str, Any]:
        scored = utils.mmmu_process_results(doc, results)
        if doc["question_type"] == "multiple-choice":
            by_letter, letters = utils.get_multi_choice_info(ast.literal_eval(doc["options"]))
            scored["mmmu_acc"]["parsed_pred"] = [
                parse_mmmu_multi_choice_response(text, NoDraw(letters), by_letter)
                for text in results
            ]
        return {"mmmu_acc": scored["mmmu_acc"]}

    return {"process_results": process}
