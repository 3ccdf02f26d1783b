"""Several modalities that read the same medium: each has its tokens, one after the other."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from data_shards.read.batch import make_batch
from omni import OmniForConditionalGeneration, OmniProcessor
from omni.media.facts import Facts, facts_of
from omni.processing.messages import assistant, audio, image, user

FINE = {"kind": "timm", "architecture": "test_efficientnet", "image_size": 96}
TOKENS = {"image": [4, 1], "audio": [7, 25]}  # of the modality attached first, and of the other


@pytest.fixture(params=["image", "audio"])
def pair(request, make_model, specs, make_picture, make_sound):
    """Give (medium, model, processor, talks): what reads it is attached against the alphabet."""
    if request.param == "image":
        other = {"encoder": FINE, "projector": {"kind": "patch_concat_mlp", "concat": 3}}
        model, processor = make_model(vision=specs.vision, detail=other)
        parts = [image(make_picture(n)) for n in range(2)]
    else:
        other = {**specs.audio, "projector": {"kind": "frame_concat_mlp", "concat": 1}}
        model, processor = make_model(voice=specs.audio, noise=other)
        parts = [audio(make_sound(0.5, 200.0 * n)) for n in (1, 3)]
    talks = [[user("Now ", part, " what?"), assistant("yes")] for part in parts]
    return request.param, model, processor, talks


def test_tokens_follow_one_another_as_planned(pair):
    medium, model, processor, talks = pair
    encoded = processor.encode(talks[0])
    ids = [model.config.modalities[name]["token_id"] for name in encoded.media]
    media = np.isin(encoded.input_ids, ids)
    expected = np.repeat(ids, TOKENS[medium])
    assert encoded.input_ids[media].tolist() == expected.tolist()
    assert np.diff(np.flatnonzero(media)).max() == 1
    part = talks[0][0]["content"][1]
    table = np.array([facts_of(medium, part[medium])],
                     dtype=[(n, type(v)) for n, v in Facts()._asdict().items()])  # fmt: skip
    tokens, _ = processor.media_lengths(medium, table)
    assert tokens.tolist() == [sum(TOKENS[medium])]
    assert processor.text_length(talks[0]) + tokens[0] == len(encoded)
    place: Any = SimpleNamespace(
        item=SimpleNamespace(source="s"), entry=SimpleNamespace(where="x.tar:1")
    )
    counts = make_batch(processor, [(place, [encoded])], [], 0, 0, 0).counts
    assert (counts["images"], counts["audio_seconds"]) == (
        (1, 0) if medium == "image" else (0, 0.5)
    )
    types = processor.apply_chat_template(talks[0], tokenize=True, return_mm_token_type_ids=True)
    assert (types["mm_token_type_ids"] > 0).sum() == sum(TOKENS[medium])


def test_both_are_heard_and_trained(pair):
    medium, model, processor, talks = pair
    batch = processor.pack([processor.encode(talk) for talk in talks])
    inputs = [model.take_media(name, dict(batch)) for name in model.config.modalities]
    assert len(model.host_inputs()) == (0 if medium == "image" else 2)
    loss = model.train()(**batch).loss
    loss.backward()
    for name, media in zip(model.config.modalities, inputs, strict=True):
        assert model.projectors[name].norm.weight.grad.any()
        without = dict(batch)
        key = next(k for k, tensor in batch.items() if tensor is media[0])
        without[key] = media[0].flip(0)
        assert model(**without).loss != loss
        del without[key]
        with pytest.raises(ValueError, match=f"{name}"):
            model(**without)


def test_names_and_order_outlive_a_save(pair, tmp_path):
    _, model, processor, talks = pair
    for part in (model, processor):
        part.save_pretrained(tmp_path)
    loaded = OmniForConditionalGeneration.from_pretrained(tmp_path).eval()
    again = OmniProcessor.from_pretrained(tmp_path)
    batch, found = (p.pack([p.encode(talk) for talk in talks]) for p in (processor, again))
    assert batch.keys() == found.keys()
    assert all(torch.equal(batch[name], found[name]) for name in batch)
    with torch.no_grad():
        assert torch.equal(loaded(**found).token_losses, model(**batch).token_losses)


def test_each_beam_has_its_media(pair):
    _, model, processor, talks = pair
    ways = {"max_new_tokens": 4, "do_sample": False, "num_beams": 3}
    prompts = [processor.encode(talk[:1], generation=True) for talk in talks]
    together = model.generate(**processor.pad(prompts), **ways)
    alone = [model.generate(**processor.pad([prompt]), **ways)[0] for prompt in prompts]
    assert [row.tolist() for row in together] == [row.tolist() for row in alone]
