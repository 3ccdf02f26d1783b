"""What is drawn and asked for training is not what the evaluation draws and asks."""

import json
import random
import re
from importlib.util import find_spec
from pathlib import Path

import pytest
from PIL import Image, ImageColor

from data_shards.build import build
from data_shards.sources import SOURCES, Build
from data_shards.sources.demo import charts, diagrams, drawing, lettering, shapes, wordings
from data_shards.sources.demo.tables import drawn_topics, real_topics
from data_shards.sources.demo.vqa import Vqa
from data_shards.sources.demo.words import STEPS, WORDS
from eval.benchmarks.image import IMAGE10
from eval.minisuite import canvas
from eval.minisuite.build import BUILDERS, SEED
from eval.rows import own
from eval.rows.heldout import HeldOut, Picture

ROOT = Path(__file__).parents[1]
LMMS = Path(find_spec("lmms_eval").origin).parent / "tasks"
FONTS = LMMS / "mmmu"  # a font that every machine with lmms-eval has
HEX = re.compile(r"#[0-9a-fA-F]{6}\b")


def colours_in(folder: Path) -> set[tuple[int, ...]]:
    """Every colour that the files of a folder name."""
    files = list(folder.glob("*.py"))
    assert files
    text = "\n".join(file.read_text(encoding="utf-8") for file in files)
    return {ImageColor.getrgb(colour) for colour in HEX.findall(text)}


def main_colours(picture: Image.Image) -> set[tuple[int, ...]]:
    """Those that cover more than an edge would."""
    area = picture.width * picture.height
    return {colour for n, colour in picture.getcolors(area) if n > area / 200}


@pytest.fixture(scope="module")
def pictures() -> list[Image.Image]:
    """As drawn for training, before JPEG changes their colours."""
    easel, rng = drawing.Easel(drawing.faces(FONTS, print)[0]), random.Random(0)
    topics = [*drawn_topics(), *real_topics()]
    made = [charts.draw(rng.choice(topics).table(rng), easel, rng) for _ in range(40)]
    made += [diagrams.draw(rng.sample(STEPS, 4), easel, rng) for _ in range(20)]
    made += [lettering.draw(rng.choice(WORDS), easel, rng) for _ in range(40)]
    return [picture for _, picture in made]


@pytest.fixture(scope="module")
def asked(make_picture) -> set[str]:
    """Every line that the evaluation asks, of rows as large as they are."""
    kinds = ("animal", "symbol", "landmark", "food", "plant", "vehicle", "tool")
    stamps = [
        Picture(f"{kind}{k}", kind, f"The {kind} {k}.", make_picture(k), f"shard:{kind}{k}")
        for kind in kinds for k in range(15)
    ]  # fmt: skip
    held = HeldOut(stamps, source="stamps")
    texts = [
        row["question"]
        for builder, units in BUILDERS.values() for row in builder(held, random.Random(1), units)
    ]  # fmt: skip
    texts += [doc.question for doc in own.category_docs(held)]
    return {line.strip().lower() for text in texts for line in text.splitlines() if line.strip()}


@pytest.fixture(scope="module")
def texts(tmp_path_factory) -> list[str]:
    """Everything that is asked and answered in the training samples."""
    images = tmp_path_factory.mktemp("made") / "shapes"
    build(SOURCES["shapes"](count=96), images)
    samples = list(Vqa(count=800, images=images, fonts=FONTS).generate(Build(seed=5)))
    assert (canvas.SIZE, canvas.SIZE) not in {
        tuple(json.loads(s.meta["shown"]).get("size", ())) for s in samples
    }
    turns = (message["content"] for sample in samples for message in sample.messages)
    return [part["text"] for content in turns for part in content if part["type"] == "text"]


def test_no_colour_of_the_evaluation_is_used(pictures):
    drawn = Path(canvas.__file__).parent
    theirs = colours_in(drawn)
    assert {ImageColor.getrgb(c) for c in (*canvas.INK, *canvas.PAPER, *canvas.FILLS)} <= theirs
    ours = colours_in(Path(drawing.__file__).parent)
    ours |= {
        ImageColor.getrgb(colour) if isinstance(colour, str) else colour
        for colour in (*shapes.COLOURS.values(), *shapes.BACKGROUNDS)
    }
    assert not ours & theirs
    assert not set.union(*map(main_colours, pictures)) & theirs
    for file in drawn.glob("*.py"):  # a training picture may be white
        assert not re.search(r'"(#ffffff|#fff|white|black)"', file.read_text("utf-8")), file


def test_no_page_has_the_size_of_the_evaluations(pictures):
    assert (canvas.SIZE, canvas.SIZE) not in {picture.size for picture in pictures}


def test_the_font_of_the_evaluation_draws_no_training_picture():
    family, _ = canvas.font(20).getname()
    assert family not in {face.name.split()[0] for face in drawing.faces(FONTS, print)[0]}
    word = "zephyr"
    theirs = Image.new("L", (200, 60))
    drawing.ImageDraw.Draw(theirs).text((4, 4), word, 255, canvas.font(40))
    theirs = theirs.crop(theirs.getbbox())
    for face in (drawing.Face(drawing.BITMAP), *drawing.faces(FONTS, print)[0]):
        ours = face.stencil(word, 40)
        assert ours.crop(ours.getbbox()).size != theirs.size


def test_no_seed_of_the_evaluation_is_used():
    seeds = re.compile(rf"\b({SEED}|{SEED:_})\b")
    for folder in ("data_shards", "stages"):
        for file in (ROOT / folder).rglob("*"):
            if file.suffix in (".py", ".yaml"):
                assert not seeds.search(file.read_text(encoding="utf-8")), file


def test_no_word_of_the_evaluation_is_drawn_or_asked(texts):
    used = {word for text in texts for word in re.findall(r"[a-z]+", text.lower())}
    titles = {topic.name for topic in drawn_topics()}
    titles = {word for title in titles for word in title.lower().split()}
    assert len(used) > 200
    assert (used | titles | set(WORDS) | set(STEPS)) & set(canvas.WORDS) == set()


def test_no_question_of_the_evaluation_is_put(texts, asked):
    mine = {line.strip().lower() for text in texts for line in text.splitlines()}
    assert "which one has the highest value?" in asked and not mine & asked
    for kind, wording in wordings.WORDINGS.items():
        for text in (*wording.open, *wording.claim):
            pattern = re.sub(r"\\\{\w+\\\}", ".+", re.escape(text.lower()))
            same = [line for line in asked if re.fullmatch(pattern, line)]
            assert not same, (kind, text, same[0])


def test_no_instruction_of_the_official_tasks_is_given():
    instructions = {*wordings.LETTER, *wordings.SHORTLY, *wordings.YES_OR_NO} - {""}
    for benchmark in IMAGE10:
        files = [p for p in (LMMS / benchmark.folder).rglob("*") if p.suffix in (".py", ".yaml")]
        assert files
        for file in files:
            text = file.read_text(encoding="utf-8").lower()
            assert not [line for line in instructions if line.lower() in text], file
