"""Parts that are not what they should be: each is a clear error, or works all the same."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from transformers import (
    AutoModelForCausalLM,
    PreTrainedTokenizerFast,
    SiglipVisionConfig,
    SiglipVisionModel,
    WhisperConfig,
    WhisperModel,
)

from omni import OmniForConditionalGeneration, OmniProcessor
from omni.model.forward import load_text_tokenizer
from omni.model.isolation import UnfitError, check_vocabulary
from omni.processing.messages import assistant, user
from omni.processing.processor import IGNORE_INDEX
from omni.weights import WeightsError, resolve
from stages.recipe.read import load_recipe
from stages.training.prepare import load_parent


@pytest.fixture
def folder(tmp_path):
    """Return a folder of a tiny Llama and its tokenizer, to be spoilt."""
    part = resolve("tiny:llama").folder
    AutoModelForCausalLM.from_pretrained(part).save_pretrained(tmp_path)
    load_text_tokenizer("tiny:llama").save_pretrained(tmp_path)
    return tmp_path


def configure(folder, **settings):
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | settings))


def change(folder, how):
    file = folder / "model.safetensors"
    state = load_file(file)
    how(state)
    save_file(state, file, {"format": "pt"})


@pytest.mark.parametrize(("spoil", "error", "reason"), [
    (lambda f: (f / "model.safetensors").unlink(), ValueError,
     r"weights cannot be read: .*no file"),
    (lambda f: configure(f, intermediate_size=48), ValueError,
     r"mlp\.\w+\.weight has shape \((64, 32|32, 64)\), not \((48, 32|32, 48)\) as its config says "
     r"\(so it is with 5 more\)"),
    (lambda f: change(f, lambda s: s.pop("model.layers.1.mlp.up_proj.weight")), ValueError,
     r"lacks 1 tensors of the LLM llama, first model\.layers\.1\.mlp\.up_proj\.weight"),
    (lambda f: configure(f, quantization_config={"quant_method": "bitsandbytes"}), WeightsError,
     r"quantised \(bitsandbytes\).* take those it was made from"),
])  # fmt: skip
def test_weights_that_are_not_as_the_config_says_are_refused(spoil, error, reason, folder):
    spoil(folder)
    with pytest.raises(error, match=reason) as caught:
        OmniForConditionalGeneration.from_text(str(folder))
    assert str(folder) in str(caught.value)


TOWERS = {
    "whisper": (lambda: WhisperModel(WhisperConfig(
        d_model=32, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=32, decoder_ffn_dim=32, vocab_size=40,
        pad_token_id=0, bos_token_id=0, eos_token_id=0, decoder_start_token_id=0)),
        "d_model", r"encoder\.conv1\.bias"),
    "transformers": (lambda: SiglipVisionModel(SiglipVisionConfig(
        hidden_size=32, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
        image_size=32, patch_size=16)), "hidden_size", r"embeddings\.\w+\.\w+"),
}  # fmt: skip


@pytest.mark.parametrize("sketch", [False, True])
@pytest.mark.parametrize("kind", TOWERS)
def test_an_encoder_of_another_width_than_it_says_is_refused(kind, sketch, make_model, tmp_path):
    make, width, tensor = TOWERS[kind]
    make().save_pretrained(tmp_path)
    configure(tmp_path, **{width: 48})
    model, processor = make_model()
    if sketch:
        model = OmniForConditionalGeneration.sketch("tiny:llama")
    projector = {"kind": "linear"}
    with pytest.raises(ValueError, match=rf"{tensor} has shape \(32.*\), not \(48"):
        model.attach("it", {"encoder": {"kind": kind, "weights": str(tmp_path)},
                            "projector": projector}, processor)  # fmt: skip


def test_weights_in_half_precision_are_trained_in_single(folder):
    change(folder, lambda s: s.update({name: w.bfloat16() for name, w in s.items()}))
    configure(folder, dtype="bfloat16")
    model = OmniForConditionalGeneration.from_text(str(folder))
    assert {p.dtype for p in model.parameters()} == {torch.float32}


def test_a_tokenizer_with_more_tokens_than_rows_is_refused_before_anything_is_trained(folder):
    tokenizer = load_text_tokenizer(str(folder))
    tokenizer.add_tokens([f"<more {n}>" for n in range(4)])
    tokenizer.save_pretrained(folder)
    recipe = load_recipe("tiny", [f"text={folder}"])
    for sketch in (True, False):
        with pytest.raises(
            UnfitError, match=r"beyond the 260 rows .* llama .*'<more \d>' with the"
        ):
            load_parent(recipe, None, sketch=sketch)
    tokenizer = load_text_tokenizer("tiny:llama")
    check_vocabulary(OmniForConditionalGeneration.from_text("tiny:llama"), tokenizer)


@pytest.fixture
def plain():
    """Return a tokenizer without pad token, ChatML and template."""
    backend = load_text_tokenizer("tiny:llama").backend_tokenizer.to_str()
    for old, new in (("<|im_start|>", "<s>"), ("<|im_end|>", "</s>")):
        backend = backend.replace(old, new)
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(backend), bos_token="<s>", eos_token="</s>"
    )


def test_a_tokenizer_without_template_and_padding_gets_a_plain_one_and_says_so(plain, caplog):
    processor = OmniProcessor(plain)
    assert "no chat template" in caplog.text and "user: ..." in caplog.text
    talks = [[user("Two?"), assistant("Four.")], [user("And?"), assistant("Five, I think.")]]
    encoded = [processor.encode(talk) for talk in talks]
    assert plain.decode(encoded[0].input_ids) == "user: Two?\nassistant: Four.</s>"
    labels = encoded[0].labels
    assert plain.decode(labels[labels != IGNORE_INDEX]) == "Four.</s>"
    assert processor.pad(encoded)["attention_mask"].sum() == sum(map(len, encoded))
    assert processor.ends[0] == [plain.eos_token_id]


def test_a_text_begins_once_whoever_prints_its_beginning(plain):
    plain.chat_template = (
        "{{ bos_token }}{% for m in messages %}{{ m.role }}: {{ m.content }}{{ eos_token }}"
        "{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}"
    )
    plain.add_bos_token = True
    ids = OmniProcessor(plain).encode([user("Two?"), assistant("Four.")]).input_ids
    assert (ids == plain.bos_token_id).sum() == 1
    assert ids[0] == plain.bos_token_id
