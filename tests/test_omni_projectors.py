"""Every registered projector: its counts, its items apart, its formula, and that it trains."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from omni import OmniForConditionalGeneration
from omni.encoders.ragged import Ragged
from omni.entry import EntryError
from omni.processing.messages import assistant, audio, image, user
from omni.projectors import PROJECTORS, build_projector, complete, token_counts
from stages.objectives.task import Task

OPTIONS = {
    "patch_concat_mlp": [{"concat": 1}, {}, {"concat": 3}],
    "frame_concat_mlp": [{"concat": 1}, {}, {"concat": 3, "hidden": 7}],
    "pixel_shuffle": [{"scale": 1}, {}, {"scale": 3, "layers": 1}, {"layers": 3, "hidden": 7}],
    "conv_gmlp": [{}, {"stride": 2}, {"stride": 1}],
    "resampler": [{"queries": 5}, {"queries": 1, "layers": 3, "heads": 1, "hidden": 7}],
    "linear": [{}],
    "mlp": [{}, {"hidden": 7}],
    "identity": [{}],
}
CASES = [{"kind": kind, **options} for kind, ways in OPTIONS.items() for options in ways]
TEXT = {"hidden_size": 10, "num_attention_heads": 1, "num_key_value_heads": 1}
LEARNING = [case for case in CASES if getattr(PROJECTORS[case["kind"]], "learns", True)]
GRIDS = {1: [(7,), (8,), (1,), (50,)], 2: [(5, 7), (6, 6), (1, 1), (4, 2)]}


def test_every_registered_kind_is_tested():
    taking = {k for k, p in PROJECTORS.items() if getattr(p, "takes", "features") == "features"}
    assert OPTIONS.keys() == taking


def axes_of(kind):
    axes = PROJECTORS[kind].axes
    return [axes] if axes else [1, 2]


def build(config, width=12, out=20):
    torch.manual_seed(0)
    out = width if config["kind"] == "identity" else out
    return build_projector(complete(config), width, out)


@pytest.mark.parametrize("config", CASES, ids=str)
def test_items_of_any_size_have_the_tokens_that_are_counted_and_that_each_has_alone(config):
    projector = build(config)
    for axes in axes_of(config["kind"]):
        items = [torch.randn(*grid, 12, requires_grad=True) for grid in GRIDS[axes]]
        counts = token_counts(complete(config), np.array(GRIDS[axes])).tolist()
        together = projector(features := Ragged.join(items)).split(counts)
        assert all(torch.equal(a, b) for a, b in zip(features.items(), items, strict=True))
        for item, tokens in zip(items, together, strict=True):
            torch.testing.assert_close(
                tokens, projector(Ragged.of(item[None])), atol=1e-5, rtol=1e-5
            )
            twice = projector(Ragged.of(torch.stack([item, item])))
            torch.testing.assert_close(twice, torch.cat([tokens] * 2), atol=1e-5, rtol=1e-5)
        torch.cat(together).pow(3).sum().backward()
        assert all((item.grad.abs().sum(-1) > 0).all() for item in items)  # no cell is dropped


@pytest.mark.parametrize("config", LEARNING, ids=str)
def test_it_trains_aligned_and_through_the_llm_and_is_reloaded(
    config, make_model, specs, make_picture, make_sound, tmp_path
):
    for axes in axes_of(config["kind"]):
        name, show, media = {
            1: ("audio", audio, [make_sound(0.5), make_sound(1.3, 300)]),
            2: ("vision", image, [make_picture(1), make_picture(2, (90, 20))]),
        }[axes]
        model, processor = make_model(**{name: {**vars(specs)[name], "projector": config}})
        talks = [[user(show(one), "What?"), assistant(word)]
                 for one, word in zip(media, ("lion", "no"), strict=True)]  # fmt: skip
        batch = processor.pack([processor.encode(talk) for talk in talks])
        model.encoders.requires_grad_(False)
        for objective in ("align", "sft"):
            model.zero_grad()
            loss = Task(model, objective).train()(dict(batch), torch.tensor(9.0)).total
            loss.backward()
            reached = [p.grad is not None and bool(p.grad.any())
                       for p in model.projectors.parameters()]  # fmt: skip
            assert loss.isfinite() and all(reached)
        model.eval().save_pretrained(tmp_path / name)
        loaded = OmniForConditionalGeneration.from_pretrained(tmp_path / name).eval()
        with torch.no_grad():
            expected = model(**batch).token_losses
            torch.testing.assert_close(loaded(**batch).token_losses, expected, atol=1e-6, rtol=1e-5)


def test_identity_gives_the_features_to_the_llm(make_model, specs, make_sound, tmp_path):
    model, processor = make_model(audio={**specs.audio, "projector": {"kind": "identity"}})
    talk = [user(audio(make_sound(0.5)), "What?"), assistant("lion")]
    batch = processor.pack([processor.encode(talk)])
    with torch.no_grad():
        media = model.take_media("audio", dict(batch))
        assert torch.equal(model.encode("audio", *media), model.encoders["audio"](*media).values)
    for objective in ("align", "sft"):
        model.zero_grad()
        Task(model, objective).train()(dict(batch), torch.tensor(9.0)).total.backward()
        assert all(p.grad.any() for p in model.encoders["audio"].model.layer_norm.parameters())
    model.eval().save_pretrained(tmp_path)
    loaded = OmniForConditionalGeneration.from_pretrained(tmp_path).eval()
    with torch.no_grad():
        expected = model(**batch).token_losses
        torch.testing.assert_close(loaded(**batch).token_losses, expected, atol=1e-6, rtol=1e-5)


def test_identity_refuses_other_widths(make_model, specs):
    with pytest.raises(EntryError, match="64 wide and the LLM's tokens 32; use linear"):
        make_model(vision={**specs.vision, "projector": {"kind": "identity"}})


def test_a_patch_token_is_made_of_its_own_neighbours():
    for kind in ("patch_concat_mlp", "pixel_shuffle"):
        projector = build({"kind": kind}, 4, 8)
        grid = torch.randn(1, 4, 6, 4)
        other = grid.clone()
        other[0, 2, 5] += torch.randn(4)  # row 2, column 5: the last token of the second token row
        changed = (projector(Ragged.of(grid)) - projector(Ragged.of(other))).abs().sum(-1) > 0
        assert changed.nonzero().flatten().tolist() == [1 * 3 + 2]


def test_pixels_are_shuffled_as_in_smolvlm():
    from transformers import SmolVLMConfig
    from transformers.models.smolvlm.modeling_smolvlm import SmolVLMConnector

    config = SmolVLMConfig(vision_config={"hidden_size": 6}, text_config=TEXT,
                           scale_factor=3)  # fmt: skip
    reference = SmolVLMConnector(config)
    ours = build({"kind": "pixel_shuffle", "scale": 3, "layers": 1}, 6, 10)
    ours.mlp[0].load_state_dict(reference.modality_projection.proj.state_dict())
    features = torch.randn(2, 6, 6, 6)
    with torch.no_grad():
        expected = reference(features.flatten(1, 2)).flatten(0, 1)
        torch.testing.assert_close(ours(Ragged.of(features)), expected, atol=1e-6, rtol=1e-5)


def test_pixels_are_shuffled_as_in_internvl():
    from transformers import InternVLConfig
    from transformers.models.internvl.modeling_internvl import (
        InternVLModel,
        InternVLMultiModalProjector,
    )

    config = InternVLConfig(vision_config={"hidden_size": 6}, text_config=TEXT)
    reference = InternVLMultiModalProjector(config)
    ours = build({"kind": "pixel_shuffle"}, 6, 10)
    ours.mlp.load_state_dict(dict(zip(ours.mlp.state_dict(), reference.state_dict().values(),
                                      strict=True)))  # fmt: skip
    features = torch.randn(2, 4, 8, 6)
    shuffled = InternVLModel.pixel_shuffle(None, features, 0.5)
    with torch.no_grad():
        expected = reference(shuffled.flatten(1, 2)).flatten(0, 1)
        torch.testing.assert_close(ours(Ragged.of(features)), expected, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("stride", [2, 4])
def test_conv_gmlp_is_a_gated_residual_strided_convolution(stride):
    projector = build({"kind": "conv_gmlp", "stride": stride}, 6, 10)
    frames = torch.randn(1, 6 * stride - 1, 6)
    padded = F.pad(frames, (0, 0, 0, 1))

    def convolve(linear):
        conv = nn.Conv1d(6, 6 * stride, stride, stride, bias=False)
        conv.weight.data = linear.weight.view(6 * stride, stride, 6).transpose(1, 2)
        return conv(padded.transpose(1, 2)).transpose(1, 2)

    with torch.no_grad():
        gated = F.silu(convolve(projector.gate)) * convolve(projector.up)
        joined = padded.view(1, -1, 6 * stride) + projector.down(gated)
        expected = projector.out(projector.norm(joined))[0]
        torch.testing.assert_close(projector(Ragged.of(frames)), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("config", "culprit"),
    [
        ({"kind": "patch_concat_mlp", "conact": 2}, "takes no 'conact'.*concat"),
        ({"kind": "linear", "concat": 2}, "'linear' takes no 'concat'"),
        ({"kind": "resampler", "queries": 0}, "queries is a whole number of at least 1"),
        ({"kind": "conv_gmlp", "stride": "4"}, "stride is a whole number"),
        ({"kind": "pixel_shufle"}, "'pixel_shuffle'"),
    ],
)
def test_a_wrong_option_is_refused(config, culprit):
    with pytest.raises(EntryError, match=culprit):
        complete(config)
