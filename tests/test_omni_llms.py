"""LLMs of all kinds: media stand among their tokens, packed documents apart; or a refusal."""

import importlib.util
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from omni import OmniForConditionalGeneration, OmniProcessor
from omni.model.forward import load_text_tokenizer
from omni.model.isolation import UnfitError
from omni.processing.processor import IGNORE_INDEX
from stages.doctor.comparison import packed_equals_unpacked

spec = importlib.util.spec_from_file_location("llms", Path(__file__).with_name("llms.py"))
llms = importlib.util.module_from_spec(spec)
spec.loader.exec_module(llms)
APART, ONE_BY_ONE, REFUSED, write_llm = llms.APART, llms.ONE_BY_ONE, llms.REFUSED, llms.write_llm


@pytest.mark.parametrize("kind", [*APART, *ONE_BY_ONE])
def test_packed_documents_are_apart_in_every_llm(kind, specs, talks, tmp_path):
    spec = write_llm(kind, tmp_path)
    model = OmniForConditionalGeneration.from_text(spec).eval()
    assert model.config.isolates == (kind in APART)
    processor = OmniProcessor(load_text_tokenizer(spec))
    model.attach("vision", specs.vision, processor)
    model.attach("audio", specs.audio, processor)
    encoded = [processor.encode(talk) for talk in talks]
    batch = processor.pack(encoded)
    with torch.no_grad():
        losses = model(**batch).token_losses
        logits = model(**{k: v for k, v in batch.items() if "label" not in k}).logits
        whole = torch.nn.functional.cross_entropy(
            logits[0, batch["label_positions"][0]].float(),
            batch["labels"][0, batch["label_positions"][0] + 1], reduction="none",
        )  # fmt: skip
        alone = [model(**processor.pack([e])).token_losses for e in encoded]
    torch.testing.assert_close(losses, torch.cat(alone), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(losses, whole, rtol=1e-4, atol=1e-4)
    assert (batch["labels"] != IGNORE_INDEX).sum() == len(losses)
    model.requires_grad_(True)
    if "num_experts_per_tok" in llms.FAMILIES[kind].options:  # grouped kernels have no double
        model.language_model.set_experts_implementation("eager")
    result = packed_equals_unpacked(model, processor, encoded, dtype=torch.float64)
    assert result.difference < 1e-5, result


@pytest.mark.parametrize("kind", [*APART, *ONE_BY_ONE])
@torch.no_grad()
def test_every_llm_keeps_its_text_and_answers_the_same_however_it_is_asked(
    kind, specs, talks, tmp_path
):
    """Cache or none, alone or in a batch, saved and loaded; its own logits to the bit."""
    spec = write_llm(kind, tmp_path)
    model = OmniForConditionalGeneration.from_text(spec).eval()
    processor = OmniProcessor(load_text_tokenizer(spec))
    model.attach("vision", specs.vision, processor)
    ids = processor.encode(talks[0]).input_ids[None]
    bare = AutoModelForCausalLM.from_pretrained(spec).eval()
    assert torch.equal(model(input_ids=ids).logits, bare(input_ids=ids).logits)

    prompts = [processor.encode(talk[:-1], generation=True) for talk in (talks[0], talks[1])]
    alone = [processor.pad([prompt]) for prompt in prompts]
    expected = torch.cat([steps(model, batch, use_cache=False) for batch in alone])
    close(torch.cat([steps(model, batch) for batch in alone]), expected)
    if kind in llms.ALONE:
        with pytest.raises(ValueError, match=f"the LLM {kind} .* one prompt at a time"):
            steps(model, processor.pad(prompts))
    else:
        close(steps(model, processor.pad(prompts)), expected)
    assert not torch.allclose(expected[0], expected[1], atol=1e-2)  # prompts do matter
    for part in (model, processor):
        part.save_pretrained(tmp_path / "omni")
    again = OmniForConditionalGeneration.from_pretrained(tmp_path / "omni").eval()
    assert again.config.isolates == model.config.isolates == (kind in APART)
    same = OmniProcessor.from_pretrained(tmp_path / "omni")
    assert again.config.continues == model.config.continues == (kind not in llms.ALONE)
    batch = same.pad([same.encode(talks[0][:-1], generation=True)])
    close(steps(again, batch, use_cache=False), expected[:1])  # where weights lie, rounds


def steps(model, batch, **options):
    """Return the logits of each token of answers of five, (B, 5, V); their ids repeat."""
    found = model.generate(**batch, max_new_tokens=5, min_new_tokens=5, do_sample=False,
                           output_logits=True, return_dict_in_generate=True, pad_token_id=0,
                           **options)  # fmt: skip
    return torch.stack(found.logits, 1)


def close(found, expected):
    assert torch.equal(found.argmax(-1), expected.argmax(-1))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", REFUSED)
def test_an_llm_whose_ids_are_more_than_embeddings_is_refused(kind, tmp_path):
    with pytest.raises(UnfitError, match=rf"the LLM {kind}.*embeddings"):
        OmniForConditionalGeneration.from_text(write_llm(kind, tmp_path))


@pytest.mark.parametrize("kind", ["llama", "gemma", "gemma3_text"])
def test_media_tokens_start_as_large_as_text(kind, specs, talks, tmp_path):
    """Also where the embedding module scales what it looks up."""
    spec = write_llm(kind, tmp_path, hidden_size=256)
    model = OmniForConditionalGeneration.from_text(spec).eval()
    processor = OmniProcessor(load_text_tokenizer(spec))
    model.attach("vision", specs.vision, processor)
    assert model.text_scale() == pytest.approx(1.0 if kind == "llama" else 16.0)
    batch = processor.pack([processor.encode(talks[1])])
    with torch.no_grad():
        embeds = model.embed(batch["input_ids"], dict(batch))[0]
    shown = batch["input_ids"][0] == model.config.modalities["vision"]["token_id"]
    ratio = embeds[shown].norm(dim=1).mean() / embeds[~shown].norm(dim=1).mean()
    assert 0.3 < ratio < 3


def test_the_readme_lists_what_is_tested():
    page = (Path(__file__).parent.parent / "README.md").read_text()
    rows = {row.split(" | ")[0]: row.split(" | ")[1:] for row in page.splitlines() if "LLM" in row}
    assert rows["| LLM, packed"][0] == llms.listed(APART)
    assert rows["| LLM, packed"][2] == f"{llms.listed(REFUSED)}: refused by name |"
    assert rows["| LLM, one document at a time"][0] == llms.listed(ONE_BY_ONE)
    alone = llms.listed({kind: ONE_BY_ONE[kind] for kind in llms.ALONE})
    assert rows["| LLM, one document at a time"][2].endswith(f"; {alone}: prompts in batches |")
