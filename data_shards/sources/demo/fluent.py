"""Fluent emoji: drawings with the names and groups that Unicode gives them."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from ..base import SourceError
from .packages import Package

PACKAGE = Package(
    "npm", "@lobehub/fluent-emoji-3d", "1.1.0",
    "c1bb7eee7de090205a232518a9ab4adb3df458bfbe8a1f78232991194c8b2e58",
)  # fmt: skip
NAMES_PACKAGE = "unicode-data"
NAMES = "usr/share/unicode/emoji/emoji-test.txt"
LICENCE = "MIT"
PICTURES = (".webp", ".png")
# Unicode's groups and, where one holds several kinds of thing, its subgroups. The words are those
# of the stamps, whose symbols are letters, signs, coins and smileys, and whose tools are what
# stands in a household; `person` and `clothing` have no like there. Left out: flags of countries
# (what they are called cannot be seen), sky and weather, maps, sports, games, crafts and
# instruments, which none of the words names.
CATEGORIES = {
    "Smileys & Emotion": "symbol",
    "cat-face": "animal",
    "monkey-face": "animal",
    "People & Body": "person",
    **dict.fromkeys(
        [f"animal-{kind}" for kind in ("mammal", "bird", "amphibian", "reptile", "marine", "bug")],
        "animal",
    ),
    "plant-flower": "plant",
    "plant-other": "plant",
    "Food & Drink": "food",
    "dishware": "tool",
    **dict.fromkeys([f"place-{kind}" for kind in ("building", "religious", "other")], "landmark"),
    **dict.fromkeys([f"transport-{kind}" for kind in ("ground", "water", "air")], "vehicle"),
    "time": "tool",
    "hotel": "tool",
    "event": "decoration",
    "award-medal": "decoration",
    "clothing": "clothing",
    **dict.fromkeys(
        ("phone", "computer", "light & video", "writing", "office", "lock", "tool", "science",
         "medical", "household", "sound"),
        "tool",
    ),
    "money": "symbol",
    "music": "symbol",
    "Symbols": "symbol",
    "flag": "symbol",
}  # fmt: skip
# what Unicode files under traffic and is no vehicle; road signs are in the stamps' town, too
OTHERWISE = {
    **dict.fromkeys(
        ("station", "bus stop", "motorway", "railway track", "construction", "stop sign",
         "horizontal traffic light", "vertical traffic light"),
        "landmark",
    ),
    **dict.fromkeys(
        ("oil drum", "fuel pump", "police car light", "anchor", "ring buoy", "seat", "lipstick",
         "hair pick", "studio microphone", "microphone", "level slider", "control knobs",
         "headphone", "radio"),
        "tool",
    ),
}  # fmt: skip
_LINE = re.compile(r"^([0-9A-F ]+?) *; *(\S+) *# \S+ E[\d.]+ (.+)$")
_SKIN = range(0x1F3FB, 0x1F400)


class Emoji(NamedTuple):
    """A sequence of code points, its name, and where Unicode files it."""

    codes: tuple[int, ...]
    name: str
    group: str
    subgroup: str

    @property
    def category(self) -> str | None:
        """The word for the kind of thing; None where there is none."""
        return OTHERWISE.get(self.name) or CATEGORIES.get(self.subgroup, CATEGORIES.get(self.group))

    @property
    def caption(self) -> str:
        """The name as a sentence: without an article, for bread and scissors take none."""
        return f"{self.name[0].upper()}{self.name[1:]}."


def read_names(file: Path) -> Iterator[Emoji]:
    """Yield the emoji of a file in the form of emoji-test.txt, without those of a skin tone.

    Raises:
        SourceError: there is no such file, or none of its lines is one.
    """
    if not file.is_file():
        raise SourceError(f"{file}: no such file; give Unicode's emoji-test.txt")
    group = subgroup = ""
    seen: set[tuple[int, ...]] = set()
    for line in file.read_text(encoding="utf-8").splitlines():
        kind, _, name = line.partition(": ")
        if kind == "# group":
            group = name.strip()
        elif kind == "# subgroup":
            subgroup = name.strip()
        elif (match := _LINE.match(line)) and match[2] != "component":
            codes = _plain(int(code, 16) for code in match[1].split())
            if codes not in seen and not any(code in _SKIN for code in codes):
                seen.add(codes)
                yield Emoji(codes, match[3], group, subgroup)
    if not seen:
        raise SourceError(f"{file}: no line in the form of Unicode's emoji-test.txt")


def pictures_by_code(folder: Path) -> dict[tuple[int, ...], Path]:
    """Return the pictures below a folder by their code points, which are their names.

    Raises:
        SourceError: there is none.
    """
    found: dict[tuple[int, ...], Path] = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix in PICTURES and re.fullmatch(r"[0-9a-f]+([-_][0-9a-f]+)*", path.stem):
            found.setdefault(_plain(int(code, 16) for code in re.split("[-_]", path.stem)), path)
    if not found:
        raise SourceError(
            f"{folder}: no picture here or below that is named after its code points, such as "
            "1f981.webp"
        )
    return found


def _plain(codes: Iterator[int]) -> tuple[int, ...]:
    """Without the selector of a coloured form, which some leave out."""
    return tuple(code for code in codes if code != 0xFE0F)
