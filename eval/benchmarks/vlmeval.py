"""The second figure of a row: its answers matched as VLMEvalKit does without a judge.

Many published rows were scored by VLMEvalKit. These are its rules as it behaves, its faults with
them, on the questions and answers of the row; `omni-eval bench scorers DIR` holds them against its
own functions.
"""

import ast
import re
import string
from collections.abc import Callable
from typing import Any

from ..lmms.bridge import TaskResult
from ..scoring.right import Scored, a_q_f
from ..scoring.statistics import score as score_of
from .letters import COPY, NO_OPTION
from .share import Doc, letter

LETTERS = string.ascii_uppercase
REFUSED = "Z"  # no option at all
MARKS = str.maketrans(dict.fromkeys(".()[],:;!*#{}", " "))
LAST = 4  # words, among which a letter must first appear
SAYS = re.compile(r"answer\s+is\s+\**([ABCD])", re.IGNORECASE)  # "answer is difficult" says D
NO_REPLY = "Failed to obtain answer via API"
REFUSALS = (
    "t help with images of people yet", "t process this file.",
    "sorry, but without the image provided", "Cannot determine the answer",
)  # fmt: skip
OPTION = re.compile(r"^\s*([A-Z])\.\s+(.+?)\s*$", re.MULTILINE)
FULL_STOPS = 32  # are taken out at most: it passes a flag where a count belongs
FORMULAS = "Handwritten Mathematical Expression Recognition"


def named_letter(answer: str, choices: dict[str, str]) -> str:
    """The option that an answer names by letter or text; "Z" for a refusal, "" for none."""
    return _by_letter(answer, choices) or _by_text(answer, choices)


def _by_letter(answer: str, choices: dict[str, str]) -> str:
    if NO_REPLY in answer:
        return ""
    if any(refusal in answer for refusal in REFUSALS):
        return REFUSED
    words = answer.translate(MARKS).split()
    there = [option for option in choices if option in words]
    if len(there) == 1 and words.index(there[0]) >= len(words) - LAST:
        return there[0]
    if not there and REFUSED in words:
        return REFUSED
    says = SAYS.search(answer)
    return says[1].upper() if says and says[1].upper() in choices else ""


def _by_text(answer: str, choices: dict[str, str]) -> str:
    """The only option whose text is in an answer not much longer than all of them."""
    if len(answer) > 2 * sum(map(len, choices.values())):
        return ""
    there = [option for option, text in choices.items() if text.lower() in answer.lower()]
    return there[0] if len(there) == 1 else ""


def yes_no(answer: str) -> str:
    """Yes or No where one of the words is there and not the other, else ""."""
    words = _without_marks(answer.lower()).split()
    there = [word for word in ("yes", "no") if word in words]
    return there[0].capitalize() if len(there) == 1 else ""


def mmbench_choices(doc: Doc) -> dict[str, str]:
    """Letter -> text of the options that there are."""
    return {k: doc[k] for k in "ABCD" if doc[k] not in NO_OPTION}


def mmbench(doc: Doc, answer: str) -> float:
    """Of one copy."""
    return float(named_letter(answer, mmbench_choices(doc)) == doc["answer"])


def seedbench(doc: Doc, answer: str) -> float:
    """SEED-IMG."""
    choices = {k: doc[f"choice_{k.lower()}"] for k in "ABCD"}
    return float(named_letter(answer, choices) == doc["answer"])


def realworldqa(doc: Doc, answer: str) -> float:
    """The options stand in the question; where there are none, nothing can be matched."""
    return float(named_letter(answer, dict(OPTION.findall(doc["question"]))) == doc["answer"])


def mmmu(doc: Doc, answer: str) -> float:
    """An open question has two options: A is the answer, and B is "Other Answers"."""
    right = str(doc["answer"])
    if doc["question_type"] == "multiple-choice":
        choices = dict(zip(LETTERS, map(str, ast.literal_eval(doc["options"])), strict=False))
    else:
        choices = {"A": right, "B": "Other Answers"}
    return float(named_letter(answer, choices) == (right if right in LETTERS else "A"))


def mathvista(doc: Doc, answer: str) -> float:
    """A letter or an option; else a number alone. A list or an open text is never right."""
    if doc["question_type"] == "multi_choice":
        choices = {letter(k): str(text) for k, text in enumerate(doc["choices"])}
        found = named_letter(answer, choices)
        return float(bool(found) and choices.get(found) == doc["answer"])
    kind = {"integer": int, "float": float}.get(doc["answer_type"])
    try:
        return float(kind is not None and kind(answer) == kind(doc["answer"]))
    except ValueError:
        return 0.0


