"""Voices, rooms, sentences and recordings: nothing held out is trained on, all of it repeats."""

import importlib.util
import subprocess
from pathlib import Path

import numpy as np
import pytest

from data_shards.build import build
from data_shards.shards.manifest import read_manifest
from data_shards.sources import SOURCES, Build, SourceError, SourceUnavailable
from data_shards.sources.demo import voices
from data_shards.sources.demo.acoustics import LEVEL, PEAK, recorded
from data_shards.sources.demo.recordings import readable
from data_shards.sources.demo.sentences import words_of
from data_shards.sources.demo.words import RECORDED, WORDS
from omni.media.decode import load_audio

spec = importlib.util.spec_from_file_location(
    "speech_packages", Path(__file__).with_name("speech_packages.py")
)
packages = importlib.util.module_from_spec(spec)
spec.loader.exec_module(packages)
OFFLINE = "pico,flite"


@pytest.fixture
def offline(tmp_path, monkeypatch) -> Path:
    """An empty cache, no network, and a py_nanotts that makes square waves."""
    monkeypatch.setenv("OMNI_CACHE", str(tmp_path / "cache"))

    real = subprocess.run

    def no_apt(command, **options):
        if command[0] == "apt-get":
            raise subprocess.CalledProcessError(100, command, stderr="E: no network\n")
        return real(command, **options)

    monkeypatch.setattr(subprocess, "run", no_apt)
    packages.install_pico(monkeypatch)
    return tmp_path / "cache"


@pytest.fixture
def flite(offline) -> None:
    packages.write_flite(offline)


@pytest.fixture
def phrases(tmp_path) -> str:
    """A file of a few words: --text."""
    (tmp_path / "few.txt").write_text("apple\nriver\nA red house.\n")
    return str(tmp_path / "few.txt")


def samples(build: Build | None = None, name: str = "speech", **options) -> list:
    source = SOURCES[name](**options)
    return list(source.generate(build or Build(say=lambda _: None)))


def values(samples: list, split: str, name: str) -> set:
    return {sample.meta[name] for sample in samples if sample.split == split}


def persons(samples: list, split: str) -> set[str]:
    return {voice.partition("@")[0] for voice in values(samples, split, "voice")}


@pytest.mark.parametrize("heldout", ["auto", "flite:rms", "pico", "flite:awb,pico:en-US"])
def test_a_held_out_voice_is_never_trained_on(flite, heldout, phrases):
    note = Build(say=lambda _: None)
    made = samples(note, voices=OFFLINE, heldout_voices=heldout, text=phrases, renditions=9)
    train, out = persons(made, "train"), persons(made, "heldout")
    named = ("pico:en-GB", "flite:slt") if heldout == "auto" else tuple(heldout.split(","))
    assert not train & out and len(train | out) == 6
    assert all(voice.startswith(named) for voice in out)
    assert not any(voice.startswith(named) for voice in train)
    assert {(s.split, s.meta["unseen_voice"]) for s in made} == {
        ("train", False), ("heldout", True)
    }  # fmt: skip
    assert set(note.facts["voices"]["train"]) == values(made, "train", "voice")
    assert note.licenses == {"py-nanotts": "Apache-2.0", "flite": "CMU (BSD-like)"}
    for word in ("apple", "river"):  # each text is read by many, and in several speeds
        mine = [s.meta for s in made if s.split == "train" and s.meta["text"] == word]
        assert len({(m["voice"], m["speed"]) for m in mine}) == 9
        assert len({m["speed"] for m in mine}) >= 3


def test_pitches_and_speeds_are_heard(offline, phrases):
    made = samples(voices="pico", heldout_voices="none", text=phrases)
    made = [s for s in made if s.split == "train"]
    sounds = {s.parts["aud0.flac"] for s in made if s.meta["text"] == "apple"}
    assert len(sounds) == 12
    lengths = {s.meta["speed"]: len(load_audio(s.parts["aud0.flac"])) for s in made
               if s.meta["text"] == "apple"}  # fmt: skip
    assert sorted(lengths, reverse=True) == sorted(lengths, key=lambda speed: lengths[speed])


