"""Other kernels, compiled and checkpointed layers: the same losses and gradients."""

from functools import partial

import pytest
import torch
from accelerate import Accelerator
from torch.utils.checkpoint import checkpoint
from transformers import AutoConfig

from omni.processing.messages import assistant, audio, image, user
from omni.processing.processor import IGNORE_INDEX
from stages.doctor.comparison import packed_equals_unpacked
from stages.engine import kernels
from stages.engine.kernels import choose_attention, encoder_layers, wrap_layers
from stages.recipe.read import load_recipe
from stages.recipe.schema import RecipeError
from stages.training import chain


@pytest.fixture
def talk(make_model, specs, make_picture):
    """Return a model and encoded documents, two of them with pictures."""
    model, processor = make_model(vision=specs.vision)
    talks = [
        [user("Two and two?"), assistant("Four.")],
        [user(image(make_picture(1)), "What is it?"), assistant("A cat.")],
        [user(image(make_picture(2))), assistant("no " * 20)],
    ]
    return model, processor, [processor.encode(t) for t in talks]


def _gradients(model, batch):
    model.train().zero_grad()
    output = model(**batch)
    output.loss.backward()
    return output.token_losses, {n: p.grad.clone() for n, p in model.named_parameters()}


def _assert_same(found, expected):
    torch.testing.assert_close(found[0], expected[0], atol=1e-5, rtol=1e-5)
    assert found[1].keys() == expected[1].keys()
    for name in expected[1]:
        torch.testing.assert_close(found[1][name], expected[1][name], atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize(
    ("wanted", "compiled", "chosen"),
    [("auto", False, "packed_sdpa"), ("sdpa", False, "packed_sdpa"), ("sdpa", True, "sdpa"),
     ("eager", False, "eager")],
)  # fmt: skip
def test_packed_equals_unpacked_with_every_kernel(talk, wanted, compiled, chosen):
    model, processor, encoded = talk
    expected = _gradients(model, processor.pack(encoded))
    assert choose_attention(model, wanted, half=False, compiled=compiled) == chosen
    assert model.language_model.config._attn_implementation == chosen
    _assert_same(_gradients(model, processor.pack(encoded)), expected)
    assert packed_equals_unpacked(model, processor, encoded).ok


def test_flash_attention_that_is_not_there_is_refused(talk):
    with pytest.raises(ValueError, match="needs the package flash-attn, a GPU and precision bf16"):
        choose_attention(talk[0], "flash_attention_2", half=False, compiled=False)


def test_an_unknown_kernel_is_an_error_of_the_recipe():
    with pytest.raises(RecipeError, match=r"attention is auto, sdpa, .* not 'fast'"):
        load_recipe("tiny", ["attention=fast"])


def test_a_stage_runs_as_its_recipe_says(shards, tmp_path, monkeypatch):
    ran = []

    def watch(function, *args, **kwargs):
        ran.append(function)
        return checkpoint(function, *args, **kwargs)

    monkeypatch.setattr(kernels, "checkpoint", watch)
    recipe = load_recipe("tiny", [*shards, f"output={tmp_path}", "attention=eager",
                                  "checkpointing=true", "stages.omni.steps=1"])  # fmt: skip
    recipe.stages = [stage for stage in recipe.stages if stage.name == "omni"]
    recipe.stages[0].data.mixture = {"text": 1.0}
    recipe.stages[0].trainable = {"language_model": 1e-3}
    chain.run_recipe(recipe, Accelerator(cpu=True))
    assert len(ran) == 2 * 2  # layers x micro-batches
    config = ran[0].__self__.self_attn.config
    assert config._attn_implementation == "eager"
    assert AutoConfig.from_pretrained(tmp_path / "omni").text_config.model_type == "llama"


@pytest.mark.parametrize("frozen", [False, True])
def test_checkpointed_layers_give_the_same_gradients(talk, frozen):
    model, processor, encoded = talk
    model.language_model.requires_grad_(not frozen)  # through which projectors learn all the same
    batch, names = processor.pack(encoded), list(model.state_dict())
    calls = []
    for layer in model.get_decoder().layers:
        layer.mlp.register_forward_pre_hook(lambda *_: calls.append(1))

    def learn():
        calls.clear()
        model.train().zero_grad()
        output = model(**batch)
        output.loss.backward()
        trained = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
        return len(calls), (output.token_losses, {n: p.grad.clone() for n, p in trained})

    once, expected = learn()
    wrap_layers(model, compiled=False, checkpointing=True)
    twice, found = learn()
    _assert_same(found, expected)
    assert (once, twice) == (2, 4)
    assert list(model.state_dict()) == names


def test_layers_of_encoders_that_train_run_again(make_model, specs, make_sound):
    model, processor = make_model(audio=specs.audio)
    batch = processor.pack([processor.encode([user(audio(make_sound(0.5))), assistant("beep")])])
    frozen, calls = model.language_model.requires_grad_(False), []
    [layer] = encoder_layers(model.encoders["audio"])
    layer.fc1.register_forward_pre_hook(lambda *_: calls.append(1))

    def learn():
        model.train().zero_grad()
        output = model(**batch)
        output.loss.backward()
        return output.token_losses, {n: p.grad.clone() for n, p in model.named_parameters()
                                     if p.grad is not None}  # fmt: skip

    expected = learn()
    assert any(name.startswith("encoders.audio") for name in expected[1])
    wrap_layers(model, compiled=False, checkpointing=True)
    _assert_same(learn(), expected)
    assert len(calls) == 1 + 2
    assert not any(p.requires_grad for p in frozen.parameters())


@pytest.mark.slow
def test_compiled_layers_give_the_same_gradients(talk, monkeypatch):
    """Dynamo alone: what inductor makes of it is tested slowly."""
    _compile(talk, partial(torch.compile, backend="eager"), monkeypatch)


@pytest.mark.slow
def test_inductor_gives_the_same_gradients(talk, monkeypatch):
    _compile(talk, torch.compile, monkeypatch)


def _compile(talk, compile_with, monkeypatch):
    torch._dynamo.reset()
    model, processor, encoded = talk
    first, second, third = encoded
    # rows of different lengths, with a mask and without, and then of others
    known = [encoded, [second, third], [third], [second]]
    rows = [processor.pack(row) for row in [*known, [first], [first, third]]]
    choose_attention(model, "auto", half=False, compiled=True)
    expected = [_gradients(model, row) for row in rows]
    names = list(model.state_dict())
    monkeypatch.setattr(kernels.torch, "compile", compile_with)
    wrap_layers(model, compiled=True, checkpointing=True)
    torch._dynamo.utils.counters.clear()
    graphs = []
    for row, wanted in zip(rows, expected, strict=True):
        _assert_same(_gradients(model, row), wanted)
        graphs.append(torch._dynamo.utils.counters["stats"]["unique_graphs"])
    assert list(model.state_dict()) == names
    assert graphs[0] >= 1
    assert graphs[-1] == graphs[len(known) - 1]  # other lengths compile nothing more


@pytest.mark.slow
def test_flex_attention_isolates_documents_too(talk, request):
    """Forward alone: on a CPU it has no backward pass, and crashes on several threads."""
    model, processor, encoded = talk
    threads = torch.get_num_threads()
    request.addfinalizer(lambda: torch.set_num_threads(threads))
    torch.set_num_threads(1)
    batch = processor.pack(encoded)
    with torch.no_grad():
        expected = model(**batch).token_losses
        choose_attention(model, "flex_attention", half=False, compiled=False)
        torch.testing.assert_close(model(**batch).token_losses, expected, atol=1e-5, rtol=1e-5)
    assert int((batch["labels"] != IGNORE_INDEX).sum()) == len(expected)
