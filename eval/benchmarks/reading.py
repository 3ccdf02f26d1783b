"""Benchmarks answered with what is written or drawn: TextVQA, ChartQA, OCRBench."""

from collections import Counter
from typing import Any

from ..lmms.bridge import TaskResult
from ..scoring.right import Scored, agree, majority, proportion
from .outcome import outcome
from .share import mean_of


def score_textvqa(result: TaskResult) -> Scored:
    """Official VQA accuracy: min(1, k/3) of the other nine annotators, averaged over the ten.

    Chance is the most frequent truth. Three of ten agreeing give 0.9, four give 1.
    """
    outcomes = []
    for sample in result.samples:
        doc = sample["doc"]
        accepted = " | ".join(dict(Counter(doc["answers"]).most_common()))
        outcomes.append(outcome(sample, doc["question"], accepted, sample["exact_match"]))
    chance = majority([textvqa_truth(sample["doc"]) for sample in result.samples])
    scored = proportion(outcomes, chance)
    agree("VQA accuracy", scored.score, 100 * result.metrics["exact_match"])
    return scored


def textvqa_overrides() -> dict[str, Any]:
    """Keep the answers of the annotators, which the official code normalises in place."""
    from lmms_eval.tasks.textvqa import utils

    def process(doc: dict[str, Any], results: list[str]) -> dict[str, Any]:
        answers = list(doc["answers"])
        scored = utils.textvqa_process_results(doc, results)
        scored["submission"]["answers"] = answers
        return scored

    return {"process_results": process}


def textvqa_truth(doc: dict[str, Any]) -> str:
    """What most annotators said."""
    return Counter(doc["answers"]).most_common(1)[0][0]


def score_chartqa(result: TaskResult) -> Scored:
    """Official relaxed accuracy, 5 % for numbers; the two halves are categories."""
    outcomes = [
        outcome(
            s, s["doc"]["question"], s["doc"]["answer"], s["relaxed_overall"],
            category="human" if s["doc"]["type"] == "human_test" else "augmented",
        )
        for s in result.samples
    ]  # fmt: skip
    scored = proportion(outcomes, majority([o.expected.lower() for o in outcomes]))
    agree("relaxed accuracy", scored.score, 100 * result.metrics["relaxed_overall"])
    return scored


def score_ocrbench(result: TaskResult) -> Scored:
    """Share of rows right; the ten question types are categories."""
    outcomes = []
    for sample in result.samples:
        found = sample["ocrbench_accuracy"]
        expected = " | ".join(found["ground_truth"])
        question, kind = sample["doc"]["question"], found["question_type"]
        outcomes.append(outcome(sample, question, expected, found["score"], category=kind))
    return proportion(outcomes, majority([o.expected for o in outcomes]))


def ocrbench_overrides() -> dict[str, Any]:
    """Score per row: the official sum lives in a module global and divides by 1000 whatever n."""
    mean = mean_of("score")
    metric = {"metric": "ocrbench_accuracy", "aggregation": mean, "higher_is_better": True}
    return {"metric_list": [metric]}


def ocrbench_truth(doc: dict[str, Any]) -> str:
    """The first accepted text; the official comparison looks for any of them in the answer."""
    return doc["answer"][0]
