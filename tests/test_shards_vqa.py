"""Composed and drawn questions: right by what was drawn, balanced, held out, and never guessed."""

import io
import json
import random
import re
import sys
from collections import Counter
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest
from PIL import Image, ImageFont

from data_shards.build import build
from data_shards.sources import SOURCES, Build, SourceError, SourceUnavailable
from data_shards.sources.demo import drawing, tables
from data_shards.sources.demo.binding import KINDS_OF
from data_shards.sources.demo.composites import CORNERS, Placed, corner_of
from data_shards.sources.demo.forms import LETTERS
from data_shards.sources.demo.vqa import KINDS, Vqa
from data_shards.sources.demo.wordings import LAYOUTS, WORDINGS
from data_shards.sources.demo.words import CAPITALS, OPPOSITES
from data_shards.sources.questions import with_article


@pytest.fixture(scope="module")
def options(tmp_path_factory) -> dict:
    """Pictures to compose, and a font that every machine with lmms-eval has."""
    shapes = tmp_path_factory.mktemp("made") / "shapes"
    build(SOURCES["shapes"](count=96), shapes)
    return {"images": shapes, "fonts": Path(find_spec("lmms_eval").origin).parent / "tasks/mmmu"}


@pytest.fixture(scope="module")
def samples(options) -> list:
    return list(Vqa(count=600, **options).generate(Build(seed=3)))


def text_of(message) -> str:
    return next(part["text"] for part in message["content"] if part["type"] == "text")


def turns_of(samples):
    """(sample, what was asked, question, answer) of every turn."""
    for sample in samples:
        asked, messages = json.loads(sample.meta["asked"]), sample.messages
        assert len(messages) == 2 * len(asked)
        for k, about in enumerate(asked):
            yield sample, about, text_of(messages[2 * k]), text_of(messages[2 * k + 1])


def put(wording: str, about: dict) -> str:
    """A pattern of the wording with its names, in which {answer} is found."""
    names = {key: re.escape(name) for key, name in about["names"].items()}
    escaped = re.sub(r"\\\{(\w+)\\\}", r"{\1}", re.escape(wording))
    return escaped.format_map(names | {"answer": "(?P<answer>.+?)"})


def corner(shown, thing) -> str:
    (one,) = (Placed(**p) for p in shown["placed"] if f"the {p['kind']}" == thing)
    return corner_of(one, tuple(shown["size"]))


def in_corner(shown, where) -> str:
    (kind,) = (p["kind"] for p in shown["placed"] if corner_of(Placed(**p), shown["size"]) == where)
    return kind


def beside(shown, thing, other, edges, words) -> str:
    one, two = (
        next(p for p in shown["placed"] if f"the {p['kind']}" == name) for name in (thing, other)
    )
    first, last = edges
    assert one[last] <= two[first] or two[last] <= one[first]
    return words[one[last] > two[first]]


def kinds_shown(shown) -> Counter:
    return Counter(p["kind"] for p in shown["placed"])


def after(shown, name, step) -> str:
    steps = shown["steps"]
    place = steps.index(name) + step
    assert shown["form"] == "ring" or 0 <= place < len(steps)
    return steps[place % len(steps)]


# kind of question -> its answer, from what was drawn, the names in the question, and the options
RIGHT = {
    "count": lambda d, n, o: len(d["placed"]),
    "count_kind": lambda d, n, o: sum(with_article(p["kind"]) == n["thing"] for p in d["placed"]),
    "side": lambda d, n, o: beside(d, **n, edges=("left", "right"), words=("left", "right")),
    "height": lambda d, n, o: beside(d, **n, edges=("top", "bottom"), words=("higher", "lower")),
    "corner": lambda d, n, o: corner(d, n["thing"]),
    "corner_kind": lambda d, n, o: in_corner(d, n["corner"]),
    "same": lambda d, n, o: "same" if len(kinds_shown(d)) == 1 else "different",
    "odd": lambda d, n, o: min(kinds_shown(d), key=kinds_shown(d).get),
    "read": lambda d, n, o: d["values"][n["name"]],
    "entry": lambda d, n, o: {str(v): name for name, v in d["values"].items()}[n["value"]],
    "most": lambda d, n, o: max(d["values"], key=d["values"].get),
    "least": lambda d, n, o: min(d["values"], key=d["values"].get),
    "apart": lambda d, n, o: abs(d["values"][n["name"]] - d["values"][n["other"]]),
    "more": lambda d, n, o: max((n["name"], n["other"]), key=d["values"].get),
    "entries": lambda d, n, o: len(d["values"]),
    "next": lambda d, n, o: after(d, n["name"], 1),
    "before": lambda d, n, o: after(d, n["name"], -1),
    "boxes": lambda d, n, o: len(d["steps"]),
    "word": lambda d, n, o: d["text"],
    "number": lambda d, n, o: d["text"],
    "initial": lambda d, n, o: d["text"][0],
    "letters": lambda d, n, o: len(d["text"]),
    "digits": lambda d, n, o: len(d["text"]),
    "parity": lambda d, n, o: ["even", "odd"][int(d["text"]) % 2],
    "member": lambda d, n, o: next(x for x in o if with_article(KINDS_OF[x]) == n["thing"]),
    "says": lambda d, n, o: n["text"],
    "opposite": lambda d, n, o: OPPOSITES[n["word"]],
    "capital": lambda d, n, o: CAPITALS[n["country"]],
    "largest": lambda d, n, o: max(map(int, o)),
    "behind": lambda d, n, o: o[LETTERS.index(n["letter"])],
}


