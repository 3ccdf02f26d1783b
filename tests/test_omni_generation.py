"""`generate` of transformers, whatever its mode: media stay with their prompt."""

import copy

import pytest
import torch

from omni.generation.answer import prompts
from omni.processing.messages import audio, image, user
from omni.processing.processor import PlaceholderError


@pytest.fixture(scope="module")
def asked(omni_pair, make_picture, make_sound):
    """Hold three prompts in a row: two pictures, none, a picture and two sounds."""
    talks = [
        [user(image(make_picture(1)), "or", image(make_picture(2)), "?")],
        [user("Two and two?")],
        [user(audio(make_sound(0.3)), image(make_picture(3)), "and", audio(make_sound(1.1)))],
    ]
    return [[talk] for talk in talks], prompts(omni_pair[1], talks)


MODES = {
    "penalties": {"repetition_penalty": 1.5, "no_repeat_ngram_size": 2, "min_new_tokens": 3},
    "beams": {"num_beams": 3, "num_return_sequences": 2},
    "samples": {"do_sample": True, "num_return_sequences": 3, "top_k": 1},
}


@pytest.mark.parametrize("use_cache", [True, False])
@pytest.mark.parametrize("mode", MODES)
def test_each_row_takes_its_media_to_its_beams_and_samples(omni_pair, asked, mode, use_cache):
    model, processor = omni_pair
    talks, batch = asked
    options = {"max_new_tokens": 4, "use_cache": use_cache, "pad_token_id": 0, **MODES[mode]}
    together = model.generate(**batch, **options)[:, batch["input_ids"].shape[1] :]
    alone = []
    for talk in talks:
        one = prompts(processor, talk)
        alone += model.generate(**one, **options)[:, one["input_ids"].shape[1] :]
    assert together.tolist() == torch.nn.utils.rnn.pad_sequence(alone, batch_first=True).tolist()


@pytest.mark.parametrize(
    ("lost", "name"),
    [(["pixel_values"], "vision"), (["input_features", "audio_frames"], "audio")],
)
def test_media_that_are_too_few_for_the_beams_are_an_error(omni_pair, asked, lost, name):
    model, _ = omni_pair
    batch = dict(asked[1])
    for tensor in lost:
        batch[tensor] = batch[tensor][:-1]
    with pytest.raises(PlaceholderError, match=rf"\d+ {name} placeholders in input_ids for \d"):
        model.generate(**batch, num_beams=2, max_new_tokens=2, pad_token_id=0)


ASSISTED = {
    "lookup": lambda model: {"prompt_lookup_num_tokens": 3},
    "assistant": lambda model: {"assistant_model": copy.deepcopy(model)},
}


@pytest.mark.parametrize("kind", ASSISTED)
def test_assisted_decoding_sees_the_media(omni_pair, asked, kind):
    model, processor = omni_pair
    for talk in asked[0]:
        batch = prompts(processor, talk)
        options = {"max_new_tokens": 6, "do_sample": False, "pad_token_id": 0}
        assisted = model.generate(**batch, **options, **ASSISTED[kind](model))
        assert assisted.tolist() == model.generate(**batch, **options).tolist()


def test_embeddings_take_the_place_of_ids_and_media(omni_pair, asked):
    model, processor = omni_pair
    for talk in asked[0]:
        batch = dict(prompts(processor, talk))
        ids = batch["input_ids"]
        options = {"max_new_tokens": 4, "do_sample": False, "pad_token_id": 0}
        expected = model.generate(**batch, **options)[:, ids.shape[1] :]
        media = {name: batch.pop(name) for name in model.media_inputs() if name in batch}
        embeds = model.embed(ids, dict(media))
        rest = {"attention_mask": batch["attention_mask"], **options}
        found = model.generate(inputs_embeds=embeds, **rest)
        assert found.tolist() == expected.tolist()
        torch.testing.assert_close(model(inputs_embeds=embeds).logits,
                                   model(ids, **media).logits)  # fmt: skip
    with pytest.raises(ValueError, match="inputs_embeds do not say where pixel_values, inp"):
        model.generate(inputs_embeds=embeds, **rest, **media)
    for nothing in ({}, {"input_ids": ids, "inputs_embeds": embeds}):
        with pytest.raises(ValueError, match="either input_ids or inputs_embeds"):
            model(**nothing)


@pytest.mark.parametrize("options", [{}, {"num_beams": 2}, {"suppress_tokens": [5]}])
def test_a_placeholder_is_no_answer(make_model, specs, asked, options):
    model, processor = make_model(vision=specs.vision, audio=specs.audio)
    placeholders = [m["token_id"] for m in model.config.modalities.values()]
    table = model.resize_token_embeddings(len(processor.tokenizer))  # rows for them too
    assert table.num_embeddings > max(placeholders)
    head = torch.nn.Linear(table.embedding_dim, table.num_embeddings)
    torch.nn.init.zeros_(head.weight)
    with torch.no_grad():
        head.bias[placeholders] = 9.0
    model.set_output_embeddings(head)
    batch = asked[1]
    out = model.generate(**batch, max_new_tokens=3, do_sample=False, pad_token_id=0, **options)
    new = out[:, batch["input_ids"].shape[1] :]
    assert not set(new.flatten().tolist()) & {*placeholders, *options.get("suppress_tokens", [])}
