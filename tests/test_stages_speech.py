"""Objectives of speech: how a step is cut does not matter, and each teaches what it is for."""

import json

import pytest
import torch
from accelerate import Accelerator

from data_shards.read.encode import Encode
from data_shards.shards.sample import Sample
from data_shards.shards.write import write_shards
from omni.entry import EntryError
from omni.generation.sound import Stream, Voice
from omni.generation.speech import say
from omni.load import load
from omni.processing.messages import MessageError, assistant, audio, user
from omni.processing.processor import IGNORE_INDEX
from stages.doctor.comparison import packed_equals_unpacked
from stages.objectives import OBJECTIVES, objective_class
from stages.objectives.speak import answered
from stages.objectives.speech import Sounds
from stages.objectives.task import Task
from stages.recipe.places import Places
from stages.recipe.read import load_recipe, read_places
from stages.training.chain import run_recipe
from stages.training.preflight import find_mistakes

OF_SPEECH = [kind for kind in OBJECTIVES if "codec" in objective_class(kind).needs]
TRAINED = {
    "codec": "encoders.speech.decoder.mel.1.weight", "flow": "heads.the_flow.unet.out.weight",
    "vocoder": "heads.the_vocoder.out.weight", "speak": "heads.the_depth.heads.0.weight",
}  # fmt: skip


@pytest.fixture
def made(make_speaker):
    model, processor = make_speaker()
    model.requires_grad_(True)
    return model, processor


@pytest.fixture
def samples(make_sound):
    """Say three things; hear a fourth, and say it."""
    meta = {"source": "t", "license": "MIT", "schema": 1}
    said = [("one", 0.3, 300), ("two three", 0.8, 500), ("x", 0.09, 900)]
    found = [Sample([user(f"Say: {text}"), assistant(text, audio("aud0.wav"))],
                    {"aud0.wav": make_sound(seconds, pitch)}, meta)
             for text, seconds, pitch in said]  # fmt: skip
    both = {"aud0.wav": make_sound(0.5, 700), "aud1.wav": make_sound(0.4, 200)}
    talk = [user(audio("aud0.wav")), assistant("four", audio("aud1.wav"), "five"),
            user("again"), assistant("six")]  # fmt: skip
    return [*found, Sample(talk, both, meta)]


def encode(processor, kind, samples):
    encode = Encode(processor, objective_class(kind).rendering)
    return [document for sample in samples for document in encode.sample(sample)]


def test_every_objective_of_speech_is_tested():
    assert set(OF_SPEECH) == set(TRAINED)


@pytest.mark.parametrize("kind", OF_SPEECH)
def test_the_cut_into_micro_batches_does_not_matter(made, samples, kind):
    model, processor = made
    encoded = encode(processor, kind, samples)
    result = packed_equals_unpacked(model, processor, encoded, objective=kind)
    assert result.ok and result.packed > 0.01, result
    task = Task(model, kind)
    counted = task.step_counts([processor.pack(encoded)])
    for name, counts in counted.items():  # without them, it would matter
        assert not torch.equal(task.step_counts([processor.pack(encoded[:1])])[name], counts)


@pytest.mark.parametrize("kind", OF_SPEECH)
def test_a_sample_trains_what_it_is_for_and_costs_what_it_says(made, samples, kind):
    model, processor = made
    batch = processor.pack(encode(processor, kind, samples))
    count = torch.tensor(float(batch["label_positions"].numel()))
    task = Task(model, kind).train()
    loss = task(batch | task.step_counts([batch]), count)
    loss.total.backward()
    assert model.get_parameter(TRAINED[kind]).grad.abs().sum() > 0
    for name, parameter in model.named_parameters():  # DDP waits for each of them
        assert parameter.grad is not None or name.startswith("language_model."), name
    by_document = loss.by_document[: len(samples)]
    assert (by_document > 0).all()
    assert by_document.sum() / count == pytest.approx(loss.total.item(), rel=1e-4)
    assert loss.sums.keys() == set(task.objective.figures)


