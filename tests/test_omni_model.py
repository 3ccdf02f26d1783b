"""The model as a transformers class: attach, save and load, generate, pack, loss, PEFT."""

import io
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F
from transformers import AutoModelForCausalLM, AutoProcessor

from omni import OmniForConditionalGeneration, OmniProcessor
from omni.entry import EntryError
from omni.generation.answer import answer
from omni.generation.settings import Generation
from omni.model.forward import load_text_tokenizer
from omni.processing.messages import assistant, image, user
from omni.processing.processor import IGNORE_INDEX, PlaceholderError
from omni.weights import resolve


def test_attaching_leaves_text_logits_untouched_to_the_bit(make_model, specs):
    bare = AutoModelForCausalLM.from_pretrained(resolve("tiny:llama").folder).eval()
    model, processor = make_model(vision=specs.vision, audio=specs.audio)
    ids = processor.encode([user("Hello there"), assistant("Hi!")]).input_ids[None]
    with torch.no_grad():
        assert torch.equal(model(ids).logits, bare(ids).logits)


def test_a_modality_is_attached_once(make_model, specs):
    model, processor = make_model(vision=specs.vision)
    with pytest.raises(ValueError, match="'vision' is attached already"):
        model.attach("vision", specs.vision, processor)


def test_attach_names_what_is_registered(make_model, specs):
    model, processor = make_model()
    with pytest.raises(ValueError, match=r"unknown encoder 'eye'; known: timm"):
        model.attach("vision", specs.vision | {"encoder": {"kind": "eye"}}, processor)
    with pytest.raises(ValueError, match=r"unknown projector 'lens'"):
        model.attach("vision", specs.vision | {"projector": {"kind": "lens"}}, processor)
    assert not model.config.modalities
    assert not processor.modalities


@pytest.fixture
def saved(omni_pair, tmp_path) -> Path:
    model, processor = omni_pair
    model.save_pretrained(tmp_path / "m")
    processor.save_pretrained(tmp_path / "m")
    return tmp_path / "m"


def test_save_and_load_keep_every_tensor(omni_pair, saved, talks):
    model, processor = omni_pair
    loaded = AutoModelForCausalLM.from_pretrained(saved).eval()
    same = AutoProcessor.from_pretrained(saved)
    assert isinstance(loaded, OmniForConditionalGeneration)
    assert isinstance(same, OmniProcessor)
    before = dict(model.named_parameters()) | dict(model.named_buffers())
    after = dict(loaded.named_parameters()) | dict(loaded.named_buffers())
    assert before.keys() == after.keys()
    assert [n for n in before if not torch.equal(before[n], after[n])] == []
    batch = processor.pack([processor.encode(t) for t in talks])
    again = same.pack([same.encode(t) for t in talks])
    assert all(torch.equal(batch[k], again[k]) for k in batch)
    with torch.no_grad():
        assert torch.equal(model(**batch).token_losses, loaded(**again).token_losses)


@pytest.mark.parametrize("use_cache", [True, False])
def test_batched_answers_equal_answers_alone(omni_pair, talks, use_cache, monkeypatch):
    model, processor = omni_pair
    # an untrained model repeats itself, so compare the logits of each step as well
    prompts = [t[:-1] for t in talks]
    settings = {"max_new_tokens": 6, "min_new_tokens": 6, "do_sample": False,
                "use_cache": use_cache, "output_logits": True, "return_dict_in_generate": True,
                "pad_token_id": 0}  # fmt: skip
    encoded = [processor.encode(p, generation=True) for p in prompts]
    together = model.generate(**processor.pad(encoded), **settings)
    steps = torch.stack(together.logits, 1)  # (B, 6, V)
    for row, one in enumerate(encoded):
        alone = model.generate(**processor.pad([one]), **settings)
        assert torch.equal(alone.sequences[0, -6:], together.sequences[row, -6:])
        torch.testing.assert_close(torch.stack(alone.logits, 1)[0], steps[row], atol=1e-4, rtol=0)
    assert not torch.allclose(steps[1], steps[3], atol=1e-2)  # the prompts do matter


def test_the_cache_changes_no_answer(omni_pair, talks):
    model, processor = omni_pair
    batch = processor.pad([processor.encode(t[:-1], generation=True) for t in talks])
    outputs = [
        model.generate(**batch, max_new_tokens=8, do_sample=False, use_cache=c, pad_token_id=0)
        for c in (True, False)
    ]
    assert torch.equal(*outputs)


