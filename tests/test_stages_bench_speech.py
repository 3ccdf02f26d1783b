"""`omni-train bench stream`, `codec`, `flow` and `speak`: they hold, and they would tell."""

import importlib.util
from pathlib import Path

import pytest
import torch

from eval.scoring import recogniser
from omni.generation.sound import Stream
from stages.bench import codec, flow, speak, stream
from stages.bench.speech import build_words

spec = importlib.util.spec_from_file_location(
    "speech_packages", Path(__file__).with_name("speech_packages.py")
)
speech_packages = importlib.util.module_from_spec(spec)
spec.loader.exec_module(speech_packages)


class Forgetful(Stream):
    """Each chunk begins as if nothing had been before it."""

    def __init__(self, voice):
        super().__init__(voice)
        self.voice = voice

    def push(self, codes):
        self.__init__(self.voice)
        return super().push(codes)


def test_chunks_are_the_whole(tmp_path):
    result = stream.run(tmp_path, small=True)
    assert result.ok, result.line()
    assert result.figures["off_by"] <= 1e-5
    assert [row["frames in a chunk"] for row in result.rows] == ["all", 1, 3, 10]
    assert all(ms > 0 for ms in result.figures["first_ms"].values())


def test_a_stream_that_forgets_is_found(tmp_path):
    assert not stream.run(tmp_path, small=True, stream=Forgetful).ok


NARROW = [
    "stages.codec.attach.speech.encoder={kind: codec, model_config: {d_model: 32, encoder_layers: "
    "1, encoder_attention_heads: 2, encoder_ffn_dim: 64}, books: [8, 8], decoder_hidden: 32, "
    "decoder_layers: 1}",
    "stages.vocoder.attach.vocoder.head={kind: vocoder, hidden: 32, layers: 1}",
    "stages.flow.attach.flow.head={kind: flow, hidden: 32, layers: 1, middle: 1}",
    "stages.speak.attach.talk.head={kind: depth, layers: 1, max_frames: 4}",
    *(f"stages.{name}.data.batch_size=4" for name in ("codec", "vocoder", "flow", "speak")),
]


@pytest.mark.slow
def test_usage_and_errors_are_measured_by_book_and_voice(tmp_path, monkeypatch):
    speech_packages.install_pico(monkeypatch)
    result = codec.run(tmp_path / "x", small=True, overrides=NARROW)
    assert [row["books"] for row in result.rows] == [1, 2]
    for row in result.rows:
        assert 0 <= row["entropy"] <= 1 and 0 <= row["dead codes"] < 8
        assert row["voices of the training"] > 0 < row["held-out voices"]
    assert result.figures["dead"] == sum(row["dead codes"] for row in result.rows)


@pytest.mark.slow
def test_a_flow_is_measured_with_both_ways_to_draw_times(tmp_path, monkeypatch):
    speech_packages.install_pico(monkeypatch)
    steps = [*NARROW, "stages.flow.steps=40", "stages.flow.trainable={heads.flow: 3.0e-3}"]
    result = flow.run(tmp_path / "x", small=True, overrides=steps)
    assert [row["times"] for row in result.rows] == ["cosine", "uniform"]
    for row in result.rows:
        assert row["loss before"] > row["after"] > 0 and row["fall"] > 0.1
        assert row["error of the prior"] > 0 < row["of ten steps"]
        assert row["prior off"] > 0 < row["ten steps off"]
    assert result.rows[0]["after"] != result.rows[1]["after"]


def test_what_is_too_smooth_is_far_from_what_it_is_the_mean_of():
    drawn = torch.randn(4000, 3, generator=torch.Generator().manual_seed(0))
    others = torch.randn(4000, 3, generator=torch.Generator().manual_seed(1))
    assert flow.frechet(drawn, drawn) == pytest.approx(0, abs=1e-6)
    assert flow.frechet(drawn, others) < 0.05 < 0.5 < flow.frechet(0.5 * others, drawn)
    assert flow.frechet(drawn + 2.0, drawn) == pytest.approx(12.0, rel=1e-3)  # 3 * 2^2


class Ear:
    """Tells words apart by how long they are heard; what is shorter than all is the first."""

    def heard(self, wave, answers):
        return sorted(answers)[len(wave) % len(answers)]


@pytest.mark.slow
def test_every_link_of_a_model_that_speaks_is_heard(tmp_path, monkeypatch):
    speech_packages.install_pico(monkeypatch)
    monkeypatch.setattr(recogniser, "Recogniser", Ear)
    result = speak.run(tmp_path / "x", small=True, overrides=NARROW)
    links = {row["link"]: row["seed 0"] for row in result.rows}
    assert [*links] == ["recording", "frames", "true codes", "say", "say control", "last word",
                        "repeat", "repeat control", "drift"]  # fmt: skip
    assert links["recording"] == links["frames"] == links["true codes"] > 50  # all as long
    assert result.figures["weakest"] in ("recording", "say") and not result.ok


@pytest.mark.parametrize(("lost", "weakest"), [
    ({"recording": 9}, "recording"), ({"frames": 9}, "frames"), ({"true codes": 9}, "true codes"),
    ({"say": 9}, "say"),
])  # fmt: skip
def test_the_weakest_link_is_where_most_words_are_lost(lost, weakest):
    wer, total = {}, 0.0
    for link in ("recording", "frames", "true codes", "say"):
        total += 1 + lost.get(link, 0)
        wer[link] = total
    assert speak._weakest(wer) == weakest


@pytest.mark.parametrize(("name", "value", "ok"), [
    ("say", 10.0, True), ("say", 10.1, False), ("repeat", 20.0, True), ("repeat", 20.1, False),
    ("say control", 79.9, False), ("repeat control", 79.9, False), ("last word", 99.0, False),
    ("drift", 2.1, False), ("drift", -5.0, True),
])  # fmt: skip
def test_answers_must_be_heard_and_others_must_not(name, value, ok):
    wer = {"say": 0.0, "repeat": 0.0, "say control": 97.0, "repeat control": 97.0,
           "last word": 100.0, "drift": 0.0, name: value}  # fmt: skip
    assert speak._holds(wer) is ok


def test_both_tasks_are_built_of_the_same_words(tmp_path, monkeypatch):
    speech_packages.install_pico(monkeypatch)
    build_words(tmp_path / "x", 1, tasks=("say", "repeat"))
    from data_shards.read.entry import read_shard

    for split in ("train", "heldout"):
        found = [one for shard in (tmp_path / "x").glob(f"{split}-*") for one in read_shard(shard)]
        kinds = [(one.meta["kind"], one.meta["answer"]) for one in found]
        assert len(kinds) == len(set(kinds)) == 80
