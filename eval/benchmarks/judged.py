"""The three benchmarks of the ten whose published scores were read by a judge."""

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from ..lmms.bridge import TaskResult
from ..lmms.judge import Judge
from ..scoring.right import Scored, circular, yes_no_sets
from .hallusion import hallusion_outcome, wrong_word
from .letters import mmbench_outcomes
from .mathvista import same_value, score_mathvista

NO_LETTER = "Z"  # of MMBench: no answer at all, where the official code draws one
DRAWN = "Failed to predict"
VERDICT = "gpt4v_output_gpt_check"  # column of HallusionBench's judgements


def judge_mmbench(result: TaskResult, judge: Judge) -> Scored:
    """Circular; the judge finds the letter in answers where the official rules find none."""
    from lmms_eval.tasks.mmbench.mmbench_evals import MMBench_Evaluator

    class Evaluator(MMBench_Evaluator):
        def get_chat_response(self, prompt: str, *args: Any, **kwargs: Any) -> str:
            return judge.reply(prompt, 256)

        def extract_answer_from_item(self, item: Any) -> tuple[str, str]:
            letter, text = map(str, super().extract_answer_from_item(item) or ("", ""))
            return (NO_LETTER if text.startswith(DRAWN) else letter), text

    def score() -> Scored:
        evaluator = Evaluator()
        outcomes, options = mmbench_outcomes(result, evaluator, static=False)
        rows = [sample["gpt_eval_score"] for sample in result.samples]
        with _silence():
            overall: Any = evaluator.eval_result(rows, eval_method="openai")[0]
        return circular(outcomes, options, 100 * overall)

    return judge.hear(score, "MMBench")


def judge_hallusion(result: TaskResult, judge: Judge) -> Scored:
    """The judge says of every answer whether it conflicts with the reference.

    As in the official code a figure that is not there asks for nothing to be seen: it is no figure
    of fAcc, and an unclear answer to it is right.
    """
    from lmms_eval.tasks.hallusion_bench import utils

    def post(url: str, json: dict[str, Any], **rest: Any) -> Any:
        text = judge.reply(json["messages"][0]["content"], json["max_tokens"]) or "incorrect"
        reply = {"choices": [{"message": {"content": text}}]}
        return SimpleNamespace(raise_for_status=lambda: None, json=lambda: reply)

    def score() -> Scored:
        docs = [dict(sample["aAcc"]) for sample in result.samples]
        for doc in docs:  # silence is wrong, whatever a judge makes of it
            if not doc["model_prediction"].strip():
                doc["model_prediction"] = wrong_word(doc)
        with (
            _replaced(utils, requests=SimpleNamespace(post=post)),
            tempfile.TemporaryDirectory() as folder,
            _silence(),
        ):
            for doc in docs:  # one by one: it writes all that it judged so far after each
                file = Path(folder) / "judged.json"
                utils.evaluate_by_chatgpt(
                    [doc], "model_prediction", VERDICT, judge.name, save_json_path=str(file)
                )
            utils.assign_correctness(docs, VERDICT)
        outcomes = [
            hallusion_outcome(sample, bool(doc["correct"]))
            for sample, doc in zip(result.samples, docs, strict=True)
        ]
        counted = {
            "aAcc": utils.get_eval_all(docs, VERDICT),
            "qAcc": utils.get_eval_pair_all(docs, VERDICT),
            "fAcc": utils.get_eval_fig(docs),
        }
        official = {name: 100 * n["correct"] / n["total"] for name, n in counted.items()}
        figures = [doc | {"figure_id": _figure(doc)} for doc in docs]
        return yes_no_sets(figures, outcomes, official)

    return judge.hear(score, "HallusionBench")


def judge_mathvista(result: TaskResult, judge: Judge) -> Scored:
    """The judge extracts the value; silence is wrong, officially the shortest choice."""
    from lmms_eval.tasks.mathvista import utils

    evaluator = utils.mathvista_evaluator

    def ask(prompt: str, *args: Any, **kwargs: Any) -> str:
        return judge.reply(prompt, 256)

    def score() -> Scored:
        samples = []
        with _replaced(evaluator, get_chat_response=ask):
            for sample in result.samples:
                doc, answer = sample["doc"], sample["filtered_resps"][0].strip()
                extraction = evaluator.extract_answer(answer, doc)
                found = {"extraction": extraction, "true_false": same_value(doc, extraction)}
                samples.append({**sample, "llm_as_judge_eval": found})
        return score_mathvista(TaskResult(result.metrics, samples))

    return judge.hear(score, "MathVista")


def _figure(doc: dict[str, Any]) -> str:
    no_figure = doc["category"] == "VS" and str(doc["figure_id"]) == "0"
    return "" if no_figure else doc["figure_id"]


@contextlib.contextmanager
def _replaced(owner: Any, **attributes: Any) -> Iterator[None]:
    """Give a module or object other attributes for a while."""
    before = {name: getattr(owner, name) for name in attributes}
    for name, value in attributes.items():
        setattr(owner, name, value)
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(owner, name, value)


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """The official scorers print their tables and progress."""
    with (
        open("/dev/null", "w") as nowhere,
        contextlib.redirect_stdout(nowhere),
        contextlib.redirect_stderr(nowhere),
    ):
        yield
