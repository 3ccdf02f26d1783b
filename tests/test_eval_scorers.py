"""Pinned vectors of every scorer of the ten, through the official code paths."""

from dataclasses import replace

import pytest

from eval.answering.answerer import Answerer
from eval.bench.oracle import Oracle
from eval.benchmarks.image import IMAGE10
from eval.benchmarks.mathvista import extract
from eval.benchmarks.vlmeval import named_letter
from eval.lmms.official import Official
from eval.minisuite.schema import SCHEMAS, write_parquet

BY_NAME = {benchmark.name: benchmark for benchmark in IMAGE10}
LETTERS = dict(zip("ABCD", ["dog", "cat", "cow", "owl"], strict=True))
DOC = {
    "mmbench_en": {"category": "c", "L2-category": "l", "source": "s", "split": "dev", **LETTERS},
    "seedbench": {"data_type": "image", "question_type_id": 1, "question_id": "q", "segment": [],
                  **{f"choice_{k.lower()}": v for k, v in LETTERS.items()}, "answer": "B"},
    "mmmu": {"question_type": "multiple-choice", "options": str([*LETTERS.values()]),
             "answer": "B"},
    "mathvista": {"question_type": "multi_choice", "answer_type": "text", "answer": "cat",
                  "choices": [*LETTERS.values()], "metadata": {"task": "t", "split": "testmini"}},
    "textvqa": {"question_id": 1},
    "chartqa": {"type": "human_test"},
    "realworldqa": {"answer": "B"},
    "hallusionbench": {"category": "VD", "subcategory": "s", "set_id": "0"},
    "ocrbench": {"dataset": "d", "question_type": "Doc-oriented VQA"},
}  # fmt: skip
DOC["mmbench_cn"] = DOC["mmbench_en"]


@pytest.fixture(scope="module")
def row_of(tmp_path_factory, make_picture):
    """(benchmark name, docs) -> a row that reads them; what a doc leaves out is filled in.

    Every question ends with the number of its doc.
    """

    def make(name, docs):
        picture = make_picture(0)
        kinds = SCHEMAS[name].items()
        images = {column: picture for column, kind in kinds if kind == "image"}
        images |= {column: [picture] for column, kind in kinds if kind == ["image"]}
        rows = [
            {"question": f"<image 1> {k}", "id": f"validation_Art_{k}", **DOC[name], **images} | doc
            for k, doc in enumerate(docs)
        ]
        folder = tmp_path_factory.mktemp(name)
        file = write_parquet(name, rows, folder / "rows.parquet")
        return Official(name, BY_NAME[name], lambda *_: [file]), folder

    return make


@pytest.fixture(scope="module")
def scored(row_of):
    """(benchmark name, docs, answers) -> Scored."""

    def score(name, docs, answers):
        row, folder = row_of(name, docs)
        told = replace(row.benchmark, truth=lambda doc: answers[int(doc["question"].split()[-1])])
        row = replace(row, benchmark=told)
        oracle = Oracle([row], None, folder)
        return row.run(Answerer(oracle, lambda messages: 1), None, "normal", None, folder)

    return score


def right(scored):
    return [outcome.correct for outcome in scored.outcomes]


FORMS = ["B", "(B)", "The answer is B.", "B. cat", "B) cat", "b", "cat", "", "Hm?", "C", "A or B"]
READ = {
    #               B (B) is B. B.cat B)cat b cat "" Hm? C A-or-B
    "seedbench":   [1, 0, 0,    1,    1,    1, 0, 0, 0,  0, 0],
    "mmmu":        [1, 1, 1,    1,    0,    0, 0, 0, 0,  0, 1],
    "realworldqa": [1, 1, 1,    1,    1,    0, 0, 0, 0,  0, 0],
    "mathvista":   [1, 1, 1,    1,    1,    0, 1, 0, 0,  0, 0],
}  # fmt: skip


