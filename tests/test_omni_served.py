"""What vLLM's transformers backend asks of a checkpoint: each point, and vLLM itself if there."""

import base64
import io
import json
import os
import subprocess
from pathlib import Path

import pytest
import torch
from PIL import Image
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    AutoProcessor,
    AutoTokenizer,
    BloomConfig,
    GraniteConfig,
)
from typer.testing import CliRunner

from omni import OmniModel
from omni.load import load
from omni.processing.messages import audio, image, user
from omni.serve.export import ExportError, check, in_parts, write
from stages.cli import app

QWEN = {
    "encoder": {"kind": "qwen2_vl", "model_config": {
        "depth": 1, "embed_dim": 32, "num_heads": 2, "mlp_ratio": 2, "hidden_size": 24,
    }},
    "projector": {"kind": "patch_concat_mlp"},
}  # fmt: skip
WAV2VEC2 = {
    "encoder": {"kind": "transformers_audio", "model_config": {
        "model_type": "wav2vec2", "hidden_size": 16, "num_hidden_layers": 1,
        "num_attention_heads": 2, "intermediate_size": 24, "conv_dim": [8] * 7,
        "num_conv_pos_embeddings": 5, "num_conv_pos_embedding_groups": 2,
    }},
    "projector": {"kind": "frame_concat_mlp"},
}  # fmt: skip


@pytest.fixture(scope="module")
def checkpoint(make_checkpoint, specs):
    return make_checkpoint(vision=specs.vision, audio=specs.audio)


@pytest.fixture
def talks(make_picture, make_sound):
    """Hold conversations with media of unlike sizes."""
    pictures = [make_picture(1), make_picture(2, (50, 60)), make_picture(3, (90, 60))]
    sounds = [make_sound(seconds, rate=16_000) for seconds in (0.5, 1.3)]
    return [
        [user(image(pictures[0]), "What is this?")],
        [user("Hello there")],
        [user(audio(sounds[1]), "and", image(pictures[1]), image(pictures[0]), "?")],
        [user(audio(sounds[0]), audio(sounds[1]), "or", image(pictures[2]))],
    ]


def test_auto_model_is_the_model_without_its_head(checkpoint, talks):
    headless = AutoModel.from_pretrained(checkpoint).eval()
    whole, processor = load(checkpoint)
    assert type(headless) is OmniModel
    names = {name for name, _ in whole.named_parameters()}
    assert {name for name, _ in headless.named_parameters()} == names - {
        "language_model.lm_head.weight"
    }
    batch = processor.pad([processor.encode(talk, generation=True) for talk in talks])
    with torch.no_grad():
        found = headless(**batch).last_hidden_state
        expected = whole(**batch, output_hidden_states=True).hidden_states[-1]
    assert torch.equal(found, expected)


@pytest.mark.parametrize("spec", ["timm", "qwen2_vl"])
def test_media_are_found_one_by_one_and_in_their_place(make_model, specs, talks, spec):
    """The backend's steps: markers -> offsets and lists -> features -> embeddings."""
    vision = specs.vision if spec == "timm" else QWEN
    whole, processor = make_model(vision=vision, audio=specs.audio)
    headless = OmniModel(whole.config).eval()
    headless.load_state_dict(whole.state_dict(), strict=False)
    for talk in talks:
        expected = processor.encode(talk, generation=True)
        text = processor.apply_chat_template(talk, add_generation_prompt=True)
        refs = {kind: [p[kind] for p in talk[0]["content"] if p["type"] == kind]
                for kind in ("image", "audio")}  # fmt: skip
        found = processor(text=text, images=refs["image"], audio=refs["audio"],
                          return_text_replacement_offsets=True, return_tensors="pt")  # fmt: skip
        assert found["input_ids"][0].tolist() == expected.input_ids.tolist()
        embeds = headless.get_input_embeddings()(found["input_ids"])
        [places] = found["text_replacement_offsets"]
        for kind, names in (
            ("image", processor.image_processor.model_input_names),
            ("audio", processor.feature_extractor.model_input_names),
        ):
            if not refs[kind]:
                continue
            features = getattr(headless, f"get_{kind}_features")(
                *[found[names[0]]], **{n: found[n] for n in names[1:]}
            )
            token = getattr(processor, f"{kind}_token_id")
            counts = [
                p["replacement"].count(getattr(processor, f"{kind}_token"))
                for p in places
                if p["type"] == kind
            ]
            assert sum(counts) == len(features.pooler_output)
            embeds[found["input_ids"] == token] = features.pooler_output
            if kind == "image":
                sizes = [Image.open(io.BytesIO(ref)).size[::-1] for ref in refs[kind]]
                said = processor._get_num_multimodal_tokens(image_sizes=sizes)
                assert said["num_image_tokens"] == said["num_image_patches"] == counts
        whole_embeds = whole.embed(found["input_ids"], dict(processor.pad([expected])))
        assert torch.allclose(embeds, whole_embeds, atol=1e-6)
        for place in places:
            start, end = place["span"]
            assert text[start:end] == place["text"]


def test_a_processor_has_what_it_reads_alone(make_model, specs):
    _, processor = make_model(vision=specs.vision)
    assert hasattr(processor, "image_processor") and not hasattr(processor, "feature_extractor")
    assert processor.tokenizer(processor.image_token)["input_ids"] == [processor.image_token_id]
    model, processor = make_model(audio=specs.audio)
    assert hasattr(processor, "feature_extractor") and not hasattr(processor, "image_processor")
    assert model.config.audio_config.max_source_positions == 3750  # 300 s of 12.5 tokens
    with pytest.raises(ValueError, match="no encoder of image"):
        OmniModel(model.config).get_encoder("image")