def test_one_pitch_is_one_voice_and_no_rendition_of_it_is_another_again(offline, phrases):
    made = samples(voices="pico:en-US@0.75", heldout_voices="none", text=phrases, renditions=24)
    assert {sample.meta["voice"] for sample in made} == {"pico:en-US@0.75"}
    train, heldout = (
        {s.parts["aud0.flac"] for s in made if s.split == split and s.meta["text"] == "apple"}
        for split in ("train", "heldout")
    )
    assert len(train) == 24 and heldout and not train & heldout
    speeds = [values(made, split, "speed") for split in ("train", "heldout")]
    assert min(abs(a - b) for a in speeds[0] for b in speeds[1]) > 0.005


def test_voices_that_cannot_be_had_are_named_and_left_out(offline, phrases):
    told: list[str] = []
    note = Build(say=told.append)
    made = samples(note, voices=OFFLINE, text=phrases)
    assert persons(made, "train") == {"pico:en-US"} and persons(made, "heldout") == {"pico:en-GB"}
    assert [line for line in told if "voices of flite are left out: the Debian package" in line]
    assert "flite" not in note.licenses
    with pytest.raises(SourceUnavailable, match="flite:slt is not among the voices"):
        samples(voices=OFFLINE, heldout_voices="flite:slt")
    with pytest.raises(SourceUnavailable, match="none of them can be had"):
        samples(voices="flite")


def test_a_flite_that_does_not_run_is_left_out(flite, offline):
    (offline / "debian/libflite1/usr/lib/some-machine/libflite.so.1").unlink()
    told: list[str] = []
    samples(Build(say=told.append), voices=OFFLINE, text="none")
    assert any("flite are left out" in line and "does not run here" in line for line in told)


def test_wrong_voices_and_shares_are_refused(flite):
    for options, words in (
        ({"voices": "picco"}, "--voices: no voice 'picco'; did you mean 'pico'"),
        ({"heldout_voices": "flite:bob"}, "--heldout-voices: no voice 'flite:bob'"),
        ({"heldout_voices": "pico,flite"}, "leaves no voice to train on"),
        ({"augment": 1.5}, "--augment 1.5"),
    ):
        with pytest.raises(SourceError, match=words):
            samples(**({"voices": OFFLINE} | options))


def test_what_a_voice_cannot_read_is_named_and_skipped(flite, tmp_path):
    (tmp_path / "phrases.txt").write_text("a cat\n1 < 2\nunspeakable\n")
    note = Build(say=lambda _: None)
    made = samples(note, voices=OFFLINE, text=str(tmp_path / "phrases.txt"))
    assert {s.meta["text"] for s in made if s.meta["voice"].startswith("pico")} == {
        "a cat", "unspeakable"
    }  # fmt: skip
    skipped = "\n".join(note.skipped)
    assert "markup: '1 < 2'" in skipped and "cannot read 'unspeakable'" in skipped
    assert len(made) + len(note.skipped) == 3 * 15


def test_sentences_are_held_out_by_text_and_by_voice(flite, tmp_path):
    build(SOURCES["shapes"](count=64), tmp_path / "shapes")
    options = {"voices": OFFLINE, "text": "sentences", "sentences": 100, "renditions": 1,
               "captions": tmp_path / "shapes"}  # fmt: skip
    note = Build(say=lambda _: None)
    made = samples(note, **options)
    train, out = ({words_of(text) for text in values(made, split, "text")}
                  for split in ("train", "heldout"))  # fmt: skip
    assert not train & out and len(out) >= 15
    assert values(made, "heldout", "category") == {"made", "caption"}
    assert not persons(made, "train") & persons(made, "heldout")
    assert {s.meta["kind"] for s in made} == {"sentence"}
    captions = {s.meta["text"] for s in made if s.meta["category"] == "caption"}
    held = {s.meta["text"] for s in made if s.meta["category"] == "caption"
            and s.split == "heldout"}  # fmt: skip
    assert captions > held  # shapes of one caption lie in both splits: those are not trained on
    assert note.facts["sentences"]["train"] == len(values(made, "train", "text"))
    assert made == samples(**options)
    with pytest.raises(SourceError, match="up to 50,000"):
        samples(voices=OFFLINE, text="sentences", sentences=10**9)


