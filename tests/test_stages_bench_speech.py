"""`omni-train bench stream` and `codec`: they hold, and they would tell."""

import importlib.util
from pathlib import Path

import pytest

from omni.generation.speech import Stream
from stages.bench import codec, stream

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


@pytest.mark.slow
def test_usage_and_errors_are_measured_by_book_and_voice(tmp_path, monkeypatch):
    speech_packages.install_pico(monkeypatch)
    narrow = "{kind: codec, model_config: {d_model: 32, encoder_layers: 1, encoder_attention_heads:"
    narrow += " 2, encoder_ffn_dim: 64}, books: [8, 8], decoder_hidden: 32, decoder_layers: 1}"
    changes = [f"stages.codec.attach.speech.encoder={narrow}"]
    result = codec.run(tmp_path / "x", small=True, overrides=changes)
    assert [row["books"] for row in result.rows] == [1, 2]
    for row in result.rows:
        assert 0 <= row["entropy"] <= 1 and 0 <= row["dead codes"] < 8
        assert row["voice of the training"] > 0 < row["held-out voice"]
    assert result.figures["dead"] == sum(row["dead codes"] for row in result.rows)
