"""Whose voice answers are in: told apart by recordings, shown to the model by a clip."""

import pytest
import torch

from data_shards.shards.sample import Sample
from data_shards.shards.write import write_shards
from data_shards.sources.base import Build
from data_shards.sources.demo.speech import Speech
from eval.answering.answerer import Answerer
from eval.answering.speaker import Heard
from eval.run import evaluate
from eval.scoring.timbre import Timbres, profile
from omni.media.decode import load_audio
from omni.processing.messages import assistant, audio, user

WORDS = ("apple", "bird", "cloud", "door")
VOICES = {"low": (1.0, 0.3), "high": (2.4, 0.05)}  # pitch of a buzz, and how fast it fades


def buzz(voice: str, word: int) -> torch.Tensor:
    """Sound like harmonics of a pitch; words are of other lengths and pitches."""
    pitch, fade = VOICES[voice]
    time = torch.arange(6_000 + 400 * word) / 16_000
    base = 100 * pitch * (1 + 0.05 * word)
    return sum(0.2 * fade**n * torch.sin(2 * torch.pi * base * (n + 1) * time) for n in range(8))


def test_voices_are_told_apart_by_other_words_and_at_any_loudness():
    known = Timbres({v: [profile(buzz(v, n)) for n in range(3)] for v in VOICES})
    for voice in VOICES:
        for loudness in (0.05, 1.0):
            assert known.nearest(profile(loudness * buzz(voice, 3))) == voice
    assert (
        known.nearest(profile(torch.zeros(16_000))) == "" == known.nearest(profile(torch.ones(3)))
    )


class Mimic:
    """Says every text in the voice of the clip that it is shown."""

    def __call__(self, conversations, texts, among, ranks):
        clips = [next(p["audio"] for m in one for p in m["content"] if p["type"] == "audio")
                 for one in conversations]  # fmt: skip
        waves = [torch.from_numpy(load_audio(clip, 16_000)) for clip in clips]
        return [Heard(text, 0.5, True, profile(wave))
                for text, wave in zip(texts, waves, strict=True)]  # fmt: skip


def test_an_answer_in_the_voice_that_is_shown_counts_and_in_anothers_not(tmp_path):
    samples = []
    for number, word in enumerate(WORDS):
        for voice in VOICES:
            parts = {f"aud{n}.wav": _wav(buzz(voice, (number + n) % 4)) for n in range(2)}
            meta = {"source": "speech", "license": "MIT", "schema": 1, "kind": "imitate",
                    "voice": voice, "identity": f"{word} {voice}"}  # fmt: skip
            messages = [user(audio("aud1.wav"), f"Say: {word}"), assistant(word, audio("aud0.wav"))]
            samples.append(Sample(messages, parts, meta, split="heldout"))
    write_shards(samples, tmp_path / "imitate")

    def answer(batch, generation, keys):
        return ["".join(p.get("text", "") for m in one for p in m["content"]).split()[-1]
                for one in batch]  # fmt: skip

    given = Answerer(answer, cost=lambda messages: 1, speaker=Mimic())
    rows = evaluate(given, "w", "speech", tmp_path / "imitate", tmp_path / "out")["rows"]
    found = {row["name"]: row for row in rows}
    assert (
        found["imitate"]["score"] == 100
        and not found["imitate"]["controls"]["shuffled_speech"]["score"]
    )
    voice = found["voice"]
    assert (voice["score"], voice["chance"], voice["n"]) == (100, 50, 8)
    assert voice["controls"]["shuffled_audio"]["score"] == 0
    assert voice["details"]["recordings"] == 100
    assert "which of 2 voices an answer sounds like" in voice["details"]["rule"]


def _wav(wave: torch.Tensor) -> bytes:
    import io

    import soundfile

    out = io.BytesIO()
    soundfile.write(out, wave.numpy(), 16_000, format="WAV")
    return out.getvalue()


def test_the_clip_that_is_shown_is_of_the_same_voice_and_other_words(tmp_path):
    """As the real voices read it: what they are shown sounds like what they are to say."""
    source = Speech(task="imitate", voices="pico", heldout_voices="pico:en-GB", renditions=2,
                    heldout_renditions=1)  # fmt: skip
    samples = [*source.generate(Build(seed=0))]
    by_clip = {}
    for sample in samples:
        texts = [part["text"] for part in sample.messages[0]["content"] if part["type"] == "text"]
        assert texts == [f"Say in this voice: {sample.meta['answer']}"]
        assert sample.meta["imitates"] != sample.meta["answer"]
        by_clip.setdefault(sample.meta["voice"], []).append(sample.parts)
    assert {voice.split("@")[0] for voice in by_clip} == {"pico:en-US", "pico:en-GB"}

    def sounds(part):
        return {voice: [profile(torch.from_numpy(load_audio(parts[part], 16_000)))
                        for parts in found] for voice, found in by_clip.items()}  # fmt: skip

    known, shown = Timbres(sounds("aud0.flac")), sounds("aud1.flac")
    right = [known.nearest(clip) == voice for voice, clips in shown.items() for clip in clips]
    assert sum(right) / len(right) > 0.5  # of six voices, three of which are another's, shifted


@pytest.mark.parametrize("phrases", [["one"], ["one", "two"]])
def test_few_phrases_can_be_imitated_too(tmp_path, phrases):
    (tmp_path / "mine.txt").write_text("\n".join(phrases))
    source = Speech(task="imitate", text=str(tmp_path / "mine.txt"), voices="pico",
                    renditions=1, heldout_renditions=1)  # fmt: skip
    for sample in source.generate(Build(seed=0)):
        assert (sample.meta["imitates"] == sample.meta["answer"]) == (len(phrases) == 1)