@pytest.mark.parametrize("kind", OF_SPEECH)
def test_what_fills_a_pack_costs_nothing(made, samples, kind):
    """Neither what has no sound, nor sound without labels."""
    model, processor = made
    silent = [processor.encode([user("."), assistant(".")])]
    for encoded in (silent, encode(processor, kind, samples[:1])):
        for document in encoded:
            document.labels = torch.full_like(document.labels, IGNORE_INDEX)
        task = Task(model, kind).train()
        loss = task(processor.pack(encoded), torch.tensor(1.0))
        loss.total.backward()
        assert loss.total.item() == 0 == loss.by_document.sum()
        assert all(value == 0 for value in loss.sums.values())
        assert loss.sums.keys() == set(task.objective.figures)


def test_frames_of_answers_alone_have_labels(made, samples):
    model, processor = made
    batch = processor.pack(encode(processor, "speak", samples))
    frames = [5, 11, 3, 8, 6]  # with their ends; the fourth clip is the user's
    expected = [clip != 3 for clip, n in enumerate(frames) for _ in range(n)]
    assert answered(model, batch).tolist() == expected


def test_what_is_spoken_depends_on_the_codes_and_on_the_words_before(made, samples):
    model, processor = made
    task = Task(model, "speak")
    batch = processor.pack(encode(processor, "speak", samples[:1]))
    codes = model.codes("speech", dict(batch))
    for media in ("code_features", "code_wave", "code_frames"):
        batch.pop(media)
    losses = []
    for shift in (0, 1):
        other = (codes + shift) % torch.tensor([16, 8, 8])
        other[-1] = codes[-1]
        given = processor.pack(encode(processor, "speak", samples[:1]))
        model.codes, real = (lambda name, inputs, other=other: _drop(inputs, other)), model.codes
        losses.append(task(given, torch.tensor(4.0)).sums["speech"].item())
        model.codes = real
    assert losses[0] != losses[1]


def _drop(inputs, codes):
    for name in ("code_features", "code_wave", "code_frames"):
        inputs.pop(name)
    return codes


def test_the_first_step_places_the_books_and_later_ones_move_them(make_model, specs, samples):
    model, processor = make_model(speech=specs.codec)
    encoded = encode(processor, "codec", samples)
    quantiser = model.encoders["speech"].quantiser
    assert not quantiser.started
    task = Task(model, {"kind": "codec", "dropout": 0.0}).train()
    seen = []
    for some in (encoded[:2], encoded, encoded):
        batch = processor.pack(some)
        loss = task(batch | task.step_counts([batch]), torch.tensor(9.0))
        loss.total.backward()
        seen.append(quantiser.books[0].vectors.detach().clone())
    assert quantiser.started and int(quantiser.books[0].updates) == 3
    assert torch.equal(seen[0], seen[1])  # the means of what they were placed by
    assert not torch.equal(seen[1], seen[2])
    before = quantiser.books[0].seen.clone()
    assert before.any()
    task.eval()
    task(batch | task.step_counts([batch]), torch.tensor(9.0))
    assert torch.equal(quantiser.books[0].seen, before)  # only training is learned from


@pytest.mark.parametrize("kind", OF_SPEECH)
def test_what_a_model_lacks_is_named(make_model, specs, kind):
    with pytest.raises(EntryError, match="needs a codec, and the model has none: attach one"):
        objective_class(kind).check(make_model()[0])
    model, processor = make_model(speech=specs.codec)
    needs = objective_class(kind).needs
    if len(needs) > 1:
        with pytest.raises(EntryError, match=f"needs a {needs[1]}.*head: {{kind: {needs[1]}}}"):
            objective_class(kind).check(model)
        model.attach("more", {"head": {"kind": needs[1]}}, processor)
    if kind in ("flow", "speak"):
        with pytest.raises(EntryError, match=r"not trained.*objective codec"):
            objective_class(kind).check(model)
    else:
        objective_class(kind).check(model)