def test_the_exported_template_takes_parts(checkpoint, tmp_path, talks):
    out = tmp_path / "served"
    done = CliRunner().invoke(app, ["export", str(checkpoint), str(out)])
    assert done.exit_code == 0 and "vllm serve" in done.output
    processor = AutoProcessor.from_pretrained(out)
    _, own = load(checkpoint)
    for talk in talks:
        parts = [{"role": "user", "content": [
            {"type": p["type"], "text": p.get("text")} for p in talk[0]["content"]
        ]}]  # fmt: skip
        found = processor.tokenizer.apply_chat_template(
            parts, chat_template=processor.chat_template, tokenize=False, add_generation_prompt=True
        )
        assert found == own.apply_chat_template(talk, add_generation_prompt=True)
        assert torch.equal(processor.encode(talk).input_ids, own.encode(talk).input_ids)
    weights = [f / "model.safetensors" for f in (checkpoint, out)]
    assert os.path.samefile(*weights)
    with pytest.raises(ExportError, match="is there already"):
        write(checkpoint, out)


def test_of_a_model_of_text_the_llm_is_written(make_checkpoint, tmp_path):
    checkpoint = make_checkpoint()
    write(checkpoint, tmp_path / "out")
    llm = AutoModelForCausalLM.from_pretrained(tmp_path / "out").eval()
    model, processor = load(checkpoint)
    ids = processor.encode([user("Hello there")], generation=True).input_ids[None]
    with torch.no_grad():
        assert torch.equal(llm(ids).logits, model(ids).logits)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    talk = [{"role": "user", "content": "Hello there"}]
    found = tokenizer.apply_chat_template(talk, add_generation_prompt=True, return_dict=False)
    assert found == ids[0].tolist()


def test_a_part_of_another_kind_is_refused_by_the_template(checkpoint):
    _, processor = load(checkpoint)
    talk = [{"role": "user", "content": [{"type": "video"}]}]
    with pytest.raises(Exception, match="a part of type video is not read"):
        processor.tokenizer.apply_chat_template(
            talk, chat_template=in_parts(processor), tokenize=False
        )


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (
            lambda c, specs: c.modalities.update(more=c.modalities["vision"]),
            "vision and more both read image",
        ),
        (lambda c, specs: setattr(c, "isolates", False), "does not fit the LLM llama"),
        (lambda c, specs: setattr(c, "text_config", BloomConfig()), "does not fit the LLM bloom"),
        (
            lambda c, specs: setattr(c, "text_config", GraniteConfig(logits_scaling=2.0)),
            "logits of the LLM granite",
        ),
    ],
    ids=["two", "recurrent", "kernels", "scaled"],
)
def test_what_vllm_would_not_serve_is_refused_by_name(make_model, specs, change, reason):
    config = make_model(vision=specs.vision)[0].config
    change(config, specs)
    with pytest.raises(ExportError, match=reason):
        check(config)


@pytest.mark.slow
@pytest.mark.parametrize("which", ["timm and whisper", "qwen2_vl and wav2vec2"])
def test_vllm_answers_as_the_model_itself(make_checkpoint, specs, talks, tmp_path, which):
    """Real vLLM: the same tokens of a prompt and of a greedy answer, and their log-probs."""
    if not (python := os.environ.get("VLLM_PYTHON")):
        pytest.skip("vLLM is not installed; scripts/test_vllm.sh tests with it")
    parts = (specs.vision, specs.audio) if which.startswith("timm") else (QWEN, WAV2VEC2)
    checkpoint = make_checkpoint(**dict(zip(("vision", "audio"), parts, strict=True)))
    write(checkpoint, tmp_path / "out")
    asked = [
        [{"role": "user", "content": [_openai(p) for p in talk[0]["content"]]}] for talk in talks
    ]
    (tmp_path / "asked").write_text(json.dumps(asked))
    script = Path(__file__).parent / "peers" / "vllm_answers.py"
    done = subprocess.run(
        [python, script, *(str(tmp_path / name) for name in ("out", "asked", "found"))],
        capture_output=True, text=True, cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parent.parent)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    model, processor = load(checkpoint)
    worst = 0.0
    for talk, found in zip(talks, json.loads((tmp_path / "found").read_text()), strict=True):
        encoded = processor.encode(talk, generation=True)
        assert found["prompt"] == encoded.input_ids.tolist()
        ids = torch.tensor([found["prompt"] + found["ids"]])
        batch = processor.pad([encoded]) | {
            "input_ids": ids,
            "attention_mask": torch.ones_like(ids),
        }
        with torch.no_grad():
            scores = model(**batch).logits[0, len(encoded) - 1 : -1].log_softmax(-1)
        assert scores.argmax(1).tolist() == found["ids"]
        own = scores.gather(1, torch.tensor(found["ids"])[:, None])[:, 0]
        worst = max(worst, float((own - torch.tensor(found["logprobs"])).abs().max()))
    print(f"vLLM: {which}: {len(talks)} answers alike, log-probs within {worst:.1e}")
    assert worst < 1e-4


def _openai(part):
    if part["type"] == "text":
        return part
    data = base64.b64encode(part[part["type"]]).decode()
    if part["type"] == "image":
        return {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}}
    return {"type": "input_audio", "input_audio": {"data": data, "format": "wav"}}
