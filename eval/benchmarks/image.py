"""The image-understanding benchmarks behind Baichuan-Omni-1.5's mean, as lmms-eval defines them."""

from dataclasses import replace
from typing import Any

from ..lmms.benchmark import Benchmark
from .hallusion import hallusion_overrides, hallusion_truth, score_hallusion
from .judged import judge_hallusion, judge_mathvista, judge_mmbench
from .letters import (
    COPY,
    mmbench_cn_overrides,
    mmmu_overrides,
    score_mmbench,
    score_mmmu,
    score_realworldqa,
    score_seed,
    seed_overrides,
)
from .mathvista import mathvista_overrides, score_mathvista
from .reading import (
    ocrbench_overrides,
    ocrbench_truth,
    score_chartqa,
    score_ocrbench,
    score_textvqa,
    textvqa_overrides,
    textvqa_truth,
)
from .share import column
from .vlmeval import second_figure

ANSWER = column("answer")  # a letter, or a text where a question has no options
CIRCULAR = "a question counts when all its rotated copies are right, read without a judge"


def question(doc: dict[str, Any]) -> int:
    """What a circular copy is a copy of."""
    return doc["index"] % COPY


def figure_set(doc: dict[str, Any]) -> tuple[str, str, str]:
    """The set of figures and questions that are scored together."""
    return doc["category"], doc["subcategory"], doc["set_id"]


TEN = (
    Benchmark(
        "mmbench_en", "MMBench-EN", "mmbench_en_dev_static", "mmbench", "dev", 4329,
        score_mmbench, ANSWER, 8, "static", rule=CIRCULAR, unit=question,
        judged=judge_mmbench, aliases=("MMBench_DEV_EN",),
    ),
    Benchmark(
        "mmbench_cn", "MMBench-CN", "mmbench_cn_dev", "mmbench", "dev", 4329,
        score_mmbench, ANSWER, 8, "static", overrides=mmbench_cn_overrides, rule=CIRCULAR,
        judged=judge_mmbench, unit=question, aliases=("MMBench_DEV_CN",),
    ),
    Benchmark(
        "seedbench", "SEED-IMG", "seedbench", "seedbench", "test", 14232,
        score_seed, ANSWER, 8, "official", overrides=seed_overrides,
        rule="only the first character of an answer counts, as in the official code",
        aliases=("SEEDBench_IMG",),
    ),
    Benchmark(
        "mmmu", "MMMU (val)", "mmmu_val", "mmmu", "validation", 900,
        score_mmmu, ANSWER, 16, "official", overrides=mmmu_overrides,
        rule="an answer without a letter is wrong, where the official code draws one at random",
        aliases=("MMMU_DEV_VAL",),
    ),
    Benchmark(
        "hallusionbench", "HallusionBench", "hallusion_bench_image", "hallusion_bench", "image",
        951, score_hallusion, hallusion_truth, 8, "static", overrides=hallusion_overrides,
        rule='mean of aAcc, qAcc and fAcc; an answer must have one of the words "yes" and "no", '
        "and not the other",
        judged=judge_hallusion, unit=figure_set,
    ),
    Benchmark(
        "realworldqa", "RealWorldQA", "realworldqa", "realworldqa", "test", 765,
        score_realworldqa, ANSWER, 8, "official",
    ),
    Benchmark(
        "mathvista", "MathVista-mini", "mathvista_testmini_format", "mathvista", "testmini", 1000,
        score_mathvista, ANSWER, 24, "static", overrides=mathvista_overrides,
        judged=judge_mathvista, aliases=("MathVista", "MathVista_MINI"),
        rule="answers are read by rule; one in which nothing is found is wrong",
    ),
    Benchmark(
        "textvqa", "TextVQA (val)", "textvqa_val", "textvqa", "validation", 5000,
        score_textvqa, textvqa_truth, 16, "official", overrides=textvqa_overrides,
        aliases=("TextVQA_VAL",),
    ),
    Benchmark(
        "chartqa", "ChartQA", "chartqa", "chartqa", "test", 2500,
        score_chartqa, ANSWER, 16, "official",
        rule='numbers within 5 %; "12%" is not 12, as in the official code',
        aliases=("ChartQA_TEST",),
    ),
    Benchmark(
        "ocrbench", "OCRBench", "ocrbench", "ocrbench", "test", 1000,
        score_ocrbench, ocrbench_truth, 24, "official", overrides=ocrbench_overrides,
        rule="share of the rows that are there, not of 1000",
    ),
)  # fmt: skip

IMAGE10 = tuple(replace(b, score=second_figure(b.name, b.score)) for b in TEN)