def test_a_sample_without_sound_is_named():
    with pytest.raises(MessageError, match="no sound"):
        Sounds().documents({"messages": [user("x"), assistant("y")]})


CHAIN = [
    "text=tiny:llama", "trackers=[]", "probes.samples=2", "probes.rows=[]",
    *(f"stages.{name}.steps=3" for name in ("codec", "vocoder", "flow", "speak")),
    *(f"stages.{name}.data.batch_size=2" for name in ("codec", "vocoder", "flow", "speak")),
    "stages.codec.attach.speech.encoder.model_config={d_model: 32, encoder_layers: 1, "
    "encoder_attention_heads: 2, encoder_ffn_dim: 64}",
    "stages.codec.attach.speech.encoder.books=[16, 8]",
    "stages.codec.attach.speech.encoder.decoder_hidden=32",
    "stages.vocoder.attach.vocoder.head={kind: vocoder, hidden: 32, layers: 1}",
    "stages.flow.attach.flow.head={kind: flow, hidden: 32, layers: 1, middle: 1}",
    "stages.speak.attach.talk.head={kind: depth, layers: 1, max_frames: 4}",
]  # fmt: skip


@pytest.fixture
def overrides(samples, tmp_path):
    write_shards(samples, tmp_path / "say")
    return [*CHAIN, f"sources.say=[{tmp_path}/say/train-*.tar]", f"output={tmp_path / 'run'}"]


@pytest.mark.slow
def test_the_stages_of_speech_tiny_end_in_a_model_that_speaks(overrides, tmp_path):
    recipe = load_recipe("speech_tiny", overrides)
    places = read_places("speech_tiny", overrides)
    assert isinstance(places, Places)
    assert find_mistakes(recipe, places, recipe.stages) == []
    run_recipe(recipe, Accelerator(cpu=True))
    for stage in recipe.stages:
        facts = json.loads((tmp_path / "run" / stage.name / "stage.json").read_text())
        assert facts["frozen_ok"]
        assert ("encoders.speech" in facts["frozen"]) == (stage.name != "codec")
    model, processor = load(tmp_path / "run" / "speak")
    [said] = say(model, processor, [[user("Say: one")]], ["one"])
    voice = Voice(model)
    stream = Stream(voice)
    parts = torch.cat([*(stream.push(code) for code in said.codes.split(1)), stream.rest()])
    torch.testing.assert_close(parts, voice.wave(said.codes), atol=1e-5, rtol=0)


@pytest.mark.parametrize(("change", "reason"), [
    ("stages.codec.objective=flow", "needs a flow, and the model has none"),
    ("stages.vocoder.attach.vocoder.head.kind=vocodr", "did you mean 'vocoder'"),
    ("stages.speak.attach.talk.head.deep=3", "takes no 'deep'"),
    ("stages.flow.trainable={language_model: 1.0e-3}", "trains encoders, projectors and heads"),
])  # fmt: skip
def test_a_mistake_in_a_stage_of_speech_is_found_before_the_first(overrides, change, reason):
    overrides = [*overrides, change]
    recipe = load_recipe("speech_tiny", overrides)
    found = find_mistakes(recipe, read_places("speech_tiny", overrides), recipe.stages)
    assert any(reason in str(mistake) for mistake in found), found


@pytest.mark.parametrize("kind", OF_SPEECH)
def test_books_that_learn_are_not_sharded(overrides, kind):
    """Found before the first stage, by the forecast, and where ranks are joined."""
    cls = objective_class(kind)
    cls.check_sharding("none")
    if cls.shards:
        cls.check_sharding("full")
        return
    with pytest.raises(EntryError, match="every rank must hold all of them: set sharding: none"):
        cls.check_sharding("full")
    overrides = [*overrides, "sharding=full"]
    recipe = load_recipe("speech_tiny", overrides)
    found = find_mistakes(recipe, read_places("speech_tiny", overrides), recipe.stages)
    assert [mistake.stage for mistake in found] == ["codec"]
    assert "set sharding: none" in str(found[0])
