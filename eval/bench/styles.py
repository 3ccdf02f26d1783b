"""Answers as models phrase them, to made-up questions of the ten: what each means is known."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from typing import Any

OPTIONS = dict(zip("ABCD", ("brown dog", "cat", "cow", "barn owl"), strict=True))
HEADS = (
    "", "The answer is ", "Answer: ", "The correct answer is ", "I think it is ", "答案是", "选",
    "正确答案：", "Final answer:\n", "Looking at the mat, on which it sits, I would say ",
)  # fmt: skip
NAMES = (
    "{k}", "({k})", "{k}.", "{k})", "**{k}**", "[{k}]", "{k}: {text}", "{k}. {text}",
    "({k}) {text}", "{text}", "\\boxed{{{k}}}", "option {k}", "{k}、{text}", "（{k}）",
    "the {text}", "'{k}'",
)  # fmt: skip
TAILS = ("", ".", "。", ", because it has whiskers and has been there all day")
NOTHING = (
    "", "I cannot tell.", "A or B", "Both A and B.", "All of the above", "a cat or a cow", "Z",
    "Sorry, I can't help with images of people yet.", "Cannot determine the answer", "Hm?",
)  # fmt: skip
ARTICLES = {"A cat": "B", "It is a cat.": "B", "A cow, I think.": "C", "a brown dog": "A"}
WORDS = ("{}", "{}.", "**{}**", "{}!", "{} .", "({})", "答案是{}。", "{}\n", "'{}'", "{}: it is.")
WORDS_AFTER = ("", " I am sure of it", " as can be seen", " the line does")
BEFORE_WORDS = ("", "Well, ", "I say ", "Answer: ", "The answer is ", "It is there; ")
UNCLEAR = (
    "I cannot tell.", "", "yes and no", "Not sure", "His eyes", "yesterday", "I don't know", "Hm?",
    "nothing", "nope", "Yes, there is no change", "No. Yes.", "1", "true",
)  # fmt: skip
VALUES = ("{}", "{}.", " {} ", "{}\n", "{}!", "({})", "**{}**", "${}", "{} of them", "about {}",
          "Answer: {}", "The answer is {}.", "It says {}", "答案是{}", "{}\tit is", "“{}”",
          "{}, I think", "a {}", "the {}", "{}?")  # fmt: skip
NUMBERS = ("{}", "{}.", " {} ", "{}.0", "+{}", "{}%", "${}", "{} of them", "about {}", "Answer: {}",
           "The answer is {}.", "答案是{}", "**{}**", "[{}]", "{}\n", "0{}", "{}e0", "{},000",
           "({})", "{} or so")  # fmt: skip
HUMAN, FORMULA = "Doc-oriented VQA", "Handwritten Mathematical Expression Recognition"


@dataclass(frozen=True)
class Style:
    """A way to answer. `form` says how it is phrased, `right` whether it means the truth."""

    form: str
    answer: str
    right: bool
    doc: dict[str, Any]


def styles(name: str) -> list[Style]:
    """Two hundred and more for a benchmark of the ten."""
    if name in CHOICES:
        return _choices(CHOICES[name])
    made = {
        "hallusionbench": _yes_no, "mathvista": _maths, "chartqa": _charts,
        "textvqa": _texts, "ocrbench": _reads,
    }  # fmt: skip
    return made[name]()


def _mmbench(truth: str) -> dict[str, Any]:
    constant = {"category": "c", "L2-category": "l", "source": "s", "split": "dev", "hint": "nan"}
    return {**OPTIONS, **constant, "answer": truth}


def _seed(truth: str) -> dict[str, Any]:
    options = {f"choice_{k.lower()}": text for k, text in OPTIONS.items()}
    kind = {"data_type": "image", "question_type_id": 1, "question_id": "q", "segment": []}
    return {**options, **kind, "answer": truth}


def _mmmu(truth: str) -> dict[str, Any]:
    options = str(list(OPTIONS.values()))
    return {"question_type": "multiple-choice", "options": options, "answer": truth}


def _realworld(truth: str) -> dict[str, Any]:
    lines = "\n".join(f"{k}. {text}" for k, text in OPTIONS.items())
    return {"answer": truth, "after": f"\n{lines}\nPlease answer with the letter."}


def _mathvista(truth: str) -> dict[str, Any]:
    return {
        "question_type": "multi_choice", "answer_type": "text", "answer": OPTIONS[truth],
        "choices": list(OPTIONS.values()), "metadata": {"task": "t", "split": "testmini"},
    }  # fmt: skip


CHOICES = {
    "mmbench_en": _mmbench, "mmbench_cn": _mmbench, "seedbench": _seed, "mmmu": _mmmu,
    "realworldqa": _realworld,
}  # fmt: skip


def _choices(doc: Callable[[str], dict[str, Any]]) -> list[Style]:
    found = []
    for place, (head, name, tail) in enumerate(product(HEADS, NAMES, TAILS)):
        said = "ABCD"[place % 4]
        answer = head + name.format(k=said, text=OPTIONS[said]) + tail
        found += [Style(name, answer, said == truth, doc(truth)) for truth in "B" + said]
    found += [Style("nothing named", answer, False, doc("B")) for answer in NOTHING]
    found += [
        Style("an article", answer, said == truth, doc(truth))
        for answer, said in ARTICLES.items()
        for truth in "ABC"
    ]
    return found


def _yes_no() -> list[Style]:
    def doc(truth: str) -> dict[str, Any]:
        keys = {"category": "VD", "subcategory": "s", "set_id": "0", "question_id": "0"}
        return {**keys, "gt_answer": str(int(truth == "Yes"))}

    found = []
    for head, form, tail in product(BEFORE_WORDS, WORDS, WORDS_AFTER):
        for said, truth in product(("Yes", "no"), ("Yes", "No")):
            answer = head + form.format(said) + tail
            found.append(Style(form, answer, said.lower() == truth.lower(), doc(truth)))
    return found + [
        Style("neither or both", answer, False, doc(truth))
        for answer in UNCLEAR
        for truth in ("Yes", "No")
    ]


def _maths() -> list[Style]:
    found = _choices(_mathvista)
    for kind, truth, said in product(
        ("integer", "float"), ("14", "7", "0"), ("14", "7", "0", "fourteen")
    ):
        doc = {
            "question_type": "free_form", "choices": None, "answer_type": kind, "answer": truth,
            "precision": 1.0, "metadata": {"task": "t", "split": "testmini"},
        }  # fmt: skip
        for form in NUMBERS:
            same = said == truth and (form != "{},000" or said == "0") and form != "{}%"
            found.append(Style(f"number {form}", form.format(said), same, doc))
    lists = {"question_type": "free_form", "choices": None, "answer_type": "list", "precision": 0.0,
             "answer": "[7, 14]", "metadata": {"task": "t", "split": "testmini"}}  # fmt: skip
    return found + [
        Style("a list", answer, answer != "7", lists)
        for answer in ("[7, 14]", "[7,14]", "It is [7, 14].", "7")
    ]


def _charts() -> list[Style]:
    found = []
    for truth, said in product(
        ("12", "Yes", "Dark blue"), ("12", "12.5", "13", "yes", "dark blue")
    ):
        doc = {"type": "human_test", "answer": truth}
        near = truth == "12" and said in ("12", "12.5")
        for form in NUMBERS:
            same = near or said.lower() == truth.lower()
            different = form in ("{},000", "{}%") or (form == "0{}" and not near)
            found.append(Style(form, form.format(said), same and not different, doc))
    return found


def _texts() -> list[Style]:
    found = []
    truths = ("coca-cola", "mcdonald's", "st. john", "four")
    for truth, said in product(truths, (*truths, "4", "Coca Cola", "st john")):
        doc = {"question_id": 1, "answers": [truth] * 4 + ["unclear"] * 6}
        kin = {"4": "four", "Coca Cola": "coca-cola", "st john": "st. john"}
        for form in VALUES:
            found.append(Style(form, form.format(said), kin.get(said, said) == truth, doc))
    return found


def _reads() -> list[Style]:
    found = []
    for (kind, truth), said in product(
        ((HUMAN, "Total 12.50"), (HUMAN, "no entry"), (FORMULA, "x^{2} + 1")),
        ("total 12.50", "NO ENTRY", "x^{2}+1", "noentry", "Ｎｏ Ｅｎｔｒｙ"),
    ):
        doc = {"question_type": kind, "answer": [truth], "dataset": "HME100k" * (kind == FORMULA)}
        for form in VALUES:
            plain = said.lower().replace("ｎｏ ｅｎｔｒｙ", "no entry")
            same = plain.replace(" ", "") == truth.lower().replace(" ", "")
            found.append(Style(form, form.format(said), same and said != "noentry", doc))
    return found
