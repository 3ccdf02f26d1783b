"""The image-understanding benchmarks behind Baichuan-Omni-1.5's mean, as lmms-eval defines them."""

from typing import Any

from ..bridge import Sample, TaskResult
from ..official import Benchmark
from ..scoring import Outcome, Scored, circular, majority, proportion, yes_no_sets


def outcome(sample: Sample, question: str, expected: str, correct: float, group="") -> Outcome:
    """One official sample as an `Outcome`."""
    answer = sample["filtered_resps"][0]
    return Outcome(str(sample["doc_id"]), question, expected, answer, float(correct), group)


def score_mmbench(result: TaskResult) -> Scored:
    """Circular, static: each copy through the official evaluator, then every copy must be right."""
    import pandas as pd
    from lmms_eval.tasks.mmbench.mmbench_evals import MMBench_Evaluator

    evaluator = MMBench_Evaluator()
    outcomes, options = [], {}
    for sample in result.samples:
        row = sample["gpt_eval_score"]
        group = str(row["index"] % 1_000_000)
        copy = pd.DataFrame([row])
        right = evaluator.eval_sub_data(copy, {row["index"]: row["answer"]}, static_only=True)
        outcomes.append(outcome(sample, row["question"], row["answer"], right, group))
        options[group] = sum(row[letter] is not None for letter in "ABCD")
    return circular(outcomes, options, result.metrics["gpt_eval_score"])


def score_realworldqa(result: TaskResult) -> Scored:
    """The official letter extraction; chance is the most frequent letter."""
    outcomes = [
        outcome(s, s["doc"]["question"], s["doc"]["answer"], s["exact_match"])
        for s in result.samples
    ]
    return proportion(outcomes, majority([o.expected for o in outcomes]))


def score_hallusion(result: TaskResult) -> Scored:
    """Yes/no rule of the official module: "yes" anywhere in the answer means yes."""
    outcomes, docs = [], []
    for sample in result.samples:
        doc = sample["aAcc"]
        yes = "1" if "yes" in doc["model_prediction"].lower() else "0"
        expected = "Yes" if doc["gt_answer"] == "1" else "No"
        group = f"{doc['category']}/{doc['subcategory']}/{doc['set_id']}"
        outcomes.append(outcome(sample, doc["question"], expected, yes == doc["gt_answer"], group))
        docs.append(doc)
    official = {name: 100 * result.metrics[name] for name in ("aAcc", "qAcc", "fAcc")}
    return yes_no_sets(docs, outcomes, official)


def hallusion_overrides() -> dict[str, Any]:
    """The module's own judge-free aggregations; its yaml has them commented out."""
    from lmms_eval.tasks.hallusion_bench import evaluate_hb

    return {
        "metric_list": [
            {
                "metric": name,
                "aggregation": getattr(evaluate_hb, f"hb_aggregation_result_{name}_intern"),
                "higher_is_better": True,
            }
            for name in ("aAcc", "qAcc", "fAcc")
        ]
    }


def score_ocrbench(result: TaskResult) -> Scored:
    """Share of rows right, and the share of each question type in `details`."""
    outcomes = []
    for sample in result.samples:
        found = sample["ocrbench_accuracy"]
        expected = " | ".join(found["ground_truth"])
        outcomes.append(outcome(sample, sample["doc"]["question"], expected, found["score"]))
    by_type: dict[str, list[float]] = {}
    for sample in result.samples:
        found = sample["ocrbench_accuracy"]
        by_type.setdefault(found["question_type"], []).append(found["score"])
    shares = {kind: 100 * sum(right) / len(right) for kind, right in by_type.items()}
    return proportion(outcomes, majority([o.expected for o in outcomes]), by_type=shares)


def ocrbench_overrides() -> dict[str, Any]:
    """Score per row: the official sum lives in a module global and divides by 1000 whatever n."""
    mean = {"metric": "ocrbench_accuracy", "aggregation": _mean_score, "higher_is_better": True}
    return {"metric_list": [mean]}


def _mean_score(results: list[dict[str, Any]]) -> float:
    return sum(item["score"] for item in results) / len(results)


def ocrbench_truth(doc: dict[str, Any]) -> str:
    """The first accepted text; the official comparison looks for any of them in the answer."""
    return doc["answer"][0]


IMAGE10 = (
    Benchmark(
        "mmbench_en", "MMBench-EN", "mmbench_en_dev_static", "mmbench", "dev", 4329,
        score_mmbench, lambda doc: doc["answer"], 8, "static",
    ),
    Benchmark(
        "hallusionbench", "HallusionBench", "hallusion_bench_image", "hallusion_bench", "image",
        951, score_hallusion, lambda doc: "Yes" if doc["gt_answer"] == "1" else "No", 8, "static",
        overrides=hallusion_overrides,
    ),
    Benchmark(
        "realworldqa", "RealWorldQA", "realworldqa", "realworldqa", "test", 765,
        score_realworldqa, lambda doc: doc["answer"], 8, "official",
    ),
    Benchmark(
        "ocrbench", "OCRBench", "ocrbench", "ocrbench", "test", 1000,
        score_ocrbench, ocrbench_truth, 24, "official", overrides=ocrbench_overrides,
    ),
)  # fmt: skip
