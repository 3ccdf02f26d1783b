"""Towers, projectors and LLMs of LLaVA, LLaVA-OneVision and Qwen2-VL: as in transformers' class."""

from io import BytesIO

import pytest
import torch
import transformers
from PIL import Image
from safetensors.torch import load_file, save_file

from omni import OmniForConditionalGeneration, OmniProcessor
from omni.entry import EntryError
from omni.model.forward import load_text_tokenizer
from omni.processing.messages import assistant, image, user
from omni.weights.tiny import write_byte_tokenizer

TEXT = {"vocab_size": 300, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "initializer_range": 0.2}  # fmt: skip
TOWER = {"hidden_size": 24, "intermediate_size": 48, "num_hidden_layers": 3, "image_size": 28,
         "num_attention_heads": 3, "patch_size": 14}  # fmt: skip
PLACEHOLDER = 299
PIXELS = "pixel_values"
KINDS = {
    "llava": ("Llava", {
        "vision_config": {"model_type": "clip_vision_model", **TOWER}, "image_seq_length": 4,
        "text_config": {"model_type": "llama", **TEXT}, "image_token_index": PLACEHOLDER,
    }, {"kind": "transformers"}, {"kind": "mlp"}),
    "onevision": ("LlavaOnevision", {
        "vision_config": {"model_type": "siglip_vision_model", **TOWER},
        "text_config": {"model_type": "qwen2", **TEXT}, "image_token_index": PLACEHOLDER,
        "image_grid_pinpoints": [[28, 28]],
    }, {"kind": "transformers"}, {"kind": "mlp"}),
    "qwen2_vl": ("Qwen2VL", {
        "vision_config": {"depth": 2, "embed_dim": 32, "hidden_size": 32, "num_heads": 2},
        "text_config": {**TEXT, "rope_parameters": {"rope_type": "default", "rope_theta": 1e4,
                                                    "mrope_section": [1, 1, 2]}},
        "image_token_id": PLACEHOLDER,
    }, {"kind": "qwen2_vl"}, {"kind": "patch_concat_mlp", "hidden": 128}),
}  # fmt: skip


@pytest.fixture(params=KINDS)
def theirs(request, tmp_path):
    """A random model of transformers, saved, and how its parts are named in a recipe."""
    name, config, encoder, projector = KINDS[request.param]
    torch.manual_seed(3)
    config = getattr(transformers, f"{name}Config")(**config)
    model = getattr(transformers, f"{name}ForConditionalGeneration")(config).eval()
    model.save_pretrained(tmp_path / "vlm")
    write_byte_tokenizer(tmp_path / "vlm")
    weights = {"weights": str(tmp_path / "vlm")}
    spec = {"encoder": encoder | weights, "projector": projector | weights}
    return request.param, model, weights["weights"], spec


def attached(text, spec):
    model = OmniForConditionalGeneration.from_text(text)
    processor = OmniProcessor(load_text_tokenizer(text))
    model.attach("vision", spec, processor)
    return model.eval(), processor


def shown(processor, picture):
    talk = [user("What is", image(picture), "this?"), assistant("A square.")]
    batch = processor.pack([processor.encode(talk)])
    batch.pop("labels"), batch.pop("label_positions")
    return batch


@torch.no_grad()
def test_a_picture_becomes_the_tokens_that_it_becomes_there(theirs, make_picture):
    kind, model, folder, spec = theirs
    ours, processor = attached("tiny:llama" if kind == "qwen2_vl" else folder, spec)
    batch = shown(processor, make_picture(2))
    media = {k: v for k, v in batch.items() if k in ours.media_inputs()}
    tokens = ours.embed(batch["input_ids"], dict(media))[0]
    tokens = tokens[batch["input_ids"][0] == ours.config.modalities["vision"]["token_id"]]
    if kind == "qwen2_vl":
        picture = Image.open(BytesIO(make_picture(2)))
        pixels = transformers.Qwen2VLImageProcessor()(picture, return_tensors="pt")
        found = model.model.get_image_features(**pixels).pooler_output[0]
    else:
        tower = model.model.vision_tower(media[PIXELS], output_hidden_states=True)
        layer = model.config.vision_feature_layer
        features = tower.hidden_states[layer] if layer != -1 else tower.last_hidden_state
        found = model.model.multi_modal_projector(features[0, 1 if kind == "llava" else 0 :])
    torch.testing.assert_close(tokens, found, atol=1e-4, rtol=1e-4)
    assert tokens.std() > 0.001
    assert set(ours.config.parts) == {"text", "vision", "vision.projector"}