def hallusionbench(doc: Doc, answer: str) -> float:
    """Of one answer."""
    return float(yes_no(answer) == ("Yes" if doc["gt_answer"] == "1" else "No"))


def textvqa(doc: Doc, answer: str) -> float:
    """VQA accuracy; possessives and commas are kept where the official code takes them apart."""
    said, accepted = _normal(answer), [_normal(text) for text in doc["answers"]]
    others = [accepted.count(said) - (text == said) for text in accepted]
    return sum(min(1.0, count / 3) for count in others) / len(accepted)


def chartqa(doc: Doc, answer: str) -> float:
    """Within 5 %, or the same text."""
    return float(any(_relaxed(target, answer.strip()) for target in _listed(doc["answer"])))


def ocrbench(doc: Doc, answer: str) -> float:
    """Whether any accepted text is in the answer; of formulas without blanks."""
    if doc["question_type"] == FORMULAS:
        said, accepted = (
            answer.strip().replace("\n", " ").replace(" ", ""),
            [text.strip().replace("\n", " ").replace(" ", "") for text in doc["answer"]],
        )
    else:
        said, accepted = (
            answer.lower().strip().replace("\n", " "),
            [text.lower().strip().replace("\n", " ") for text in doc["answer"]],
        )
    return float(any(text in said for text in accepted))


RULES: dict[str, Callable[[Doc, str], float]] = {
    "mmbench_en": mmbench, "mmbench_cn": mmbench, "seedbench": seedbench, "mmmu": mmmu,
    "hallusionbench": hallusionbench, "realworldqa": realworldqa, "mathvista": mathvista,
    "textvqa": textvqa, "chartqa": chartqa, "ocrbench": ocrbench,
}  # fmt: skip


def second_figure(
    name: str, score: Callable[[TaskResult], Scored]
) -> Callable[[TaskResult], Scored]:
    """The scorer of a benchmark, with the score by VLMEvalKit's rules in `details["vlmeval"]`."""

    def both(result: TaskResult) -> Scored:
        scored = score(result)
        scored.details["vlmeval"] = vlmeval_score(name, result)
        return scored

    return both


def vlmeval_score(name: str, result: TaskResult) -> float:
    """On 0-100: the mean, of MMBench over whole circles, of HallusionBench of its three shares."""
    units: dict[Any, Any] = {}
    for sample in result.samples:
        doc, answer = _doc(name, sample), sample["filtered_resps"][0]
        right, number = RULES[name](doc, answer), sample["doc_id"]
        if name == "hallusionbench":
            unit = doc["category"], doc["subcategory"], doc["set_id"]
            units.setdefault(unit, []).append((doc["question_id"], doc["figure_id"], right))
        elif RULES[name] is mmbench:
            unit = doc["index"] % COPY
            units[unit] = [(min(right, units.get(unit, [(1.0, 1.0)])[0][0]), 1.0)]
        else:
            units[number] = [(right, 1.0)]
    if name == "hallusionbench":
        units = {unit: a_q_f(items) for unit, items in units.items()}
    return score_of(units)


def _doc(name: str, sample: dict[str, Any]) -> Doc:
    """The doc as it was before the official code normalised the texts in it."""
    if name == "textvqa":
        return sample["doc"] | {"answers": sample["submission"]["answers"]}
    return sample["doc"]


def _normal(text: str) -> str:
    text = text.replace("\n", " ").replace("\t", " ").strip()
    return _vqa().process_digit_article(_without_marks(text))


def _without_marks(text: str) -> str:
    """Punctuation becomes a blank, or nothing beside a blank or where a number has commas."""
    commas, out = re.search(r"\d,\d", text), text
    for mark in _vqa().PUNCTUATIONS:
        nothing = commas or f"{mark} " in text or f" {mark}" in text
        out = out.replace(mark, "" if nothing else " ")
    return re.sub(r"(?<!\d)\.(?!\d)", "", out, count=FULL_STOPS)


def _vqa() -> Any:
    """The tables of VQA, which lmms-eval and VLMEvalKit took from the same source."""
    from lmms_eval.tasks._task_utils.vqa_eval_metric import EvalAIAnswerProcessor

    return EvalAIAnswerProcessor()


def _relaxed(target: str, answer: str) -> bool:
    wanted, given = _number(target), _number(answer)
    if given is None or not wanted:
        return answer.lower() == target.lower()
    return abs(given - wanted) / abs(wanted) <= 0.05


def _number(text: str) -> float | None:
    try:
        return float(text.rstrip("%")) / 100 if text.endswith("%") else float(text)
    except ValueError:
        return None


def _listed(text: str) -> list[str]:
    """The items of a list that is written as text, or the text."""
    try:
        found = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return [text]
    return [str(item) for item in found] if isinstance(found, list) else [text]
