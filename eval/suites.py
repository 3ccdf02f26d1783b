"""Which rows a suite has: the official task of each, its split, its overrides, its scorer."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import own
from .batching import Answerer
from .bridge import TaskResult, load_task, run_task
from .heldout import HeldOut
from .minisuite import build_minisuite
from .scoring import Outcome, Scored, circular, majority, proportion, yes_no_sets

Sample = dict[str, Any]


@dataclass(frozen=True)
class Official:
    """An official lmms-eval task on a local parquet file.

    `how` is "official" where the official code scores, "static" where it does so without the judge
    that the published numbers used.
    """

    name: str
    benchmark: str
    task: str
    folder: str
    split: str
    score: Callable[[TaskResult], Scored]
    max_new_tokens: int
    how: str
    overrides: Callable[[], dict[str, Any]] = dict
    controls: tuple[str, ...] = ("blind",)

    def run(
        self,
        answerer: Answerer,
        held: HeldOut,
        condition: str,
        limit: int | None,
        scratch: Path,
    ) -> Scored:
        """Build the parquet file if needed and run the official task on it.

        `limit` counts units (a question with its rotated copies, a set), never docs.

        Raises:
            own.MissingDataError: the held-out data does not suffice for this benchmark.
        """
        try:
            parquet = build_minisuite(held, self.benchmark, scratch / "parquet", limit)
        except LookupError as error:
            raise own.MissingDataError(str(error)) from error
        task = load_task(
            self.task, self.folder, self.split, [parquet], scratch / "arrow", **self.overrides()
        )
        from .adapter import ChatModel

        chat = ChatModel(answerer, blind=condition == "blind", cap=self.max_new_tokens)
        result = run_task(task, chat, scratch / "official" / self.name / condition)
        return self.score(result)


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


MINI = (
    Official(
        "mini-mmbench_en", "mmbench_en", "mmbench_en_dev_static", "mmbench", "dev",
        score_mmbench, 8, "static",
    ),
    Official(
        "mini-realworldqa", "realworldqa", "realworldqa", "realworldqa", "test",
        score_realworldqa, 8, "official",
    ),
    Official(
        "mini-hallusionbench", "hallusionbench", "hallusion_bench_image", "hallusion_bench",
        "image", score_hallusion, 8, "static", overrides=hallusion_overrides,
    ),
    Official(
        "mini-ocrbench", "ocrbench", "ocrbench", "ocrbench", "test",
        score_ocrbench, 24, "official", overrides=ocrbench_overrides,
    ),
)  # fmt: skip

SUITES: dict[str, tuple[Official | own.Own, ...]] = {"mini": (*MINI, *own.ROWS)}
