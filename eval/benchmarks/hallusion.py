"""HallusionBench: yes/no about figures and their edited copies."""

import re
from typing import Any

from ..lmms.bridge import Sample, TaskResult
from ..scoring.right import Outcome, Scored, yes_no_sets
from .outcome import outcome
from .words import BEGIN, END, narrow

YES_NO = re.compile(f"{BEGIN}(yes|no){END}")


def said(answer: str) -> str:
    """ "Yes" or "No" where the answer has one of the two words and not the other, else ""."""
    found = set(YES_NO.findall(narrow(answer).lower()))
    return found.pop().capitalize() if len(found) == 1 else ""


def score_hallusion(result: TaskResult) -> Scored:
    """Share right by answer, question and figure; `neither` in `details` are those not read."""
    outcomes, docs, neither = [], [], 0
    for sample in result.samples:
        doc, found = sample["aAcc"], said(sample["filtered_resps"][0])
        outcomes.append(hallusion_outcome(sample, found == hallusion_truth(doc)))
        docs.append(doc)
        neither += not found
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


def wrong_word(doc: dict[str, Any]) -> str:
    """The other of the two."""
    return "No" if hallusion_truth(doc) == "Yes" else "Yes"


def hallusion_overrides() -> dict[str, Any]:
    """The module's own judge-free aggregations; its yaml has them commented out.

    Their rule takes "yes" anywhere, in "eyes" too, for yes, and all else for no: silence, and "I
    cannot tell". They get what `said` reads, and the wrong word where that is nothing.
    """
    from lmms_eval.tasks.hallusion_bench import evaluate_hb

    def read(doc: dict[str, Any]) -> dict[str, Any]:
        return {**doc, "model_prediction": said(doc["model_prediction"]) or wrong_word(doc)}

    def share(name: str) -> Any:
        official = getattr(evaluate_hb, f"hb_aggregation_result_{name}_intern")
        return lambda results: official([read(doc) for doc in results])

    return {
        "metric_list": [
            {"metric": name, "aggregation": share(name), "higher_is_better": True}
            for name in ("aAcc", "qAcc", "fAcc")
        ],
    }
