"""Text benchmarks: what a language model must not forget while it learns to see and hear.

MMLU as lmms-eval's generative tasks ask it: zero examples, the letter is generated.
"""

from typing import Any

from ..lmms.benchmark import Benchmark
from .share import letter_at, share

SUBJECTS = {  # two of each of its four areas -> questions in the test split
    "high_school_computer_science": 100,
    "conceptual_physics": 235,
    "philosophy": 311,
    "high_school_world_history": 237,
    "high_school_geography": 198,
    "sociology": 201,
    "nutrition": 306,
    "clinical_knowledge": 265,
}


ANSWER = letter_at("answer")


def mmlu(subject: str, rows: int) -> Benchmark:
    """One subject."""
    return Benchmark(
        f"mmlu_{subject}", f"MMLU {subject.replace('_', ' ')}", f"mmlu_{subject}_generative",
        "mmlu/generative", "test", rows, share("exact_match", ANSWER, options=lambda doc: 4),
        ANSWER, 8, "official", overrides=lambda: from_the_hub(subject),
        aliases=(f"mmlu/{subject}", f"mmlu_no_train/{subject}"), controls=(),
        rule="no examples are shown, the letter is generated",
    )  # fmt: skip


def from_the_hub(subject: str) -> dict[str, Any]:
    """The same rows as parquet, without examples.

    The official copy is a loading script, which datasets no longer runs, and lmms-eval wants the
    split of the examples even where it shows none.
    """
    return {
        "dataset_path": "cais/mmlu", "dataset_name": subject, "dataset_kwargs": {},
        "fewshot_split": None, "fewshot_config": None,
    }  # fmt: skip


TEXT = tuple(mmlu(subject, rows) for subject, rows in SUBJECTS.items())
