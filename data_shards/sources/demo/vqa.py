"""Synthetic visual question answering: composed and drawn pictures, asked about in every form."""

import json
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

from PIL import Image

from omni.processing.messages import Message, assistant, image, user

from ...shards.sample import Sample
from ..base import Build, Deck, SourceError, digest, facts, heldout, jpeg
from . import binding, charts, composites, diagrams, lettering
from .drawing import Easel, faces
from .forms import Fact, Forms, Turn
from .from_shards import captioned
from .tables import Topic, drawn_topics, real_topics
from .words import STEPS, WORDS

KINDS = ("composite", "chart", "diagram", "lettering", "binding")
LICENSE = "Apache-2.0"  # of what is drawn here
LARGEST_NUMBER = 9_999
LONGEST_WORD = 7  # letters


@dataclass(frozen=True)
class Shown:
    """A picture, which facts can be asked of it, and what was drawn, for whoever checks these."""

    identity: str
    image: Image.Image | None
    facts: list[Fact]
    drawn: dict[str, Any]


@dataclass
class Vqa:
    """Composed pages, charts, diagrams and lettering, and options bound to letters in text."""

    images: Annotated[Path | None, "shards folder of captioned pictures, for the composites"] = None
    kinds: Annotated[str, "of the samples, comma-separated"] = ",".join(KINDS)
    count: Annotated[int, "samples, of both splits"] = 3000
    turns: Annotated[int, "questions per sample"] = 2
    fonts: Annotated[Path | None, "folder of .ttf or .otf files; otherwise fetched"] = None

    name: ClassVar[str] = "vqa"
    licenses: ClassVar[dict[str, str]] = {"vqa": LICENSE}

    def generate(self, build: Build) -> Iterator[Sample]:
        """Yield both splits; in each what has pictures first, kinds in turn.

        In this order because HF `load_dataset` takes the columns from the first samples of a
        shard, and the text has no picture.
        """
        kinds = self._kinds(build)
        found, licences = faces(self.fonts, build.say)
        build.licenses |= licences
        build.facts["fonts"] = [face.name for face in found]
        pools = _pools(build, self.images if "composite" in kinds else None)
        aside = round(self.count * build.heldout)
        build.total = self.count
        for split, number in (("train", self.count - aside), ("heldout", aside)):
            maker = Maker(split, pools[split], Easel(found), build, self.turns)
            numbers = {kind: range(k, number, len(kinds)) for k, kind in enumerate(kinds)}
            text = numbers.pop("binding", ())
            for place in sorted((at, kind) for kind, some in numbers.items() for at in some):
                yield maker.sample(place[1], place[0])
            for at in text:
                yield maker.sample("binding", at)

    def _kinds(self, build: Build) -> list[str]:
        kinds = [kind.strip() for kind in self.kinds.split(",")]
        if unknown := [kind for kind in kinds if kind not in KINDS]:
            raise SourceError(f"--kinds: {', '.join(unknown)!r} is none of {', '.join(KINDS)}")
        if self.count < 1 or self.turns < 1:
            raise SourceError(f"--count {self.count} --turns {self.turns}: give 1 or more")
        if self.images is None and "composite" in kinds:
            build.say("no --images: no composites are made")
            kinds = [kind for kind in kinds if kind != "composite"]
        if not kinds:
            raise SourceError("--kinds composite needs --images, a shards folder of pictures")
        return list(dict.fromkeys(kinds))


@dataclass
class Pool:
    """What one split may be made of."""

    topics: list[Topic]
    words: list[str]
    numbers: list[str]
    known: set[str]
    pictures: list[composites.Small]
    licence: str


def _pools(build: Build, images: Path | None) -> dict[str, Pool]:
    """Divide everything between the splits; the pictures are divided already."""
    if not (real := real_topics()):
        build.say("vega_datasets is not installed: charts show drawn numbers alone")
    build.facts["real_tables"] = [topic.name for topic in real]
    pictures = captioned(images, "--images", build) if images else {"train": [], "heldout": []}
    topics = {topic.name: topic for topic in (*real, *drawn_topics())}
    words = sorted({w for w in (*WORDS, *binding.KINDS_OF) if len(w) <= LONGEST_WORD})
    strata: dict[str, dict[str, str]] = {
        "topics": {name: str(topic in real) for name, topic in topics.items()},
        "words": {word: str(len(word)) for word in words},
        "numbers": {str(n): str(len(str(n))) for n in range(2, LARGEST_NUMBER + 1)},
        "known": binding.items(),
    }
    aside = {name: heldout(some, build.heldout, build.seed) for name, some in strata.items()}
    pools = {}
    for split in ("train", "heldout"):
        mine = {
            name: [one for one in some if (one in aside[name]) == (split == "heldout")]
            for name, some in strata.items()
        }
        licences = sorted({str(s.meta.get("license", "unknown")) for s in pictures[split]})
        pools[split] = Pool(
            [topics[name] for name in mine["topics"]], mine["words"], mine["numbers"],
            set(mine["known"]), composites.small(pictures[split]),
            " and ".join(licences),
        )  # fmt: skip
    return pools


