"""HallusionBench: yes/no about figures and their edited copies."""

from typing import Any

from ..lmms.bridge import Sample, TaskResult
from ..scoring.right import Outcome, Scored, yes_no_sets
from .outcome import outcome


def score_hallusion(result: TaskResult) -> Scored:
    """Yes/no rule of the official module: "yes" anywhere in the answer means yes.

    `neither` in `details` counts answers with neither word; the rule takes them for "no".
    """
    outcomes, docs, neither = [], [], 0
    for sample in result.samples:
        doc = sample["aAcc"]
        answer = doc["model_prediction"].lower()
        yes = "1" if "yes" in answer else "0"
        outcomes.append(hallusion_outcome(sample, yes == doc["gt_answer"]))
        docs.append(doc)
        answer = sample["filtered_resps"][0].lower()
        neither += "yes" not in answer and "no" not in answer
    official = {name: 100 * result.metrics[name] for name in ("aAcc", "qAcc", "fAcc")}
    scored = yes_no_sets(docs, outcomes, official)
    scored.details["neither"] = neither
    return scored


def hallusion_outcome(sample: Sample, right: bool) -> Outcome:
    """One answer, resampled with the others about its set of figures."""
    doc = sample["aAcc"]
    group = f"{doc['category']}/{doc['subcategory']}/{doc['set_id']}"
    category = f"{doc['category']} {doc['subcategory']}"
    return outcome(sample, doc["question"], hallusion_truth(doc), right, group, category)


def hallusion_truth(doc: dict[str, Any]) -> str:
    """Yes or No."""
    return "Yes" if doc["gt_answer"] == "1" else "No"


def hallusion_overrides() -> dict[str, Any]:
    """The module's own judge-free aggregations; its yaml has them commented out.

    Without an answer there is the wrong word: the rule would take silence for "no".
    """
    from lmms_eval.tasks.hallusion_bench import evaluate_hb

    def process(doc: dict[str, Any], results: list[str]) -> dict[str, Any]:
        wrong = "No" if hallusion_truth(doc) == "Yes" else "Yes"
        return evaluate_hb.hb_process_results(doc, [results[0] if results[0].strip() else wrong])

    return {
        "process_results": process,
        "metric_list": [
            {
                "metric": name,
                "aggregation": getattr(evaluate_hb, f"hb_aggregation_result_{name}_intern"),
                "higher_is_better": True,
            }
            for name in ("aAcc", "qAcc", "fAcc")
        ],
    }