@pytest.mark.parametrize("name", list(READ))
def test_the_letter_in_an_answer(name, scored):
    found = scored(name, [{}] * len(FORMS), FORMS)
    assert right(found) == READ[name]
    assert found.score == pytest.approx(100 * sum(READ[name]) / len(FORMS))
    if name == "mmmu":
        assert found.details["unparsable"] == 5  # "B) cat", "b", "cat", "", "Hm?": never drawn
    if name == "mathvista":
        assert found.details["unparsable"] == 4
        assert found.chance == 25
    if name == "seedbench":
        assert found.details["any_form"] > found.score


@pytest.mark.parametrize("name", ["mmbench_en", "mmbench_cn"])
def test_circular_needs_every_copy_in_any_form(name, scored):
    def copies(number):
        texts = [*LETTERS.values()]
        for turn in range(4):
            options = dict(zip("ABCD", texts[turn:] + texts[:turn], strict=True))
            letter = next(k for k, text in options.items() if text == "cat")
            yield {"index": number + turn * 1_000_000, "hint": "nan", "answer": letter, **options}

    forms = ["{}", "({})", "The answer is {}.", "{}. cat", "cat", "{}", ""]
    docs = [doc for number in range(len(forms)) for doc in copies(number)]
    answers = [form.format(doc["answer"]) for form in forms for doc in docs[:4]]
    answers[5 * 4 + 3] = "C" if docs[3]["answer"] != "C" else "D"  # one copy of the sixth
    found = scored(name, docs, answers)
    assert found.score == pytest.approx(100 * 5 / 7)
    assert (found.n, found.details["copies"]) == (7, 28)
    assert found.chance == pytest.approx(100 / 256)


def test_chinese_questions_never_say_nan(row_of):
    row, folder = row_of("mmbench_cn", [{"index": 0, "answer": "B", "hint": "nan"}])
    task, *_ = row.load(None, None, folder)
    content = task.doc_to_messages(task.dataset["dev"][0])[0]["content"]
    assert "nan" not in content[-1]["text"]
    assert "请直接使用所提供的选项字母作为答案回答" in content[-1]["text"]


def test_options_that_say_nan_are_not_choices(scored):
    doc = {"index": 0, "answer": "B", "C": "nan", "D": "nan"}
    assert scored("mmbench_en", [doc], ["B"]).chance == 50


def test_relaxed_accuracy_within_five_per_cent(scored):
    vectors = [
        ("105", "100", 1), ("95", "100", 1), ("105.1", "100", 0), ("94.9", "100", 0),
        ("12%", "0.12", 1), ("12%", "12", 0), ("1,200", "1200", 0), ("YES", "Yes", 1),
        ("A.", "A", 0), ("0", "0", 1), ("0.01", "0", 0), ("", "oak", 0),
    ]  # fmt: skip
    docs = [{"answer": expected, "type": ("human_test", "augmented_test")[k % 2]}
            for k, (_, expected, _) in enumerate(vectors)]  # fmt: skip
    found = scored("chartqa", docs, [answer for answer, *_ in vectors])
    assert right(found) == [hit for *_, hit in vectors]
    assert [o.category for o in found.outcomes[:2]] == ["human", "augmented"]


def test_vqa_accuracy_leaves_one_annotator_out(scored):
    """min(1, k/3) of the other nine, averaged over ten: 1 of 10 agreeing gives 0.3, not 1/3."""
    agreeing = [0, 1, 2, 3, 4, 10]
    docs = [{"answers": ["oak"] * k + ["elm"] * (10 - k)} for k in agreeing]
    docs += [{"answers": ["the Oak"] * 10}, {"answers": ["four"] * 10}]
    found = scored("textvqa", docs, ["oak"] * 6 + ["Oak.", "4"])
    assert right(found) == pytest.approx([0, 0.3, 0.6, 0.9, 1, 1, 1, 1])


def test_yes_no_by_answer_question_and_figure(scored):
    keys = ("set_id", "question_id", "figure_id", "gt_answer")
    docs = [
        dict(zip(keys, values, strict=True))
        for values in ("0001", "0011", "0100", "0111", "1001", "1011", "1100", "1111")
    ]
    answers = ["Yes, it is.", "yes", "No.", "no", "Yes", "YES", "Hm?", "yes"]
    found = scored("hallusionbench", docs, answers)
    assert right(found) == [1, 1, 1, 0, 1, 1, 0, 1]
    assert {k: round(found.details[k], 1) for k in ("aAcc", "qAcc", "fAcc")} == {
        "aAcc": 75.0, "qAcc": 50.0, "fAcc": 50.0
    }  # fmt: skip
    assert found.score == pytest.approx((75 + 50 + 50) / 3)
    assert found.details["neither"] == 1