def test_answers_follow_from_what_was_drawn_in_every_form(samples):
    seen = set()
    for sample, about, question, answer in turns_of(samples):
        kind, form, options = about["kind"], about["form"], about["options"]
        right = str(RIGHT[kind](json.loads(sample.meta["shown"]), about["names"], options))
        assert right == about["right"], (about, sample.meta["shown"])
        wordings = WORDINGS[kind].claim if form == "yes_no" else WORDINGS[kind].open
        found = [
            match for w in wordings
            if (match := re.search(put(w, about) + r"(?=$|\n| )", question, re.I))
        ]  # fmt: skip
        assert found, question
        if form == "open":
            assert answer == right
        elif form == "yes_no":
            claims = {match["answer"].lower() for match in found}
            assert answer == ("Yes" if right.lower() in claims else "No"), (question, right)
        else:
            assert options[LETTERS.index(answer)] == right and len(set(options)) == len(options)
        for letter, option in zip(LETTERS, options, strict=False):
            assert any(
                layout.format(letter=letter, option=option) in question for layout in LAYOUTS
            )
        seen.add((kind, form))
    assert {kind for kind, _ in seen} == set(WORDINGS)
    assert {form for _, form in seen} == {"open", "yes_no", "choice"}


@pytest.mark.parametrize("seed", range(3))
def test_letters_yes_and_no_are_balanced_whatever_the_seed(options, seed):
    found = list(Vqa(count=400, **options).generate(Build(seed=seed)))
    for split in ("train", "heldout"):
        for textual in (False, True):
            turns = [
                (about, answer)
                for sample, about, _, answer in turns_of(found)
                if sample.split == split and (sample.meta["kind"] == "binding") == textual
            ]
            verdicts = Counter(answer for about, answer in turns if about["form"] == "yes_no")
            assert abs(verdicts["Yes"] - verdicts["No"]) <= 1
            for size in (2, 3, 4):
                letters = Counter(
                    answer for about, answer in turns
                    if about["form"] == "choice" and len(about["options"]) == size
                )  # fmt: skip
                counts = [letters[letter] for letter in LETTERS[:size]]
                assert max(counts) - min(counts) <= 1 and set(letters) <= set(LETTERS[:size])
            forms = Counter(about["form"] for about, _ in turns)
            if not textual:
                assert max(forms.values()) - min(forms.values()) <= 1


def test_what_is_counted_and_where_it_lies_is_even(options):
    found = list(Vqa(count=1500, kinds="composite", **options).generate(Build(seed=1)))
    right = {kind: Counter() for kind in WORDINGS}
    for _, about, _, _ in turns_of(found):
        right[about["kind"]][about["right"]] += 1
    for kind, answers in {"count": "1234", "side": ("left", "right"), "corner": CORNERS}.items():
        counts = [right[kind][answer] for answer in answers]
        assert min(counts) > 0.6 * max(counts), (kind, right[kind])
    assert abs(right["same"]["same"] - right["same"]["different"]) <= 2