class Maker:
    """Makes the samples of one split; each depends on the seed and on those before it."""

    def __init__(self, split: str, pool: Pool, easel: Easel, build: Build, turns: int):
        self.split, self.pool, self.easel, self.turns = split, pool, easel, turns
        self.build = build
        rng = build.rng("vqa", split)
        self.forms = Forms(rng)
        self.binding = binding.Binding(pool.known, Forms(rng))
        self.composer = composites.Composer(pool.pictures, easel, rng) if pool.pictures else None
        self._length = Deck("1234", rng)
        self._make: dict[str, Callable[[random.Random], Shown]] = {
            "composite": self._composite,
            "chart": self._chart,
            "diagram": self._diagram,
            "lettering": self._lettering,
        }

    def sample(self, kind: str, number: int) -> Sample:
        """Return sample `number` of a kind."""
        rng = random.Random(digest(self.build.seed, "vqa", self.split, number))
        if kind == "binding":
            turns = [self.binding.turn(rng) for _ in range(self.turns)]
            # its options and its question, and no other split has one of these
            shown = Shown(turns[0].question, None, [], {})
        else:
            shown = self._make[kind](rng)
            turns = [self.forms.turn(one, rng) for one in _different(shown.facts, self.turns)]
        licence = self.pool.licence if kind == "composite" else LICENSE
        meta = facts(
            "vqa", licence, kind, identity=shown.identity, answer=turns[0].answer,
            shown=json.dumps(shown.drawn), asked=json.dumps([_asked(turn) for turn in turns]),
        )  # fmt: skip
        parts = {}
        if shown.image is not None:
            parts["img0.jpg"] = jpeg(shown.image, subsampling="4:4:4")
        return Sample(_messages(turns, bool(parts)), parts, meta, split=self.split)

    def _composite(self, rng: random.Random) -> Shown:
        assert self.composer is not None
        page = self.composer.page(rng)
        drawn = {"placed": [asdict(one) for one in page.placed], "size": page.image.size}
        asked = composites.facts(page, self.composer.kinds, rng)
        return Shown(page.identity, page.image, asked, drawn)

    def _chart(self, rng: random.Random) -> Shown:
        table = rng.choice(self.pool.topics).table(rng)
        form, picture = charts.draw(table, self.easel, rng)
        drawn = {"form": form, "title": table.title, "values": table.values}
        return Shown(f"table: {table.topic}", picture, charts.facts(table, rng), drawn)

    def _diagram(self, rng: random.Random) -> Shown:
        steps: list[str] = []
        while not steps or self._aside(steps) != (self.split == "heldout"):
            steps = rng.sample(STEPS, rng.choice(diagrams.SIZES))
        form, picture = diagrams.draw(steps, self.easel, rng)
        identity = f"steps: {' '.join(steps)}"
        return Shown(identity, picture, diagrams.facts(steps, rng), {"form": form, "steps": steps})

    def _aside(self, steps: list[str]) -> bool:
        """Whether these steps in this order are held out; their share is that of all."""
        return digest(self.build.seed, *steps) < self.build.heldout * 2**64

    def _lettering(self, rng: random.Random) -> Shown:
        if rng.random() < 0.5:
            text = rng.choice(self.pool.words)
            asked = lettering.word_facts(text, [w for w in self.pool.words if w != text], rng)
        else:
            length = int(self._length.draw())
            text = rng.choice([n for n in self.pool.numbers if len(n) == length])
            asked = lettering.number_facts(text, rng)
        form, picture = lettering.draw(text, self.easel, rng)
        return Shown(f"text: {text}", picture, asked, {"form": form, "text": text})


def _different(found: Sequence[Fact], number: int) -> list[Fact]:
    """The first facts, of each kind one."""
    return list({one.kind: one for one in reversed(found)}.values())[::-1][:number]


def _asked(turn: Turn) -> dict[str, Any]:
    """What was asked, for whoever checks the answer."""
    fact = turn.fact
    names = {"kind": fact.kind, "form": turn.form, "right": fact.answer}
    return names | {"names": dict(fact.names), "options": list(turn.options)}


def _messages(turns: Sequence[Turn], pictured: bool) -> list[Message]:
    messages: list[Message] = []
    for turn in turns:
        first = pictured and not messages
        messages.append(user(image("img0.jpg"), turn.question) if first else user(turn.question))
        messages.append(assistant(turn.answer))
    return messages