SAID = {
    "Yes": "yes", "No.": "no", "**Yes**": "yes", "(no)": "no", "Yes!": "yes", "答案是yes。": "yes",
    "Ｎｏ": "no", "There is no such line.": "no", "No, it isn't": "no", "I think yes": "yes",
    "": "", " ": "", "Hm?": "", "I cannot tell.": "", "I don't know": "", "Nothing": "",
    "The eyes of it": "", "yesterday": "", "noon": "", "1": "", "Not sure": "", "nope": "",
    "Yes or no?": "", "No. Yes.": "", "yes, there is no change": "",
}  # fmt: skip


@pytest.mark.parametrize("truth", ["yes", "no"])
def test_one_of_the_words_yes_and_no(truth, scored):
    docs = [{"gt_answer": str(int(truth == "yes")), "figure_id": str(k), "question_id": "0"}
            for k in range(len(SAID))]  # fmt: skip
    found = scored("hallusionbench", docs, [*SAID])
    read = {answer for answer, hit in zip(SAID, right(found), strict=True) if hit}
    assert read == {answer for answer, word in SAID.items() if word == truth}
    assert found.details["aAcc"] == pytest.approx(100 * len(read) / len(SAID))
    assert found.details["neither"] == sum(not word for word in SAID.values())


def test_ocrbench_counts_rows_and_looks_inside_the_answer(scored):
    vectors = [
        ("It says BANANA.", ["banana"], "d", 1), ("a", ["banana"], "d", 0),
        ("banana", ["a"], "d", 1), ("ＡＢ１", ["ab1"], "d", 1), ("", ["x"], "d", 0),
        ("x^{2}+1", ["x ^ { 2 } + 1"], "HME100k", 1), ("second", ["first", "second"], "d", 1),
    ]  # fmt: skip
    docs = [{"answer": answer, "dataset": data} for _, answer, data, _ in vectors]
    found = scored("ocrbench", docs, [said for said, *_ in vectors])
    assert right(found) == [hit for *_, hit in vectors]
    assert found.score == pytest.approx(100 * 5 / 7)  # not 5 / 1000


def test_mathvista_compares_numbers_at_their_precision(scored):
    """The published column `precision` is float64, which the official `round` refuses."""
    vectors = [
        ("14", "integer", None, "14", 1), ("The answer is 14.", "integer", None, "14", 1),
        ("fourteen", "integer", None, "14", 0), ("1,400", "integer", None, "1400", 1),
        ("1.2", "float", 1.0, "1.2", 1), ("about 1.24", "float", 1.0, "1.2", 1),
        ("1.3", "float", 1.0, "1.2", 0), ("0.5", "float", 2.0, "0.50", 1),
        ("答案是14", "integer", None, "14", 1), ("共１４个", "integer", None, "14", 1),
        ("[2007,2008]", "list", None, "[2007, 2008]", 1), ("2007", "list", None, "[2007, 2008]", 0),
        ("", "integer", None, "14", 0),
    ]  # fmt: skip
    docs = [
        {"question_type": "free_form", "choices": None, "answer_type": kind, "precision": precision,
         "answer": answer} for _, kind, precision, answer, _ in vectors
    ]  # fmt: skip
    found = scored("mathvista", docs, [said for said, *_ in vectors])
    assert right(found) == [hit for *_, hit in vectors]
    assert found.chance == 0


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        ("(C) because A is wrong", "cow"),
        ("A cat.", "cat"),
        ("The answer is A", "dog"),
        ("It is A because of the ears", "dog"),
        ("A small owl", "owl"),
        ("A or (B)", "cat"),
        ("I see a cat and an owl", ""),
        ("It must be the owl", "owl"),
        ("concatenate", ""),
        ("答案是B", "cat"),
        ("答案为Ｂ。", "cat"),
        ("选项B正确", "cat"),
        ("（B）因为A不对", "cat"),
        ("选A还是B", ""),
        ("应该是owl", "owl"),
        ("정답은 B입니다", "cat"),
    ],
)
def test_a_choice_named_in_a_sentence(answer, found):
    assert extract(answer, [*LETTERS.values()], "text") == found


