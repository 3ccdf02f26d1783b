"""MathVista without a judge: the answer is found by rule, then compared by the official code."""

import ast
import re
import string
from collections.abc import Sequence
from typing import Any

from ..lmms.bridge import TaskResult
from ..scoring.right import Scored, normalise, proportion
from .outcome import outcome
from .share import mean_of
from .words import BEGIN, CHINESE, END, narrow

NUMBER = re.compile(
    rf"(?:(?<![\w.])|(?<=[{CHINESE}]))-?(?:\d{{1,3}}(?:,\d{{3}})+(?:\.\d+)?|\d*\.?\d+)"
)
ARTICLE = re.compile(r"(?:^|(?<=[.!?]\s))A\s+(?=[a-z])")  # "A cat", but not "It is A, because"
# a letter that stands alone, marked or not: B  (B)  B.  B:  B)
LETTER = BEGIN + r"\(?([%s])\)?" + END


def score_mathvista(result: TaskResult) -> Scored:
    """Share right; chance is one of the choices, and 0 where there are none (arXiv 2310.02255).

    `unparsable` in `details` counts answers in which the rule finds nothing: they are wrong.
    """
    outcomes, unparsable, chance = [], 0, 0.0
    for sample in result.samples:
        doc, found = sample["doc"], sample["llm_as_judge_eval"]
        right, task = found["true_false"], doc["metadata"]["task"]
        outcomes.append(outcome(sample, doc["question"], doc["answer"], right, category=task))
        unparsable += found["extraction"] == ""
        if doc["question_type"] == "multi_choice":
            chance += 100 / len(doc["choices"])
    return proportion(outcomes, chance / len(outcomes), unparsable=unparsable)


def mathvista_overrides() -> dict[str, Any]:
    """Extraction by `extract`; the mean of the rows.

    Two faults of the official code go with it: `precision` is a float64 column, which `round`
    refuses, so that every float answer was wrong; and nothing extracted became the choice most
    similar to "", so that silence scored.
    """

    def process(doc: dict[str, Any], results: list[str]) -> dict[str, Any]:
        extraction = extract(results[0].strip(), doc["choices"], doc["answer_type"])
        right = same_value(doc, extraction)
        return {"llm_as_judge_eval": {"extraction": extraction, "true_false": right}}

    mean = mean_of("true_false")
    metric = {"metric": "llm_as_judge_eval", "aggregation": mean, "higher_is_better": True}
    return {"process_results": process, "metric_list": [metric]}


def same_value(doc: dict[str, Any], extraction: str) -> bool:
    """The official comparison, with a whole number for the precision; nothing is never right."""
    from lmms_eval.tasks.mathvista import utils

    kinds = doc["question_type"], doc["answer_type"], int(doc["precision"] or 0)

    def normal(text: str) -> Any:
        return utils.mathvista_evaluator.normalize_extracted_answer(text, doc["choices"], *kinds)

    # both: "0.50" is 0.5
    return extraction != "" and utils.mathvista_evaluator.safe_equal(
        normal(extraction), normal(doc["answer"])
    )


def extract(answer: str, choices: Sequence[str] | None, answer_type: str) -> str:
    """What the answer says: a choice's text, its last number, its last list; "" for nothing.

    The questions ask for the final value at the end, so the last number counts.
    """
    answer = narrow(answer)
    if choices:
        return named_choice(answer, choices)
    if answer_type == "list":
        return _last_list(answer)
    numbers = NUMBER.findall(answer)
    return numbers[-1].replace(",", "") if numbers else ""


def named_choice(answer: str, choices: Sequence[str]) -> str:
    """The one choice that the answer names by its text or its letter; "" for none or several."""
    said = answer.strip().strip(".").lower()
    for same in (str.lower, normalise):  # the latter takes -5 for 5, but "A cat." for "cat"
        exact = [choice for choice in choices if same(choice) == same(said)]
        if len(exact) == 1:
            return exact[0]
    letters = string.ascii_uppercase[: len(choices)]
    bare = set(re.findall(LETTER % letters, answer))
    if bare == {"A"} and ARTICLE.search(answer):
        bare = set()
    marked = set(re.findall(rf"\(([{letters}])\)|(?:^|\s)([{letters}])[.:)](?=\s|$)", answer))
    marked = {"".join(pair) for pair in marked}
    for found in (marked, bare):
        if len(found) == 1:
            return choices[letters.index(found.pop())]
    texts = [c for c in choices if re.search(BEGIN + re.escape(c.lower()) + END, said)]
    return texts[0] if len(texts) == 1 else ""


def _last_list(answer: str) -> str:
    for text in reversed(re.findall(r"\[[^\[\]]*\]", answer)):
        try:
            return str(ast.literal_eval(text))
        except (ValueError, SyntaxError):
            continue
    return ""
