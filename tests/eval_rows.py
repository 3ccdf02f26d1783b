"""Rows of public benchmarks in their published schemas, few and made up."""

import json
from typing import Any

from eval.benchmarks.text import SUBJECTS
from eval.benchmarks.video import MVBENCH

LETTERS = {
    letter: f"the {word} one"
    for letter, word in zip("ABCD", ("red", "green", "blue", "pink"), strict=True)
}
WORDS = list(LETTERS.values())

ODD = (
    "\x00", "A\x00", "\x1b[1mA\x1b[0m", "\x0b\x0c\x7f\x85", "\ud800", "A\udfff B", "\ufffe\uffff",
    "", "   ", "\n\n\n", "=1+1", "=HYPERLINK(1)", "@SUM(A1)", "-", "x" * 100_000, "9" * 5_000,
    "1e999", "nan", "inf%", "1/0", "[" * 3000, "\\frac{1}{0}", "$^{", "{}", "None", "A, B",
    "🙂" * 40_000,
    "١٢", "½", "²", "一二", "٪", "(A", "%s %d {0}", "<answer>", "../..", "\u202eA", "-" * 50 + "1",
    "1,2,3.4.5", "1_000", "0x1F", "yes\x00no",
)  # fmt: skip
"""texts that no answer should be, and some are"""


def mmstar(n: int) -> dict[str, Any]:
    kinds = [("math", "geometry"), ("math", "geometry"), ("logical reasoning", "diagram reasoning")]
    category, fine = kinds[n % 3]
    return {
        "index": n, "question": f"Which? {n}\nOptions: A: 1, B: 2, C: 3, D: 4", "image": n,
        "answer": "ABCD"[n % 4], "category": category, "l2_category": fine,
        "meta_info": {"source": "made", "split": "val", "image_path": "x.png"},
    }  # fmt: skip


def ai2d(n: int) -> dict[str, Any]:
    return {"question": f"What is {n}?", "options": WORDS, "answer": str(n % 4), "image": n}


def docvqa(n: int) -> dict[str, Any]:
    return {
        "questionId": str(n), "question": f"What is the date {n}?", "question_types": ["form"],
        "image": n, "docId": n, "ucsf_document_id": "x", "ucsf_document_page_no": "1",
        "answers": [f"May {n}, 1999", f"{n} May"], "data_split": "val",
    }  # fmt: skip


def infovqa(n: int) -> dict[str, Any]:
    return {
        "questionId": str(n), "question": f"How many {n}?", "answers": [f"{n} million"],
        "answer_type": ["single span"], "image": n, "image_url": "", "operation/reasoning": [],
        "ocr": "", "data_split": "val",
    }  # fmt: skip


def pope(n: int) -> dict[str, Any]:
    return {
        "id": str(n), "question_id": str(n), "question": "Is there a dog in the image?",
        "answer": ("yes", "no")[n % 2], "image_source": f"COCO_{n}", "image": n,
        "category": ("adversarial", "popular", "random")[n % 3],
    }  # fmt: skip


