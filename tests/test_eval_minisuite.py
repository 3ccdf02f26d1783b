"""The mini suite's rows: right, even, reproducible, and nothing of them in training data."""

import ast
import io
import random
from collections import Counter
from dataclasses import replace

import pytest
from PIL import Image, ImageChops

from eval.minisuite import charts, hallusion, maths, ocr, recognition, relations, schema
from eval.minisuite.build import BUILDERS
from eval.rows.heldout import HeldOut, Picture


def held_out(kinds: int = 4, each: int = 5, data: bytes = b"any bytes") -> HeldOut:
    pictures = [
        Picture(f"{kind}{k}", f"kind {kind}", f"The thing {kind}{k}.", data, f"shard:{kind}{k}")
        for kind in "abcdefgh"[:kinds]
        for k in range(each)
    ]
    return HeldOut(pictures, source="stamps")


def test_letters_are_balanced_within_each_wording():
    rows = recognition.realworldqa(held_out(8), random.Random(0), 64)
    for text in (recognition.ASK_KIND, recognition.ASK_CAPTION):
        letters = [row["answer"] for row in rows if row["question"].startswith(text)]
        assert len(letters) == 32
        assert [letters.count(letter) for letter in "ABCD"] == [8] * 4


def test_circular_copies_rotate_all_options_through_all_letters():
    rows = recognition.mmbench(held_out(), random.Random(0), 6)
    assert len(rows) == 24
    for number in range(6):
        copies = [row for row in rows if row["index"] % 1_000_000 == number]
        assert sorted(row["answer"] for row in copies) == list("ABCD")
        assert len({row[row["answer"]] for row in copies}) == 1
        assert len({row["question"] for row in copies}) == 1
        assert sorted(row["index"] // 1_000_000 for row in copies) == [0, 1, 2, 3]


def test_hallusion_constants_gain_nothing():
    rows = hallusion.hallusionbench(held_out(), random.Random(0), 16)
    yes = [int(row["gt_answer"]) for row in rows]
    assert sum(yes) * 2 == len(rows) == 64
    keys = {tuple(row[k] for k in ("set_id", "figure_id", "question_id")) for row in rows}
    assert len(keys) == 64
    for group in ("question_id", "figure_id"):
        pairs = {}
        for row in rows:
            pairs.setdefault((row["set_id"], row[group]), []).append(int(row["gt_answer"]))
        assert sum(map(min, pairs.values())) * 4 == len(pairs)
        assert sum(1 - max(pair) for pair in pairs.values()) * 4 == len(pairs)
    same = {(row["set_id"], row["question_id"]): set() for row in rows}
    for row in rows:
        same[row["set_id"], row["question_id"]].add(row["question"])
    assert all(len(questions) == 1 for questions in same.values())


def test_too_few_pictures_are_refused_in_words():
    few = (recognition.mmbench, 1), (hallusion.hallusionbench, 2), (relations.seedbench, 4)
    for builder, kinds in few:
        with pytest.raises(LookupError, match="kinds"):
            builder(held_out(kinds), random.Random(0), 4)


def test_ocr_covers_the_ten_official_types_and_is_deterministic():
    one, two = (ocr.ocrbench(HeldOut(), random.Random("s"), 20) for _ in range(2))
    assert one == two
    assert [row["question_type"] for row in one[:10]] == list(ocr.TYPES)
    assert all(len(row["answer"][0]) > 1 for row in one)  # "a" would be found in anything


@pytest.fixture(scope="module")
def many(make_picture) -> HeldOut:
    """As many held-out pictures as the stamps have, kinds as uneven as theirs."""
    sizes = dict(zip("abcdefgh", (32, 22, 13, 12, 9, 6, 5, 5), strict=True))
    names = [f"{kind}{k}" for kind, number in sizes.items() for k in range(number)]
    pictures = [
        Picture(name, f"kind {name[0]}", f"The thing {name}.", make_picture(k), f"shard:{name}")
        for k, name in enumerate(names)
    ]
    return HeldOut(pictures, source="stamps")


def unit_of(benchmark, row):
    """What is scored as one, and what makes it another question than all the others."""
    if benchmark.startswith("mmbench"):
        right, options = row[row["answer"]], frozenset(row[letter] for letter in "ABCD")
        return row["index"] % 1_000_000, (row["question"], right, options, row["image"])
    if benchmark == "hallusionbench":
        return row["set_id"], (row["question"], row["image"])
    if benchmark == "realworldqa":
        return row["image_path"], (row["question"].partition("\n")[0], row["image"])
    if benchmark == "seedbench":
        return row["question_id"], (row["question"], row["image"][0])
    if benchmark == "mmmu":
        options = ast.literal_eval(row["options"])
        right = options["ABCD".index(row["answer"])] if options else row["answer"]
        return row["id"], (row["question"], right, frozenset(options))
    if benchmark == "mathvista":
        picture = row["decoded_image"] if "dots" in row["question"] else ""
        choices = frozenset(row["choices"] or ())
        return row["pid"], (row["question"], row["answer"], picture, choices)
    if benchmark == "textvqa":
        return row["question_id"], (row["question"], Counter(row["answers"]).most_common(1)[0][0])
    if benchmark == "ocrbench":
        return id(row), (row["question_type"], *row["answer"])
    return id(row), (row["question"], row["answer"])


@pytest.mark.parametrize("benchmark", list(BUILDERS))
def test_rows_are_large_enough_and_hold_no_question_twice(benchmark, many):
    builder, wanted = BUILDERS[benchmark]
    rows = builder(many, random.Random("s"), wanted)
    units, asked = zip(*(unit_of(benchmark, row) for row in rows), strict=True)
    in_sets = benchmark in ("mmbench_en", "mmbench_cn", "hallusionbench")
    assert len(set(units)) == wanted >= (40 if in_sets else 100)
    assert len(set(asked)) == (wanted if benchmark.startswith("mmbench") else len(rows))


def test_too_few_pictures_make_fewer_questions_and_none_twice(make_picture):
    held = held_out(3, each=4)
    pictures = [replace(p, data=make_picture(k)) for k, p in enumerate(held.pictures)]
    held = replace(held, pictures=pictures)
    rows = recognition.realworldqa(held, random.Random(0), 100)
    asked = [unit_of("realworldqa", row)[1] for row in rows]
    assert len(set(asked)) == len(asked) == 2 * len(pictures)  # by kind and by caption
    sets = hallusion.hallusionbench(held, random.Random(0), 400)
    assert 4 < len({row["set_id"] for row in sets}) < 400


def test_the_rank_of_a_number_among_its_options_gives_nothing_away():
    rng, ranks = random.Random(0), [0] * 4
    for turn in range(400):
        options = maths.around(100, rng, turn)
        assert options[turn % 4] == "100"
        ranks[sorted(map(int, options)).index(100)] += 1
    assert min(ranks) > 70


@pytest.mark.parametrize("benchmark", list(BUILDERS))
def test_rows_are_the_same_every_time_and_others_with_another_seed(benchmark, make_picture):
    builder, _ = BUILDERS[benchmark]
    held = held_out(8, data=make_picture(0))
    one, two = (builder(held, random.Random("s"), 4) for _ in range(2))
    assert one == two
    assert one != builder(held, random.Random("t"), 4)


def test_the_right_option_is_what_the_picture_shows():
    held = held_out(8)
    made = recognition.questions(held, random.Random(0), 24)
    for question in made:
        right = question.options["ABCD".index(question.answer)]
        assert right in (question.picture.category, question.picture.caption)


def test_places_numbers_and_letters_are_even_and_independent(make_picture):
    rows = relations.seedbench(held_out(8, data=make_picture(0)), random.Random(0), 64)
    for kind in (2, 4, 5, 6):
        assert sum(row["question_type_id"] == kind for row in rows) == 16
    said = [row[f"choice_{row['answer'].lower()}"] for row in rows]
    for kind in (4, 5):  # where and how many: four answers each
        mine = [s for s, row in zip(said, rows, strict=True) if row["question_type_id"] == kind]
        assert {mine.count(answer) for answer in mine} == {4}
    assert [sum(row["answer"] == letter for row in rows) for letter in "ABCD"] == [16] * 4


def test_an_edited_chart_differs_in_two_values_only():
    first, second, questions = hallusion.edited(random.Random(3), alike=True)
    assert first.data != second.data
    one, two = (Image.open(io.BytesIO(p.data)).convert("RGB") for p in (first, second))
    box = ImageChops.difference(one, two).getbbox()
    assert box is not None
    assert box[2] - box[0] < 0.9 * one.width  # the page, its title and other bars are the same
    assert [truth for _, *truth in questions] == [[True, True], [True, False]]


@pytest.mark.parametrize("kind", ["bar", "line", "pie"])
def test_charts_have_one_highest_and_pies_are_whole(kind):
    for seed in range(50):
        chart = charts.make(random.Random(seed), kind)
        assert len(set(chart.values.values())) == len(chart.values) == 4
        assert min(chart.values.values()) > 0
        assert kind != "pie" or sum(chart.values.values()) == 100


@pytest.mark.parametrize("benchmark", list(schema.SCHEMAS))
def test_parquet_has_the_published_features(benchmark, tmp_path, make_picture):
    import datasets
    import pyarrow.parquet

    text, picture = datasets.Value("string"), datasets.Image()
    texts, mmbench = datasets.List(text), {"index": datasets.Value("int64"), "L2-category": text}
    published = {
        "mmbench_en": mmbench | {"image": picture},
        "mmbench_cn": mmbench | {"image": picture},
        "seedbench": {"image": datasets.List(picture), "question_type_id": datasets.Value("int16")},
        "mmmu": {"image_7": picture, "options": text},
        "mathvista": {"decoded_image": picture, "precision": datasets.Value("float64")},
        "textvqa": {"answers": texts, "image_width": datasets.Value("int32"), "image": picture},
        "chartqa": {"type": text, "question": text, "answer": text, "image": picture},
        "realworldqa": {"image": picture, "image_path": text, "question": text, "answer": text},
        "hallusionbench": {"set_id": text, "gt_answer": text, "image": picture},
        "ocrbench": {"answer": texts, "question_type": text, "image": picture},
    }[benchmark]
    builder, _ = BUILDERS[benchmark]
    held = held_out(8, data=make_picture(0))
    path = schema.write_parquet(
        benchmark, builder(held, random.Random(0), 2), tmp_path / "x.parquet"
    )  # fmt: skip
    read = datasets.Features.from_arrow_schema(pyarrow.parquet.read_schema(path))
    assert list(read) == list(schema.SCHEMAS[benchmark])
    assert {column: read[column] for column in published} == published
