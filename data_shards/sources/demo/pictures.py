"""Stamps and emoji as one set of captioned pictures, held out by what they show."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, ClassVar

from PIL import Image

from ...shards.sample import Sample
from ..base import Build, Groups, SourceUnavailable, jpeg
from ..questions import ALL_KINDS, Picture
from . import captioned, fluent, stamps
from .concepts import join_concepts
from .debian import fetch_package
from .packages import fetch

# one more folder of the stamps than `stamps` has: emoji make clothing a kind of its own
FOLDERS = stamps.CATEGORIES | {"clothes": "clothing"}
Found = tuple[Picture, Image.Image]


@dataclass
class Pictures:
    """Stamps and Fluent emoji, asked about as `stamps` are; a concept is in one split only."""

    path: Annotated[Path | None, "unpacked stamps folder; otherwise fetched from Debian"] = None
    emoji: Annotated[Path | None, "folder of the emoji's pictures; otherwise fetched by npm"] = None
    emoji_names: Annotated[Path | None, "emoji-test.txt; otherwise fetched from Debian"] = None
    variants: Annotated[int, "conversations per training image"] = 6
    turns: Annotated[int, "questions per conversation"] = 3
    kinds: Annotated[str, "of the questions, comma-separated"] = ALL_KINDS
    limit: Annotated[int, "use only so many images of each set (0: all)"] = 0

    name: ClassVar[str] = "pictures"
    licenses: ClassVar[dict[str, str]] = {
        "tuxpaint-stamps": stamps.LICENCE,
        "fluent-emoji": fluent.LICENCE,
    }

    def generate(self, build: Build) -> Iterator[Sample]:
        """Yield pictures (train, heldout) and human recordings (heldout-human).

        A set that cannot be had is named and left out.

        Raises:
            SourceUnavailable: none of them can be had.
        """
        groups = Groups()
        sets = {
            name: found
            for name, load in (("tuxpaint-stamps", self._stamps), ("fluent-emoji", self._emoji))
            if (found := _optional(name, load, build, groups))
        }
        if not sets:
            raise SourceUnavailable("neither the stamps nor the emoji can be had, see above")
        found = [one for pictures in sets.values() for one in pictures]
        join_concepts({picture.identity: picture.caption for picture, _ in found}, groups)
        build.facts["concepts"] = _concepts(sets, groups)
        known = [
            (replace(picture, identity=groups.find(picture.identity)), jpeg(image))
            for picture, image in found
        ]
        yield from captioned.samples(self.name, known, build, self.variants, self.turns, self.kinds)
        if "tuxpaint-stamps" in sets:
            root = stamps.find_stamps(self.path, build)
            yield from stamps.human_speech(self.name, root, build, self.limit)

    def _stamps(self, build: Build, groups: Groups) -> list[Found]:
        root = stamps.find_stamps(self.path, build)
        images = stamps.load_stamps(root, FOLDERS, build, self.limit)
        for name, same in stamps.identities(images).items():
            groups.join(same, name)
        return [
            (Picture(name, stamps.category_of(name, FOLDERS), caption, stamps.LICENCE), image)
            for name, caption, image in images
        ]

    def _emoji(self, build: Build, groups: Groups) -> list[Found]:
        from omni.media.decode import MediaError

        give = f"--emoji-names DIR/{fluent.NAMES}"
        names = self.emoji_names or (
            fetch_package(fluent.NAMES_PACKAGE, build.say, give) / fluent.NAMES
        )
        files = fluent.pictures_by_code(self.emoji or fetch(fluent.PACKAGE, build.say))
        known = [one for one in fluent.read_names(names) if one.codes in files]
        for one in known:
            if not one.category:
                build.unused(one.subgroup, of="emoji")
        build.report_unused(self.name)
        known = [(one, category) for one in known if (category := one.category)]
        found = []
        for one, category in captioned.evenly(known, self.limit):
            path = files[one.codes]
            picture = Picture(f"emoji/{path.stem}", category, one.caption, fluent.LICENCE)
            try:
                found.append((picture, captioned.small(path)))
            except MediaError as error:
                build.skip(f"{path.name} ({one.name})", str(error))
        return found


def _optional(
    name: str,
    load: Callable[[Build, Groups], list[Found]],
    build: Build,
    groups: Groups,
) -> list[Found]:
    """Return the pictures of a set, or none and say why, here and in the manifest."""
    sets = build.facts.setdefault("sets", {})
    try:
        found = load(build, groups)
        sets[name] = len(found)
        return found
    except SourceUnavailable as error:
        build.say(f"{name} is left out: {error}")
        build.licenses.pop(name, None)
        sets[name] = f"left out: {error}"
        return []


def _concepts(sets: dict[str, list[Found]], groups: Groups) -> dict[str, int]:
    """Count what is held out or trained on as one, and how much of it is in several sets."""
    kinds = [{groups.find(picture.identity) for picture, _ in found} for found in sets.values()]
    several = Counter(name for names in kinds for name in names)
    return {"all": len(several), "in_both_sets": sum(n > 1 for n in several.values())}