def mme(n: int) -> dict[str, Any]:
    return {
        "question_id": f"{n // 2}.png", "image": n // 2,
        "question": f"Is there a {('cup', 'dog')[n % 2]} in it? Please answer yes or no.",
        "answer": ("Yes", "No")[n % 2], "category": ("existence", "code_reasoning")[n // 2 % 2],
    }  # fmt: skip


def scienceqa(n: int) -> dict[str, Any]:
    return {
        "image": n, "question": f"Which is solid? {n}", "choices": WORDS[: 2 + n % 3],
        "answer": n % 2, "hint": ("", "A hint.")[n % 2], "task": "closed choice", "grade": "grade4",
        "subject": "natural science", "topic": "physics", "category": "Matter", "skill": "x",
        "lecture": "", "solution": "",
    }  # fmt: skip


def librispeech(n: int) -> dict[str, Any]:
    text = ("MISTER QUILTER IS THE APOSTLE", "HE SAID IT'S TWENTY FIVE DOLLARS", "NOR IS HE")[n % 3]
    return {"audio": n, "id": f"61-70970-{n}", "gt": text, "source": "test_clean", "task": "asr_en"}


def common_voice(n: int) -> dict[str, Any]:
    return {
        "client_id": "x", "path": f"{n}.mp3", "audio": n,
        "sentence": ("宋朝末年年间定居粉岭围。", "渐渐行动不便", "二十一年去世。")[n % 3],
        "up_votes": 2, "down_votes": 0, "age": "", "gender": "", "accent": "",
        "locale": "zh-CN", "segment": "",
    }  # fmt: skip


def mmau(n: int) -> dict[str, Any]:
    return {
        "id": str(n), "audio": n, "audio_id": f"./{n}.wav", "question": f"What is heard? {n}",
        "choices": json.dumps(WORDS[: 3 + n % 2]), "answer": WORDS[n % 3], "dataset": "made",
        "task": ("sound", "speech")[n % 2], "split": "test-mini", "category": "Reasoning",
        "sub-category": "x", "difficulty": "easy",
    }  # fmt: skip


def voicebench(n: int) -> dict[str, Any]:
    return {"audio": n, "prompt": f"Which {n}? A, B, C or D?", "reference": "ABCD"[n % 4]}


def omnibench(n: int) -> dict[str, Any]:
    return {
        "index": n, "task type": ("Object Identification", "Text and Symbols")[n % 2],
        "audio type": "speech", "question": f"What is meant? {n}", "options": WORDS,
        "answer": WORDS[n % 4], "audio content": "x", "image content": "y", "image": n, "audio": n,
    }  # fmt: skip


def mvbench(n: int) -> dict[str, Any]:
    return {
        "video": f"clip{n % 2}.mp4", "question": f"What happened {n}?", "candidates": WORDS[:3],
        "answer": WORDS[n % 3],
    }  # fmt: skip


def videomme(n: int) -> dict[str, Any]:
    return {
        "video_id": f"{n:03}", "duration": ("short", "medium", "long")[n % 3],
        "domain": "Knowledge", "sub_category": "Geography", "url": "https://example.org",
        "videoID": f"clip{n % 2}", "question_id": f"{n:03}-1", "task_type": "OCR Problems",
        "question": f"What is written {n}?", "answer": "ABCD"[n % 4],
        "options": [f"{letter}. {text}." for letter, text in zip("ABCD", WORDS, strict=True)],
    }  # fmt: skip


def egoschema(n: int) -> dict[str, Any]:
    return {
        "question_idx": str(n), "question": f"What does c do {n}?", "video_idx": f"clip{n % 2}",
        "option": [f"{letter}. c is {n} {letter}" for letter in "ABCDE"], "answer": str(n % 5),
    }  # fmt: skip


def perception(n: int) -> dict[str, Any]:
    return {
        "video_name": f"clip{n % 2}", "question": f"Is the camera moving {n}?", "question_id": n,
        "options": WORDS[:3], "answer_id": n % 3, "area": ("physics", "memory")[n % 2],
        "reasoning": "descriptive", "tag": ["motion"],
    }  # fmt: skip


def mmlu(n: int) -> dict[str, Any]:
    return {"question": f"Which is it {n}?", "subject": "x", "choices": WORDS, "answer": n % 4}


ROWS = {
    "mmstar": mmstar, "ai2d": ai2d, "docvqa": docvqa, "infovqa": infovqa, "pope": pope, "mme": mme,
    "scienceqa_img": scienceqa, "librispeech_test_clean": librispeech,
    "librispeech_test_other": librispeech, "common_voice_15_zh": common_voice, "mmau_mini": mmau,
    "voicebench_openbookqa": voicebench, "omnibench": omnibench, "videomme": videomme,
    "egoschema_subset": egoschema, "perceptiontest_val": perception,
    **{f"mvbench_{kind}": mvbench for kind in MVBENCH},
    **{f"mmlu_{subject}": mmlu for subject in SUBJECTS},
}  # fmt: skip
