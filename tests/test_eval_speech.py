"""Spoken answers: spoken by a model, heard by a recogniser, and scored."""

import json
from itertools import pairwise

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import WhisperConfig, WhisperForConditionalGeneration

from data_shards.shards.sample import Sample
from data_shards.shards.write import write_shards
from eval.answering.answerer import Answerer
from eval.answering.ranks import Ranks
from eval.answering.speaker import Heard, Speaker
from eval.rows.own import Doc
from eval.rows.speech import facts
from eval.run import evaluate, run_suite
from eval.scoring import recogniser
from eval.scoring.recogniser import END, PROMPT, Recogniser
from omni.processing.messages import assistant, audio, user

WORDS = ("apple", "bird", "cloud", "a long door")


@pytest.fixture(scope="module")
def data(tmp_path_factory, make_sound):
    folder, samples = tmp_path_factory.mktemp("speech"), []
    for pitch, word in enumerate(WORDS, 3):
        for kind in ("say", "repeat"):
            parts = {"aud0.wav": make_sound(0.2, 100.0 * pitch)}
            meta = {"source": "speech", "license": "MIT", "schema": 1, "kind": kind}
            asked = [f"Say: {word}"] if kind == "say" else [audio("aud0.wav"), "Repeat."]
            messages = [user(*asked), assistant(word, audio("aud0.wav"))]
            samples.append(Sample(messages, parts, meta, split="heldout"))
    write_shards(samples, folder / "say")
    return folder


class Clear:
    """What it says is heard as it is written; all but what it stumbles over."""

    def __init__(self, stumbles=""):
        self.stumbles = stumbles

    def __call__(self, conversations, texts, among, ranks):
        assert set(among) == set(WORDS)
        return [Heard("bird", 4.0, False) if text == self.stumbles else Heard(text, 0.5, True)
                for text in texts]  # fmt: skip


def answerer(speaker=None):
    truths = {f"Say: {word}": word for word in WORDS}

    def answer(batch, generation, keys):
        texts = ["".join(p.get("text", "") for m in one for p in m["content"]) for one in batch]
        return [truths.get(text, "apple") for text in texts]

    return Answerer(answer, cost=lambda messages: 1, speaker=speaker)


def rows_of(given, data, out, **how):
    found = evaluate(given, "w", "speech", data, out, **how)["rows"]
    return {row["name"]: row for row in found}


def test_what_is_heard_as_it_was_to_be_said_is_right_and_other_codes_are_not(data, tmp_path):
    row = rows_of(answerer(Clear()), data, tmp_path)["say"]
    assert row["score"] == 100 and row["n"] == 4
    assert row["controls"]["shuffled_speech"]["score"] == 0
    found = {name: row["details"][name] for name in ("wer", "last_word", "as_written", "endless")}
    assert found == {"wer": 0, "last_word": 4, "as_written": 4, "endless": 0}
    table = " ".join((tmp_path / "table.md").read_text().split())
    assert "chooses among 4 answers; 0.5 s are spoken" in table and "heard by Whisper" in table


def test_words_that_are_heard_otherwise_are_counted(data, tmp_path):
    row = rows_of(answerer(Clear("a long door")), data, tmp_path, controls=False)["say"]
    assert row["details"]["wer"] == pytest.approx(100 * 2 / 5)  # "long door", the article aside
    assert row["details"]["last_word"] == 3 == row["details"]["as_written"]
    assert row["details"]["endless"] == 1
    assert row["details"]["seconds"] == pytest.approx((3 * 0.5 + 4.0) / 4, abs=0.01)


def test_what_was_said_is_right_of_the_text_not_of_the_question(data, tmp_path):
    """It writes "apple" whatever it hears, and says that."""
    row = rows_of(answerer(Clear()), data, tmp_path)["repeat"]
    assert row["score"] == pytest.approx(100 / 5)
    assert row["details"]["as_written"] == 4
    assert {*row["controls"]} == {"shuffled_audio", "shuffled_speech"}


def test_silence_is_not_heard_as_it_was_written():
    heard = facts([Doc("x", [], "", "a word")], [""], [Heard("", 0.0, True)])
    assert (heard["as_written"], heard["last_word"], heard["seconds"]) == (0, 0, 0)


def test_a_model_that_cannot_speak_has_no_row(data, tmp_path):
    rows = rows_of(answerer(), data, tmp_path)
    assert all("the model cannot speak" in rows[name]["missing"] for name in ("say", "repeat"))
    assert "speech --task imitate" in rows["imitate"]["missing"]