def test_splits_share_no_table_word_number_or_order_of_steps(samples):
    shown = {"train": set(), "heldout": set()}
    for sample in samples:
        found = json.loads(sample.meta["shown"])
        shown[sample.split] |= {tuple(found[key]) for key in ("steps",) if key in found}
        shown[sample.split] |= {found[key] for key in ("text",) if key in found}
        if sample.meta["kind"] == "chart":
            shown[sample.split].add(sample.meta["identity"])
        for about in json.loads(sample.meta["asked"]):
            if about["kind"] in ("member", "says", "behind"):
                shown[sample.split] |= {f"option {option}" for option in about["options"]}
    assert len(shown["heldout"]) > 20 and not shown["train"] & shown["heldout"]


def test_pages_are_made_of_pictures_of_their_own_split(samples, options):
    manifest = json.loads((options["images"] / "manifest.json").read_text())
    held = set(manifest["heldout_identities"])
    pages = [sample for sample in samples if sample.meta["kind"] == "composite"]
    for sample in pages:
        on_page = set(sample.meta["identity"].split("+"))
        assert on_page <= held if sample.split == "heldout" else not on_page & held
    assert {len(json.loads(s.meta["shown"])["placed"]) for s in pages} == {1, 2, 3, 4}


def test_kinds_are_in_equal_parts_and_pictures_come_first(samples):
    for split in ("train", "heldout"):
        mine = [sample for sample in samples if sample.split == split]
        counts = Counter(sample.meta["kind"] for sample in mine)
        assert set(counts) == set(KINDS) and max(counts.values()) - min(counts.values()) <= 1
        textual = [not sample.parts for sample in mine]
        assert textual == sorted(textual)
        assert textual.count(True) == counts["binding"]


def test_no_sample_passes_for_a_captioned_picture(samples, tmp_path, options):
    from eval.rows.heldout import load_heldout

    build(Vqa(count=60, **options), tmp_path / "vqa")
    build(SOURCES["shapes"](count=16), tmp_path / "shapes")
    assert load_heldout(tmp_path).source == "shapes"


def test_without_packages_and_pictures_it_says_so_and_goes_on(monkeypatch, options):
    def no_network(package, say):
        raise SourceUnavailable("no network")

    monkeypatch.setattr(drawing, "fetch_package", no_network)
    monkeypatch.setitem(sys.modules, "vega_datasets", None)
    lines = []
    note = Build(say=lines.append)
    found = list(replace(Vqa(count=80, **options), images=None, fonts=None).generate(note))
    assert {sample.meta["kind"] for sample in found} == set(KINDS) - {"composite"}
    assert note.facts["fonts"] == [drawing.BITMAP] and note.facts["real_tables"] == []
    said = "\n".join(lines)
    assert len(lines) == 3 and "no network" in said and "vega_datasets" in said
    assert "no composites" in said
    ink = [
        Image.open(io.BytesIO(s.parts["img0.jpg"])).convert("L").getextrema()
        for s in found if s.meta["kind"] == "lettering"
    ]  # fmt: skip
    assert all(high - low > 60 for low, high in ink)  # the letters are there


def test_the_font_of_the_evaluation_is_refused_by_name(tmp_path, options):
    (tmp_path / "mine.ttf").write_bytes(ImageFont.load_default(20).path.getvalue())
    with pytest.raises(SourceError, match=r"mine\.ttf is Aileron"):
        list(Vqa(fonts=tmp_path).generate(Build()))
    (tmp_path / "mine.ttf").unlink()
    with pytest.raises(SourceError, match=r"no \.ttf"):
        list(Vqa(fonts=tmp_path).generate(Build()))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"kinds": "charts"}, "'charts' is none of composite"),
        ({"kinds": "composite", "images": None}, "needs --images"),
        ({"count": 0}, "--count 0"),
    ],
)
def test_wrong_options_are_named(options, wrong, message):
    with pytest.raises(SourceError, match=message):
        list(Vqa(**options | wrong).generate(Build()))


def test_two_kinds_of_pictures_are_too_few(options, tmp_path):
    shapes = SOURCES["shapes"](count=2)
    build(shapes, tmp_path / "two")
    with pytest.raises(SourceError, match="3 kinds"):
        list(Vqa(**options | {"images": tmp_path / "two"}).generate(Build()))


def test_real_tables_are_drawn_where_they_are():
    pytest.importorskip("vega_datasets")
    for topic in tables.real_topics():
        for seed in range(20):
            table = topic.table(random.Random(seed))
            assert 3 <= len(table.values) <= 5
            assert len(set(table.values.values())) == len(table.values)