def test_answer_cuts_at_stop_strings_and_end_markers(omni_pair, talks, spell):
    model, processor = omni_pair
    spell(model, processor, talks[0][:-1], " red. Or blue<|im_end|>")
    assert answer(model, processor, [talks[0][:-1]]) == ["red. Or blue"]
    assert answer(model, processor, [talks[0][:-1]], Generation(stop=(".", "Or"))) == ["red"]


@pytest.mark.parametrize("marker", ["<|im_start|>", "\n### end\n"])
def test_generation_stops_where_the_template_ends_a_turn(make_model, specs, marker, spell):
    """At a token that is nobody's eos, and at words."""
    model, processor = make_model()
    model.generation_config.eos_token_id = 258
    turn = "{{ m.role }}: {{ m.content }}" + marker
    processor.chat_template = "{% for m in messages %}" + turn + "{% endfor %}"
    model.attach("vision", specs.vision, processor)
    if marker.startswith("<"):
        assert model.generation_config.eos_token_id == [258, 257]  # plain `generate` stops too
    spell(model, processor, [user("?")], "Yes." + marker + "more")
    assert answer(model, processor, [[user("?")]], Generation(30)) == ["Yes."]


def test_media_reach_the_answer(omni_pair, make_picture):
    model, processor = omni_pair
    logits = []
    for seed in (1, 2):
        ask = [user(image(make_picture(seed)), "?")]
        with torch.no_grad():
            logits.append(model(**processor.pad([processor.encode(ask, generation=True)])).logits)
    assert (logits[0][0, -1] - logits[1][0, -1]).abs().max() > 1e-4


def _gradients(model, batches):
    model.zero_grad()
    total = 0.0
    for batch, count in batches:
        loss = model(**batch, num_items_in_batch=count).loss
        loss.backward()
        total += loss.item()
    return total, {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


def test_packed_equals_unpacked(make_model, specs, talks):
    """A packed document sees only itself: same loss, same gradients as one after another."""
    model, processor = make_model(vision=specs.vision, audio=specs.audio)
    encoded = [processor.encode(t) for t in talks]
    count = sum(int((e.labels != IGNORE_INDEX).sum()) for e in encoded)
    packed, gradients = _gradients(model, [(processor.pack(encoded), count)])
    alone, expected = _gradients(model, [(processor.pack([e]), count) for e in encoded])
    assert packed == pytest.approx(alone, abs=1e-5)
    assert gradients.keys() == expected.keys()
    assert any(n.startswith("encoders.vision") for n in gradients)
    for name in expected:
        torch.testing.assert_close(gradients[name], expected[name], atol=1e-5, rtol=1e-4)


def test_packed_documents_are_apart_without_labels_too(omni_pair, talks):
    model, processor = omni_pair
    encoded = [processor.encode(t) for t in talks[:3]]
    packed, alone = processor.pack(encoded), [processor.pack([e]) for e in encoded]
    for batch in (packed, *alone):
        del batch["labels"]
    with torch.no_grad():
        expected = torch.cat([model(**batch).logits[0] for batch in alone])
        torch.testing.assert_close(model(**packed).logits[0], expected, atol=1e-5, rtol=1e-4)


def test_the_loss_is_that_of_the_full_logits(omni_pair, talks):
    model, processor = omni_pair
    batch = processor.pack([processor.encode(t) for t in talks])
    labels = batch.pop("labels")
    with torch.no_grad():
        full = model(**batch).logits
        output = model(**batch, labels=labels)
        expected = F.cross_entropy(full[0, :-1], labels[0, 1:], ignore_index=IGNORE_INDEX)
        assert output.loss.item() == pytest.approx(expected.item(), abs=1e-5)
        count = int((labels != IGNORE_INDEX).sum())
        assert output.logits is None
        assert output.token_losses.shape == (count,)  # the head ran on these alone
        halved = model(**batch, labels=labels, num_items_in_batch=2 * count).loss
    assert halved.item() == pytest.approx(expected.item() / 2, abs=1e-5)


def test_a_batch_without_labels_has_zero_loss(omni_pair):
    model, processor = omni_pair
    batch = processor.pack([processor.encode([user("hi"), assistant("yo")])])
    batch["labels"].fill_(IGNORE_INDEX)
    assert model(**batch, num_items_in_batch=1).loss.item() == 0.0


def test_missing_media_is_an_error_with_both_numbers(omni_pair, talks):
    model, processor = omni_pair
    batch = processor.pack([processor.encode(talks[1])])
    del batch["pixel_values"]
    with pytest.raises(PlaceholderError, match="4 vision placeholders in input_ids for 0 vision"):
        model(**batch)


def test_peft_wraps_saves_and_trains(make_model, specs, talks, tmp_path):
    peft = pytest.importorskip("peft")
    model, processor = make_model(vision=specs.vision, audio=specs.audio)
    before = model(**processor.pack([processor.encode(talks[3])])).loss.item()
    config = peft.LoraConfig(r=2, target_modules=r"language_model.*\.(q|v)_proj")
    wrapped = peft.get_peft_model(model, config)
    optimizer = torch.optim.SGD([p for p in wrapped.parameters() if p.requires_grad], lr=1.0)
    batch = processor.pack([processor.encode(talks[3])])
    losses = []
    for _ in range(4):
        loss = wrapped(**batch).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[0] == pytest.approx(before, abs=1e-5)
    assert losses[-1] < losses[0]
    wrapped.save_pretrained(tmp_path / "lora")
    fresh, _ = make_model(vision=specs.vision, audio=specs.audio)
    loaded = peft.PeftModel.from_pretrained(fresh, tmp_path / "lora").eval()
    with torch.no_grad():
        assert loaded(**batch).loss.item() == pytest.approx(wrapped(**batch).loss.item(), abs=1e-5)


def test_an_older_llm_dtype_is_kept_by_attach(make_model, specs):
    model, processor = make_model()
    model.to(torch.bfloat16)
    model.attach("vision", specs.vision, processor)
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}