def test_open_questions_of_mmmu_take_the_value_anywhere(scored):
    docs = [{"question_type": "open", "options": "[]", "answer": "214"}] * 4
    found = scored("mmmu", docs, ["214", "The total is 214.", "213", ""])
    assert right(found) == [1, 1, 0, 0]
    assert found.chance == 0


def test_seed_image_leaves_videos_out(scored):
    docs = [{}, {"data_type": "video", "question_type_id": 10}, {}]
    found = scored("seedbench", docs, ["B", "A", "B"])
    assert (found.n, found.score) == (2, 100)


KIT = {
    #               B (B) is B. B.cat B)cat b cat "" Hm? C A-or-B
    "seedbench":   [1, 1, 1,    1,    1,    0, 1, 0, 0,  0, 0],
    "mmmu":        [1, 1, 1,    1,    1,    0, 1, 0, 0,  0, 0],
    "realworldqa": [1, 1, 1,    1,    1,    0, 1, 0, 0,  0, 0],
    "mathvista":   [1, 1, 1,    1,    1,    0, 1, 0, 0,  0, 0],
}  # fmt: skip


@pytest.mark.parametrize("name", list(KIT))
def test_the_second_figure_reads_letters_as_vlmevalkit_does(name, scored):
    lines = "\n".join(f"{letter}. {text}" for letter, text in LETTERS.items())
    docs = [{"question": f"<image 1> Which?\n{lines}\nAnswer with the letter. {k}"}
            for k in range(len(FORMS))]  # fmt: skip
    found = scored(name, docs, FORMS)
    assert found.details["vlmeval"] == pytest.approx(100 * sum(KIT[name]) / len(FORMS))
    assert right(found) == READ[name]  # the first is what it was


def test_the_second_figure_is_of_whole_circles(scored):
    docs = [{"index": k + copy, "answer": "B"} for k in range(3) for copy in (0, 1_000_000)]
    found = scored("mmbench_en", docs, ["B", "cat", "B", "Hm?", "答案是B", "B"])
    assert found.score == pytest.approx(100 * 2 / 3)
    assert found.details["vlmeval"] == pytest.approx(100 / 3)  # its judge reads 答案是B


def test_the_second_figure_of_figures_is_the_mean_of_three_shares(scored):
    keys = ("set_id", "question_id", "figure_id", "gt_answer")
    docs = [dict(zip(keys, values, strict=True)) for values in ("0001", "0010", "0101", "0110")]
    found = scored("hallusionbench", docs, ["Yes.", "**No**", "yes", "no"])
    assert found.score == 100
    assert found.details["vlmeval"] == pytest.approx((75 + 50 + 50) / 3)


def test_the_second_figure_of_texts_is_of_the_annotators_own_words(scored):
    docs = [{"answers": ["McDonald's"] * 10}, {"answers": ["Coca-Cola, Inc"] * 10}]
    found = scored("textvqa", docs, ["mcdonald's", "coca cola inc"])
    assert found.details["vlmeval"] == 100


@pytest.mark.parametrize(
    ("answer", "letter"),
    [
        ("A and nothing else is to be seen here", ""),  # not among the last four words
        ("here is to be seen an A", "A"),
        ("The answer is difficult", "D"),
        ("the answer is **b** as the whiskers of the animal show", "B"),
        ("A cat", "A"),
        ("B B", "B"),
        ("Z", "Z"),
        ("Cannot determine the answer", "Z"),
        ("Failed to obtain answer via API. B", ""),
        ("答案是B", ""),
        ("a catalogue", "B"),
        ("cat " * 12, ""),  # longer than twice all options
        ("[C]", "C"),
    ],
)
def test_what_vlmevalkit_takes_for_a_letter(answer, letter):
    assert named_letter(answer, LETTERS) == letter