@pytest.mark.parametrize("theirs", ["llava"], indirect=True)
@torch.no_grad()
def test_all_of_a_llava_scores_as_it_does_there(theirs, make_picture):
    _, model, folder, spec = theirs
    ours, processor = attached(folder, spec)
    batch = shown(processor, make_picture(2))
    ids = batch["input_ids"].clone()
    ids[ids == ours.config.modalities["vision"]["token_id"]] = PLACEHOLDER
    found = model(input_ids=ids, pixel_values=batch[PIXELS]).logits
    mine = ours(**batch).logits
    torch.testing.assert_close(mine[..., : found.shape[-1]], found, atol=1e-4, rtol=1e-4)
    blind = model(input_ids=ids, pixel_values=0 * batch[PIXELS]).logits
    assert (blind - found).abs().max() > 0.01


def test_a_recipe_is_examined_without_their_weights(theirs):
    kind, _, folder, spec = theirs
    if kind == "qwen2_vl":
        with pytest.raises(ValueError, match="LLM of a qwen2_vl is no causal LLM"):
            OmniForConditionalGeneration.sketch(folder)
        folder = "tiny:llama"
    sketch = OmniForConditionalGeneration.sketch(folder)
    sketch.attach("vision", spec, OmniProcessor(load_text_tokenizer(folder)))
    whole, _ = attached(folder, spec)
    shapes = [{n: p.shape for n, p in m.named_parameters()} for m in (sketch, whole)]
    assert shapes[0] == shapes[1] and sketch.device.type == "meta"


def test_what_cannot_be_taken_is_refused_by_name(theirs):
    kind, _, folder, spec = theirs
    if kind == "qwen2_vl":
        with pytest.raises(ValueError, match="LLM of a qwen2_vl is no causal LLM"):
            attached(folder, spec)
    other = spec | {"projector": {"kind": "linear", "weights": folder}}
    with pytest.raises(EntryError, match=r"holds no projector 'linear'.*projectors\.vision\."):
        attached("tiny:llama", other)
    wide = spec | {"projector": {**spec["projector"], "hidden": 7}}
    with pytest.raises(EntryError, match=r"has shape \(.*not \(7"):
        attached("tiny:llama", wide)
    file = f"{folder}/model.safetensors"
    bare = {k: v for k, v in load_file(file).items() if "mlp.0" not in k and "linear_1" not in k}
    save_file(bare, file, {"format": "pt"})
    with pytest.raises(EntryError, match="lacks 2 tensors"):
        attached("tiny:llama", spec)
    bare = {k: v for k, v in bare.items() if "multi_modal" not in k and "merger" not in k}
    save_file(bare, file, {"format": "pt"})
    with pytest.raises(EntryError, match="holds no projector"):
        attached("tiny:llama", spec)


def test_a_projector_of_an_earlier_run_is_taken_by_its_name(make_model, specs, tmp_path):
    model, _ = make_model(vision=specs.vision)
    model.save_pretrained(tmp_path)
    spec = {**specs.vision, "projector": {**specs.vision["projector"], "weights": str(tmp_path)}}
    again, _ = make_model(vision=spec)
    for name, tensor in model.projectors.state_dict().items():
        assert torch.equal(tensor, again.projectors.state_dict()[name])