def test_apply_chat_template_goes_straight_into_generate(omni_pair, make_picture):
    from PIL import Image

    model, processor = omni_pair
    picture = Image.open(io.BytesIO(make_picture(1)))
    messages = [user(image(picture), "What is it?")]
    inputs = processor.apply_chat_template(
        messages, tokenize=True, return_dict=True, add_generation_prompt=True
    )
    out = model.generate(**inputs, max_new_tokens=3, do_sample=False)
    assert out.shape[1] <= inputs["input_ids"].shape[1] + 3
    text = processor.apply_chat_template(messages, add_generation_prompt=True)
    shown = f"{processor.image_token}What is it?"
    assert text == f"<|im_start|>user\n{shown}<|im_end|>\n<|im_start|>assistant\n"
    assert load_text_tokenizer("tiny:llama").eos_token == "<|im_end|>"


def test_tokens_as_words_lie_among_the_embeddings(make_model, specs, make_picture, tmp_path):
    model, processor = make_model(vision=specs.vision | {"as_words": 30})
    turn = [user(image(make_picture(1)), "What is it?"), assistant("A dot.")]
    batch = processor.pack([processor.encode(turn)])
    embeds = model.embed(batch["input_ids"], dict(batch))
    table = model.get_input_embeddings().weight.detach()
    seen = embeds[0][batch["input_ids"][0] == model.config.modalities["vision"]["token_id"]]
    weights = torch.linalg.lstsq(table.T, seen.T.detach()).solution  # (V, M), of the least size
    assert torch.allclose(table.T @ weights, seen.T, atol=1e-4)
    raw = model.features("vision", dict(batch))
    nearest = (F.normalize(raw, dim=1) @ F.normalize(table, dim=1).T).argmax(1)
    sharp = model.mixture(raw, 1e5)
    assert torch.allclose(sharp, table[nearest], atol=1e-4)
    model(**batch).loss.backward()
    assert any(p.grad.abs().sum() > 0 for p in model.projectors["vision"].parameters())
    model.save_pretrained(tmp_path / "m")
    processor.save_pretrained(tmp_path / "m")
    loaded = OmniForConditionalGeneration.from_pretrained(tmp_path / "m").eval()
    with torch.no_grad():
        assert torch.equal(loaded(**batch).loss, model.eval()(**batch).loss)


@pytest.mark.parametrize("sharpness", [-1, float("inf"), float("nan"), "sharp", True, [1]])
def test_a_sharpness_is_a_number(make_model, specs, sharpness):
    model, processor = make_model()
    with pytest.raises(EntryError, match="as_words of modality 'vision' is how sharply"):
        model.attach("vision", specs.vision | {"as_words": sharpness}, processor)


def test_codes_are_no_words(make_model, specs):
    model, processor = make_model()
    with pytest.raises(EntryError, match="'codec' gives codes, whose embeddings are learnt"):
        model.attach("speech", specs.codec | {"as_words": 40}, processor)
