"""More benchmarks of image understanding: general, documents and yes/no questions."""

from ..lmms.benchmark import Benchmark
from ..lmms.bridge import TaskResult
from ..scoring.right import Outcome, Scored, agree
from ..scoring.statistics import interval
from ..scoring.statistics import score as score_of
from .outcome import outcome
from .share import Doc, column, letter_at, number_of, share

ANSWER, CATEGORY = column("answer"), column("category")
AI2D = letter_at("answer")


def first_answer(doc: Doc) -> str:
    """Any of the accepted answers."""
    return doc["answers"][0]


def score_mme(result: TaskResult) -> Scored:
    """Mean over categories of accuracy and of accuracy+ (both questions about an image right).

    The published numbers are sums of 0–200 a category, perception to 2000, cognition to 800: they
    are in `details`.
    """
    kinds = sorted({sample["doc"]["category"] for sample in result.samples})
    images: dict[str, list[Outcome]] = {}
    for sample in result.samples:
        doc = sample["doc"]
        found = sample.get("mme_perception_score") or sample["mme_cognition_score"]
        unit = f"{doc['category']}/{doc['question_id']}"
        asked, right = doc["question"], doc["answer"]
        images.setdefault(unit, []).append(
            outcome(sample, asked, right, found["score"], unit, doc["category"])
        )
    units = {}
    for unit, outcomes in images.items():
        right = [o.correct for o in outcomes]
        pairs = [(0.0, 0.0)] * (2 * len(kinds))
        k = 2 * kinds.index(outcomes[0].category)
        pairs[k : k + 2] = (sum(right), len(right)), (min(right), 1.0)
        units[unit] = pairs
    official = {
        name: result.metrics[f"mme_{name}_score"]
        for name in ("perception", "cognition")
        if f"mme_{name}_score" in result.metrics
    }
    value = score_of(units)
    agree("MME", value, sum(official.values()) / 2 / len(kinds))
    everything = [o for outcomes in images.values() for o in outcomes]
    # a guess is right in 1 of 2, both guesses about an image in 1 of 4
    return Scored(
        value, len(everything), *interval(units), 37.5, everything, dict(official), units
    )  # fmt: skip


MORE_IMAGE = (
    Benchmark(
        "mmstar", "MMStar", "mmstar", "mmstar", "val", 1500,
        share(
            "average", ANSWER, points=lambda found: found["score"], options=lambda doc: 4,
            category=CATEGORY, part=column("l2_category"),
        ),
        ANSWER, 16, "official",
    ),
    Benchmark(
        "ai2d", "AI2D", "ai2d", "ai2d", "test", 3088,
        share("exact_match", AI2D, options=number_of("options")),
        AI2D, 16, "official", aliases=("AI2D_TEST",),
    ),
    Benchmark(
        "docvqa", "DocVQA-val", "docvqa_val", "docvqa", "validation", 5349,
        share("anls", first_answer), first_answer, 32, "official", aliases=("DocVQA/DocVQA",),
    ),
    Benchmark(
        "infovqa", "InfoVQA-val", "infovqa_val", "infovqa", "validation", 2801,
        share("anls", first_answer), first_answer, 32, "official",
        aliases=("DocVQA/InfographicVQA",),
    ),
    Benchmark(
        "pope", "POPE", "pope", "pope", "test", 9000,
        share(
            "pope_accuracy", ANSWER, points=lambda found: found["score"], options=lambda doc: 2,
            category=CATEGORY,
        ),
        ANSWER, 16, "official",
    ),
    Benchmark(
        "mme", "MME", "mme", "mme", "test", 2374, score_mme, ANSWER, 16, "official",
        rule="mean over categories of accuracy and accuracy+, where published sums reach 2800",
        unit=lambda doc: (doc["category"], doc["question_id"]),
    ),
    Benchmark(
        "scienceqa_img", "ScienceQA-IMG", "scienceqa_img", "scienceqa", "test", 2017,
        share(
            "exact_match", letter_at("answer"),
            options=number_of("choices"), category=column("subject"),
        ),
        letter_at("answer"), 16, "official", aliases=("ScienceQA/ScienceQA-IMG", "ScienceQA_TEST"),
    ),
)  # fmt: skip