def test_rooms_repeat_are_level_and_never_clip():
    wave = packages.tone(300, 0.5)
    seen = set()
    for seed in range(30):
        loud = wave * 10 ** (seed / 10 - 1.5)  # from far below to far beyond full scale
        once, again = (recorded(loud, np.random.default_rng(seed)) for _ in range(2))
        assert (once[0] == again[0]).all() and once[1] == again[1]
        level = np.sqrt((once[0] ** 2).mean())
        assert np.abs(once[0]).max() <= PEAK + 1e-6 and level <= LEVEL * 1.001
        assert level >= LEVEL * 0.999 or np.abs(once[0]).max() >= PEAK - 1e-6
        assert len(once[0]) > len(wave)
        seen.add(once[1])
    assert len(seen) > 20


def test_a_share_of_the_training_renditions_is_augmented(offline):
    options = {"voices": "pico", "augment": 0.4}
    made, clean = samples(**options), samples(voices="pico")
    assert made == samples(**options)
    changed = [a.meta["augmented"] != "" for a in made if a.split == "train"]
    assert 0.3 < np.mean(changed) < 0.5
    for one, other in zip(made, clean, strict=True):
        same = one.parts == other.parts
        assert same == (one.meta["augmented"] == "") and (same or one.split == "train")
    other = samples(Build(seed=1, say=lambda _: None), **options)
    assert [s.parts for s in other] != [s.parts for s in made]


def test_all_words_of_the_recordings_can_be_taught(offline):
    made = samples(voices="pico:en-US", text="words:all", renditions=1, heldout_renditions=0)
    assert [s.meta["text"] for s in made] == list(dict.fromkeys(WORDS + RECORDED))


TEXTS = {
    "digits/1": "one", "digits/mon-2": "March", "activated": "Activated.", "letters/a": "a",
    "phonetic/m_p": "november", "pause": "... pause ...", "menu": "Press 1 for more [beep].",
    "tones": "[ascending tones]", "silence": "(1 second of silence)", "join": "<beep>",
    "h323": "H.323", "pbx": "the PBX", "star": "press *", "for": "For.",
    "forty": "Fourtieth", "long": "Please hold.",
}  # fmt: skip


def test_recordings_say_what_is_certain(tmp_path):
    packages.write_recordings(tmp_path, TEXTS)
    sounds = tmp_path / "usr/share/asterisk/sounds/en_US_f_Allison"
    packages.write_g722(sounds / "long.g722", packages.tone(100, 13))
    (sounds / "forty.g722").write_bytes(b"")
    note = Build(say=lambda _: None)
    made = samples(note, "recordings", path=tmp_path)
    read = {s.meta["identity"].partition(":")[2]: (s.meta["text"], s.meta["kind"]) for s in made}
    word, sentence = "human_word", "human_sentence"
    assert read == {
        "digits/1": ("one", word), "digits/mon-2": ("March", word), "pause": ("pause", word),
        "activated": ("activated", word), "letters/a": ("A", word),
        "phonetic/m_p": ("November", word), "menu": ("Press one for more", sentence),
        "pizzeria_broccolli": ("broccoli", word), "moon_palmtree": ("palm tree", sentence),
        "alpha/B": ("B", word), "syllab/dog": ("dog", word), "alpha/z": ("Z", word),
        "syllab/ear": ("ear", word), "syllab/hut": ("hut", word),
    }  # fmt: skip
    assert len(note.skipped) == len(TEXTS) - 7
    skipped = "\n".join(note.skipped)
    for words in ("tones: no speech", "'PBX' is read", "'*' is read", "'for' sounds like 'four'",
                  "long: longer than 12 s", "forty:"):  # fmt: skip
        assert words in skipped
    wave = load_audio(next(s.parts["aud0.flac"] for s in made if s.meta["text"] == "one"))
    assert abs(len(wave) - 3200) < 200
    assert abs(np.abs(np.fft.rfft(wave)).argmax() * 16_000 / len(wave) - 200) < 10