class Deaf:
    """Hears the first answer, and remembers what sound there was."""

    waves: list = []  # noqa: RUF012

    def heard(self, wave, answers):
        self.waves.append(wave)
        return answers[0]


def test_a_checkpoint_says_its_answers_once_for_all_conditions(
    make_speaker, data, tmp_path, monkeypatch
):
    monkeypatch.setattr(recogniser, "Recogniser", Deaf)
    monkeypatch.setattr("eval.answering.backends.ours.Speaker", _Writing)
    Deaf.waves.clear()
    model, processor = make_speaker()
    result = run_suite(model, processor, "speech", data, tmp_path, rows="say", limit=3)
    [row] = result["rows"]
    assert row["n"] == 3 == len(Deaf.waves) and row["details"]["seconds"] > 0
    assert all(len(wave) % 1280 == 0 and wave.isfinite().all() for wave in Deaf.waves)
    lines = map(json.loads, (tmp_path / "answers.jsonl").read_text().splitlines())
    assert {line["condition"] for line in lines} == {"normal", "shuffled_speech"}


class _Writing(Speaker):
    """The real one; a model of random weights writes no word that could be said."""

    def __call__(self, conversations, texts, among, ranks):
        return super().__call__(conversations, ["a word"] * len(texts), among, ranks)


def test_a_text_without_a_word_is_silence(make_speaker):
    model, processor = make_speaker()
    speaker = Speaker(model, processor, {})
    assert speaker([[user("x")]], ["?!"], ["a"], Ranks()) == [Heard("", 0.0, True)]


@pytest.fixture(scope="module")
def ear(tmp_path_factory):
    """A Whisper of random weights whose words are a few."""
    folder = tmp_path_factory.mktemp("ear")
    tokens = ["x", *PROMPT, END, "Apple.", "Bird.", "Cloud.", "A", "long", "door.", "B", "two."]
    words = Tokenizer(models.WordLevel({t: n for n, t in enumerate(tokens)}, unk_token="x"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    words.save(str(folder / "tokenizer.json"))
    torch.manual_seed(0)
    config = WhisperConfig(
        vocab_size=len(tokens), d_model=32, encoder_layers=1, decoder_layers=2,
        encoder_attention_heads=2, decoder_attention_heads=2, encoder_ffn_dim=32,
        decoder_ffn_dim=32, max_target_positions=16, pad_token_id=5, eos_token_id=5,
        bos_token_id=5, decoder_start_token_id=1, init_std=0.6,
    )  # fmt: skip
    WhisperForConditionalGeneration(config).save_pretrained(folder)
    return Recogniser(str(folder), str(folder))


@torch.no_grad()
def plainly(ear, wave, answers):
    """Score each answer by itself, without a cache."""
    hidden, scores = ear._encode(wave.numpy()), {}
    for answer in answers:
        ids = [*ear.prompt, *ear._ids(answer)]
        found = ear.decoder(input_ids=torch.tensor([ids[:-1]]), encoder_hidden_states=hidden)
        logs = ear.head(found.last_hidden_state)[0].log_softmax(1)
        first = len(ear.prompt)
        scores[answer] = float(sum(logs[n - 1, ids[n]] for n in range(first, len(ids))))
    return scores


@pytest.mark.parametrize("together", [1, 2, 8])
def test_the_likeliest_answer_is_heard(ear, together, monkeypatch):
    monkeypatch.setattr(recogniser, "TOGETHER", together)
    answers = [*WORDS, "B two", "B"]
    chance, chosen = torch.Generator().manual_seed(1), set()
    for _ in range(12):
        wave = torch.randn(8000, generator=chance) * 10 ** (3 * torch.rand(1, generator=chance) - 3)
        scores = plainly(ear, wave, answers)
        ranked = sorted(scores, key=lambda one: -scores[one])
        assert all(scores[a] - scores[b] > 1e-5 for a, b in pairwise(ranked))
        assert ear.heard(wave, answers) == ranked[0]
        assert ear.heard(wave, ranked[1:]) == ranked[1]
        chosen.add(ranked[0])
    assert ear.heard(torch.zeros(40 * 16_000), answers) in answers
    with pytest.raises(ValueError, match="no answer"):
        ear.heard(wave, [])
