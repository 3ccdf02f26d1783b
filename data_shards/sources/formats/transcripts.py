"""Recordings and their transcripts in the layouts of LibriSpeech, Common Voice and LJSpeech."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..base import Build, SourceError
from .attachments import kind_of
from .encoding import lines
from .places import walk
from .tables import table_rows

SUFFIXES = (".flac", ".wav", ".mp3", ".ogg", ".opus")
TRANSCRIPT = ".trans.txt"
FIRST = "train.tsv"  # of a folder of Common Voice, unless one of its tables is given
USED = ("client_id", "path", "sentence")


@dataclass(frozen=True)
class Said:
    """One utterance: `where` its transcript is, and what must be in one split with it."""

    where: str
    utterance: str
    sound: Path
    text: str
    names: tuple[str, ...]


def transcripts(given: Path, build: Build) -> Iterator[Said]:
    """Yield the utterances of a folder, or of one table; recordings without any are named.

    Raises:
        SourceError: the folder has no layout that is known.
    """
    if given.is_file():
        yield from _common_voice(given, build)
        return
    found = list(walk(given))
    books = [path for path in found if path.name.endswith(TRANSCRIPT)]
    tables = [path for path in found if path.suffix == ".tsv"]
    table = next((path for path in tables if path.name == FIRST), tables[0] if tables else None)
    listed = given / "metadata.csv"
    if books:
        used = yield from _heard(_libri_speech(books))
        used |= {str(book) for book in books}
    elif listed.is_file():
        used = yield from _heard(_lj_speech(listed, build))
        used.add(str(listed))
    elif table:
        used = yield from _heard(_common_voice(table, build))
        used.add(str(table))
        for other in tables:
            if other != table:
                build.skip(other.name, f"{table.name} is read; --data {other} reads this one")
                used.add(str(other))
    else:
        raise SourceError(
            f"--data {given}: neither wav.scp nor any *{TRANSCRIPT}, *.tsv or metadata.csv there"
        )
    for path in found:
        if str(path) in used:
            continue
        if kind_of(path.name) == "audio":
            build.skip(str(path.relative_to(given)), "no transcript of it")
        else:
            build.unused(
                path.name if path.suffix == ".txt" else path.suffix or path.name, of="file"
            )


def _heard(found: Iterator[Said]) -> Any:
    """Pass utterances on and return the paths of their recordings."""
    used: set[str] = set()
    for one in found:
        used.add(str(one.sound))
        yield one
    return used


def _libri_speech(books: list[Path]) -> Iterator[Said]:
    for path in books:  # SPEAKER/CHAPTER/SPEAKER-CHAPTER.trans.txt
        for number, line in lines(path):
            utterance, *rest = line.split(maxsplit=1)
            found = (path.with_name(utterance + suffix) for suffix in SUFFIXES)
            sound = next((p for p in found if p.is_file()), path.with_name(f"{utterance}.flac"))
            names = (f"speaker {utterance.split('-')[0]}",)
            yield Said(f"{path.name}:{number}", utterance, sound, "".join(rest), names)


def _common_voice(table: Path, build: Build) -> Iterator[Said]:
    clips = table.parent / "clips"
    for where, row in table_rows(table, "--data", build):
        name, text = row.get("path"), row.get("sentence", "")
        if not name:
            build.skip(where, "it has no cell under 'path'")
            continue
        if Path(name).is_absolute() or ".." in Path(name).parts:
            build.skip(where, f"recording {name!r} lies outside {table.parent}")
            continue
        build.unused(*(column for column in row if column not in USED))
        name = name if kind_of(name) else f"{name}.mp3"  # as older releases have it
        sound = next((p for p in (clips / name, table.parent / name) if p.is_file()), clips / name)
        speaker = row.get("client_id")
        names = (f"speaker {speaker}",) if speaker else (str(sound),)
        yield Said(where, Path(name).stem, sound, text, names)


def _lj_speech(table: Path, build: Build) -> Iterator[Said]:
    for number, line in lines(table):
        where, row = f"{table.name}:{number}", [cell.strip() for cell in line.split("|")]
        if len(row) not in (2, 3):
            build.skip(where, "a line is NAME|TEXT or NAME|TEXT|TEXT AS IT IS SPOKEN")
            continue
        name, text = row[0], row[-1] or row[1]
        if not name or "/" in name or name.startswith("."):
            build.skip(where, f"{name!r} is no name of a recording in {table.parent}/wavs")
            continue
        if row[1] != text:
            build.unused("the text as it is written, beside that as it is spoken")
        path = table.parent / "wavs" / name
        found = (path.with_name(name + suffix) for suffix in ("", *SUFFIXES))
        sound = next((p for p in found if p.is_file()), path.with_name(f"{name}.wav"))
        yield Said(where, name, sound, text, (name,))