def test_recordings_are_split_by_speaker(tmp_path):
    packages.write_recordings(tmp_path / "in", {"digits/1": "one"})
    source = SOURCES["recordings"](path=tmp_path / "in", train_speakers="klettres-us, ktuberling")
    build(source, tmp_path / "out")
    facts = read_manifest(tmp_path / "out")["facts"]["speakers"]
    assert facts == {"train": ["klettres-us", "ktuberling"],
                     "heldout": ["asterisk-us", "klettres-gb"]}  # fmt: skip
    made = samples(name="recordings", path=tmp_path / "in", train_speakers=source.train_speakers)
    for split, speakers in facts.items():
        assert values(made, split, "speaker") == set(speakers)
    assert all(s.meta["train_speakers"] == facts["train"] for s in made)
    assert {s.split for s in samples(name="recordings", path=tmp_path / "in")} == {"heldout"}


def test_speakers_that_cannot_be_had_are_named(offline):
    told: list[str] = []
    with pytest.raises(SourceUnavailable, match="none of the recordings"):
        samples(Build(say=told.append), "recordings")
    assert sum("is left out: the Debian package" in line for line in told) == 4
    packages.write_recordings(offline / "debian/klettres-data", {"digits/1": "one"})
    made = samples(Build(), "recordings")
    assert values(made, "heldout", "speaker") == {"klettres-us", "klettres-gb"}
    with pytest.raises(SourceUnavailable, match="ktuberling cannot be had"):
        samples(name="recordings", train_speakers="ktuberling")


@pytest.mark.parametrize(("text", "read"), [
    ("Press 2 or 9", "Press two or nine"), ("to leave...", "to leave"), ("Hello?", "hello"),
    ("at [@]", "at"), ("zed", "Z"), ("o'clock", "o'clock"), ("may", "May"),
    ("IAX (note: does not say \"2\")", None), ("dial 500 now", None), ("3D audio", None),
    ("...", None), ("28.8 kilobit", None),
])  # fmt: skip
def test_texts_are_read_where_they_are_certain(text, read):
    if read is None:
        with pytest.raises(ValueError, match=r"no speech|leaves open"):
            readable(text)
    else:
        assert readable(text) == read


def test_pico_reads_the_same_whatever_was_read_before():
    pytest.importorskip("py_nanotts", reason="the extra 'speech' is not installed")
    voice = next(v for v in voices.pico() if v.name == "pico:en-GB")
    first = [voice.speak("Is this a plant?", 1.1, pitch, 0) for pitch in voice.pitches]
    for number in range(6):  # which leaves other things in the memory that Pico gets
        voice.speak(f"The grey cat sat near {number} windows.", 1.0, 1.0, 0)
        again = [voice.speak("Is this a plant?", 1.1, pitch, 0) for pitch in voice.pitches]
        assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert 0.1 < np.abs(first[0]).max() < 1
    assert len({wave.tobytes() for wave in first}) == len(first)


@pytest.mark.network
def test_the_real_packages_hold_what_is_expected(tmp_path, monkeypatch):
    monkeypatch.setenv("OMNI_CACHE", str(tmp_path))
    made = samples(Build(), "recordings")
    found = {s.meta["text"] for s in made if s.meta["kind"] == "human_word"}
    assert found == set(RECORDED)
    assert len(values(made, "heldout", "speaker")) == 4
    for voice in voices.flite():
        wave = voice.speak("Hello world.", 1.0, 1.0, 0)
        assert 0.4 * 16_000 < len(wave) < 3 * 16_000 and np.abs(wave).max() > 0.05
