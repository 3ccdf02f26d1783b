"""easy-VQA: a public set of questions about small pictures of one shape, with its own split."""

import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

from omni.processing.messages import Message, assistant, image, user

from ...shards.sample import Sample
from ..base import Build, Deck, SourceError, facts
from .captioned import evenly
from .packages import Package, fetch

PACKAGE = Package(
    "python", "easy-vqa", "1.0", "fcb51b309b78c7b00f97b64cdbcbcf5c105f94da1b39c0796cee5a787c4f650f"
)
LICENCE = "MIT"
SPLITS = {"train": "train", "test": "heldout"}  # what the set calls them -> what we do
VERDICTS = ("yes", "no")
Asked = tuple[str, str]  # question, answer


def kind_of(answer: str) -> str:
    """Return the kind of a question from its answer."""
    return "easyvqa_yes_no" if answer in VERDICTS else "easyvqa_open"


@dataclass
class EasyVqa:
    """easy-VQA's pictures and questions to the letter; held out is its own test set, all of it."""

    path: Annotated[Path | None, "folder with train/ and test/; otherwise fetched"] = None
    variants: Annotated[int, "conversations per training image"] = 1
    turns: Annotated[int, "questions per training conversation"] = 4
    yes_no: Annotated[float, "share of the training questions that yes or no answers"] = 0.5
    limit: Annotated[int, "use only so many images of each split (0: all)"] = 0

    name: ClassVar[str] = "easyvqa"
    licenses: ClassVar[dict[str, str]] = {"easy-vqa": LICENCE}

    def generate(self, build: Build) -> Iterator[Sample]:
        """Yield conversations about training images, and test questions one by one."""
        if not 0 <= self.yes_no <= 1:
            raise SourceError(f"--yes-no {self.yes_no}: give a share from 0 to 1")
        if self.turns < 1 or self.variants < 1:
            raise SourceError("--turns and --variants start at 1")
        root = self._root(build)
        build.facts["split"] = "the set's own: --heldout changes nothing"
        pictures = {name: _pictures(root / name, build, self.limit) for name in SPLITS}
        build.total = self.variants * len(pictures["train"])
        build.total += sum(len(asked) for *_, asked in pictures["test"])
        yield from self._train(pictures["train"], build)
        for identity, data, asked in pictures["test"]:
            for question, answer in asked:
                messages = [user(image("img0.png"), question), assistant(answer)]
                meta = _meta(identity, question, answer)
                yield Sample(messages, {"img0.png": data}, meta, split="heldout")

    def _root(self, build: Build) -> Path:
        root = self.path or fetch(PACKAGE, build.say) / "easy_vqa" / "data"
        for folder in (root, root / "data", root / "easy_vqa" / "data"):
            if all((folder / name / "questions.json").is_file() for name in SPLITS):
                return folder
        raise SourceError(f"{root} holds no train/questions.json and test/questions.json")

    def _train(
        self, pictures: list[tuple[str, bytes, list[Asked]]], build: Build
    ) -> Iterator[Sample]:
        chooser = Chooser(self.yes_no, build.rng("easyvqa"))
        for _ in range(self.variants):
            for identity, data, asked in pictures:
                turns = chooser.turns(asked, self.turns)
                messages: list[Message] = []
                for question, answer in turns:
                    first = [] if messages else [image("img0.png")]
                    messages += [user(*first, question), assistant(answer)]
                yield Sample(messages, {"img0.png": data}, _meta(identity, *turns[0]))


class Chooser:
    """Choose the questions of conversations: kinds in the share asked for, yes as often as no."""

    def __init__(self, yes_no: float, rng: Any):
        self.yes_no, self.rng = yes_no, rng
        self.verdicts, self.debt = Deck(VERDICTS, rng), 0.0

    def turns(self, asked: list[Asked], count: int) -> list[Asked]:
        """Return `count` different questions in random order, or all where there are fewer."""
        left: dict[str, list[Asked]] = defaultdict(list)
        for i in self.rng.permutation(len(asked)):
            answer = asked[i][1]
            left[answer if answer in VERDICTS else "open"].append(asked[i])
        chosen = [left[name].pop() for _ in range(count) if (name := self._next(left))]
        return [chosen[i] for i in self.rng.permutation(len(chosen))]

    def _next(self, left: dict[str, list[Asked]]) -> str | None:
        """Return the kind that is due, or where the image has no more of it, another one."""
        if self.debt + self.yes_no < 0.5 and left["open"]:
            found = "open"
        else:
            verdict = self.verdicts.draw()
            other = VERDICTS[verdict == VERDICTS[0]]
            found = next((name for name in (verdict, other, "open") if left[name]), None)
        if found:  # what one image lacks is made up for by the next
            self.debt += self.yes_no - (found != "open")
        return found


def _meta(identity: str, question: str, answer: str) -> dict[str, Any]:
    about = {"identity": identity, "text": question, "answer": answer}
    return facts("easyvqa", LICENCE, kind_of(answer), **about)


def _pictures(folder: Path, build: Build, limit: int) -> list[tuple[str, bytes, list[Asked]]]:
    """Return (identity, PNG file, questions) of each image of a split."""
    questions: dict[int, list[Asked]] = defaultdict(list)
    try:
        for question, answer, number in json.loads((folder / "questions.json").read_bytes()):
            questions[int(number)].append((str(question), str(answer)))
    except (ValueError, TypeError) as error:
        raise SourceError(f"{folder / 'questions.json'}: no list of [question, answer, image], "
                          f"{error}") from error  # fmt: skip
    found = []
    for number in sorted(questions):
        path = folder / "images" / f"{number}.png"
        if path.is_file():
            found.append((f"{folder.name}/{number}", path.read_bytes(), questions[number]))
        else:
            build.skip(f"{folder.name}/images/{number}.png", "no such file")
    return evenly(found, limit)
