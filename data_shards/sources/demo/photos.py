"""Photographs out of GCompris, an educational program: for evaluation only, none to train on."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, NamedTuple

from omni.processing.messages import assistant, image, user

from ...shards.sample import Sample
from ..base import Build, SourceError, facts, jpeg
from ..questions import ASK_CAPTION, ASK_CATEGORY
from . import captioned
from .debian import fetch_package
from .rcc import read_rcc

PACKAGE = "gcompris-qt-data"
BELOW = "usr/share/gcompris-qt/rcc"
LICENCE = "GPL-3.0-or-later, with notes on each image"
# containers whose boards name what each photograph shows -> category, a word of the stamps
BOARDS = {
    "explore_monuments": "landmark",
    "explore_world_animals": "animal",
    "explore_farm_animals": "animal",
}
# folders of categorization.rcc -> category. Its other folders (power plants, things of all kinds)
# and the pictures of musicians in explore_world_music fit none of the words.
SORTED = {"fishes": "animal", "monuments": "landmark", "tools": "tool"}
# file names that are no word for the thing
NAMES = {"plier": "pliers", "tweezer": "tweezers", "screw driver": "screwdriver"}
_BOARD = re.compile(
    r'"title":\s*qsTr\("(?P<name>[^"]+)"\)(?:(?!"title":).)*?"image2":\s*"qrc:/(?P<file>[^"]+)"',
    re.DOTALL,
)


class Photo(NamedTuple):
    """A photograph; `name` is "" where only its category is known."""

    place: str
    category: str
    name: str
    data: bytes


@dataclass
class Photos:
    """GCompris' photographs of landmarks, animals and tools; all of it is held out."""

    path: Annotated[Path | None, "folder of the .rcc files; otherwise fetched from Debian"] = None
    limit: Annotated[int, "use only so many photographs (0: all)"] = 0

    name: ClassVar[str] = "photos"
    licenses: ClassVar[dict[str, str]] = {"gcompris": LICENCE}

    def generate(self, build: Build) -> Iterator[Sample]:
        """Yield a sample for each photograph, which asks for its name or else its category."""
        from omni.media.decode import MediaError

        build.facts["split"] = "all of it is held out: --heldout changes nothing"
        photos = captioned.evenly(list(_photos(self._root(build), build)), self.limit)
        build.total = len(photos)
        for photo in photos:
            try:
                data = jpeg(captioned.small(photo.data))
            except MediaError as error:
                build.skip(photo.place, str(error))
                continue
            question = (ASK_CAPTION if photo.name else ASK_CATEGORY)[0]
            messages = [user(image("img0.jpg"), question), assistant(photo.name or photo.category)]
            about = {"identity": photo.place, "category": photo.category, "name": photo.name}
            meta = facts("photos", LICENCE, "photo", **about)
            yield Sample(messages, {"img0.jpg": data}, meta, split="heldout")

    def _root(self, build: Build) -> Path:
        root = self.path or fetch_package(PACKAGE, build.say, "--path DIR")
        for folder in (root, root / BELOW):
            if any(folder.glob("*.rcc")):
                return folder
        raise SourceError(f"{root} holds no .rcc file; give the folder {BELOW} of the package")


def _photos(root: Path, build: Build) -> Iterator[Photo]:
    for container, category in BOARDS.items():
        files = _container(root, container, build)
        boards = [text.decode() for name, text in files.items() if name.endswith(".qml")]
        for match in (match for board in boards for match in _BOARD.finditer(board)):
            place, name = match["file"], match["name"]
            if place in files:
                yield Photo(place, category, name, files[place])
            else:
                build.skip(f"{container}.rcc: {place}", "no such file in the container")
    for place, data in _container(root, "categorization", build).items():
        *_, folder, file = f"/{place}".split("/")
        if folder in SORTED and file.endswith(".webp"):
            # the files of fish are numbered, and a monument's is not always called by its name
            name = _words(file.partition(".")[0]) if folder == "tools" else ""
            yield Photo(place, SORTED[folder], name, data)


def _container(root: Path, name: str, build: Build) -> dict[str, bytes]:
    path = root / f"{name}.rcc"
    if path.is_file():
        return read_rcc(path)
    build.skip(path.name, "no such file")
    return {}


def _words(name: str) -> str:
    """Return the words of a file name: "measuringTape3" -> "measuring tape"."""
    words = " ".join(re.findall(r"[A-Z]?[a-z]+", name)).lower()
    return NAMES.get(words, words)
