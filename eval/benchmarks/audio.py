"""Benchmarks of hearing: transcripts in English and Chinese, and questions about sounds.

AISHELL and OpenAudioBench are not among lmms-eval's tasks; Common Voice is its Chinese transcript
with characters counted, and VoiceBench has the spoken questions that need no judge.
"""

import contextlib
import io
import json
from collections.abc import Callable
from importlib import import_module
from types import SimpleNamespace
from typing import Any

from ..lmms.benchmark import Benchmark
from ..lmms.bridge import TaskResult
from ..scoring.right import Scored, agree
from ..scoring.statistics import interval
from .luck import NO_DRAW, without_luck
from .outcome import outcome
from .share import Doc, column, letter, share

RATE = "100 less the error rate, so that more is better"


def score_transcripts(module: str, text: str) -> Callable[[TaskResult], Scored]:
    """100 less the official error rate, at least 0: better is more in every row of a table.

    The rate counts words, of Chinese characters; it stands in `details`. `text` is the column of
    the transcript.
    """

    def score(result: TaskResult) -> Scored:
        utils: Any = import_module(f"lmms_eval.tasks.{module}.utils")
        found = [sample["wer"] for sample in result.samples]
        language = found[0]["task"].removeprefix("asr_")
        counted = _edits(utils, [f["gt"] for f in found], [f["pred"] for f in found], language)
        outcomes, units = [], {}
        for sample, (edits, length) in zip(result.samples, counted, strict=True):
            doc, right = str(sample["doc_id"]), sample["doc"][text]
            share = max(0.0, 1 - edits / max(1, length))
            outcomes.append(outcome(sample, "transcribe", right, share))
            units[doc] = [(length - edits, length)]
        rate = 100 * sum(edits for edits, _ in counted) / sum(length for _, length in counted)
        agree("error rate", rate, result.metrics["wer"])
        low, high = (max(0.0, end) for end in interval(units))
        details = {"error_rate": rate}
        score = max(0.0, 100 - rate)
        return Scored(score, len(outcomes), low, high, 0.0, outcomes, details, units)

    return score


def _edits(utils: Any, right: list[str], heard: list[str], language: str) -> list[tuple[int, int]]:
    """Of each transcript the edits to the right one and its length, as the official code counts.

    It returns their quotient over all docs; the edits are overheard where it asks for them.
    """
    import editdistance
    from lmms_eval.tasks import asr_wer_utils

    counted: list[tuple[int, int]] = []

    def overhear(reference: list[str], transcript: list[str]) -> int:
        edits = editdistance.eval(reference, transcript)
        counted.append((edits, len(reference)))
        return edits

    asr_wer_utils.ed = SimpleNamespace(eval=overhear)  # type: ignore[assignment]
    try:
        texts = ([utils.remove_sp(text, language) for text in side] for side in (right, heard))
        with contextlib.redirect_stdout(io.StringIO()):
            utils.compute_wer(*texts, language)
    finally:
        asr_wer_utils.ed = editdistance
    return counted


def mmau_letter(doc: Doc) -> str:
    """Of the right one of the choices, which are text in JSON."""
    return letter(json.loads(doc["choices"]).index(doc["answer"]))


def mmau_wrong(doc: Doc) -> dict[str, Any]:
    """What the official code returns for a wrong answer."""
    return {"accuracy": {"overall": 0.0, "task": doc["task"]}, "submission": {}}


def librispeech(part: str, rows: int) -> Benchmark:
    """One of its two test sets."""
    return Benchmark(
        f"librispeech_{part}", f"LibriSpeech {part.replace('_', '-')} (100 − WER)",
        f"librispeech_{part}", "librispeech", f"librispeech_{part}", rows,
        score_transcripts("librispeech", "gt"), column("gt"), 256, "official",
        aliases=(f"librispeech/librispeech_{part}",), controls=(), rule=RATE,
    )  # fmt: skip


AUDIO = (
    librispeech("test_clean", 2620),
    librispeech("test_other", 2939),
    Benchmark(
        "common_voice_15_zh", "Common Voice 15 zh-CN (100 − CER)", "common_voice_15_zh-CN",
        "common_voice_15", "test", 10625, score_transcripts("common_voice_15", "sentence"),
        column("sentence"), 256, "official", aliases=("common_voice_15/zh-CN",), controls=(),
        rule=RATE,
    ),
    Benchmark(
        "mmau_mini", "MMAU test-mini", "mmau_test_mini", "mmau", "test_mini", 1000,
        share(
            "accuracy", mmau_letter, points=lambda found: found["overall"], scale=1.0,
            category=column("task"), options=lambda doc: len(json.loads(doc["choices"])),
        ),
        mmau_letter, 16, "official", aliases=("mmau",), controls=(), rule=NO_DRAW,
        overrides=without_luck("mmau", "mmau_process_results", mmau_wrong),
    ),
    Benchmark(
        "voicebench_openbookqa", "VoiceBench OpenBookQA", "voicebench_openbookqa", "voicebench",
        "test", 455,
        share(
            "accuracy", column("reference"), question="prompt", options=lambda doc: 4,
            points=lambda found: found / 100, scale=1.0,
        ),
        column("reference"), 256, "official", aliases=("voicebench/openbookqa",),
        controls=(),
    ),
)  # fmt: skip
