"""A step gives a GPU its work and waits for nothing: no count or position is asked back."""

import pytest
import torch

from omni.model.attention import PACKED_SDPA, documents, packed_mask
from omni.processing.messages import assistant, audio, image, user
from stages.engine.distribute import clip, to_device
from stages.objectives.task import Task


@pytest.fixture
def pair(make_model, specs, make_picture, make_sound):
    """Return a task and a packed batch with a picture, two sounds and text."""
    model, processor = make_model(vision=specs.vision, audio=specs.audio)
    talks = [
        [user(image(make_picture(1)), "What is it?"), assistant("A cat.")],
        [user(audio(make_sound(0.5)), audio(make_sound(0.2))), assistant("lion")],
        [user("Two and two?"), assistant("Four.")],
    ]
    batch = processor.pack([processor.encode(talk) for talk in talks])
    return Task(model, "sft").train(), batch


def _on_a_pretended_gpu(task, batch):
    # tensors on torch's meta device have no values: whatever asks for one raises
    task.to("meta")
    there = to_device(batch, torch.device("meta"), task.model.host_inputs())
    loss = task(there, torch.tensor(9.0, device="meta")).total
    assert loss.device.type == "meta"


def test_forward_asks_a_gpu_for_nothing(pair):
    _on_a_pretended_gpu(*pair)


@pytest.mark.parametrize("name", ["label_positions", "vision_positions", "audio_positions"])
def test_positions_that_are_missing_are_asked_for(pair, name):
    task, batch = pair
    del batch[name]
    with pytest.raises(NotImplementedError, match="nonzero"):
        _on_a_pretended_gpu(task, batch)


def test_positions_of_a_batch_change_nothing(pair):
    task, batch = pair
    model = task.model.eval()
    bare = {name: value for name, value in batch.items() if not name.endswith("_positions")}
    assert len(batch) - len(bare) == 3
    found, expected = model(**batch), model(**bare)
    assert torch.equal(found.token_losses, expected.token_losses)
    assert found.loss == expected.loss


def test_the_mask_of_a_gpu_is_that_of_transformers(pair, monkeypatch):
    task, batch = pair
    model = task.model.eval()
    config = model.language_model.config
    positions = batch["position_ids"]
    expected = model(**batch).token_losses
    assert packed_mask(config, positions) is None  # a CPU runs documents one by one

    class Elsewhere(torch.Tensor):
        device = torch.device("cuda")

    mask = packed_mask(config, positions.as_subclass(Elsewhere)).as_subclass(torch.Tensor)
    monkeypatch.setattr("omni.model.forward.documents", lambda positions: None)
    assert config._attn_implementation == PACKED_SDPA
    found = model(**batch, attention_mask=mask).token_losses
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    # and an LLM with windows finds out itself
    monkeypatch.setattr(config, "sliding_window", 8, raising=False)
    assert packed_mask(config, positions.as_subclass(Elsewhere)) is None
    assert len(documents(positions)) == 3


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_step_on_a_gpu_waits_for_nothing(pair):
    task, batch = pair
    device = torch.device("cuda")
    task.to(device)
    optimizer = torch.optim.AdamW(task.parameters(), 1e-4, fused=True)
    count = torch.tensor(9.0, device=device)

    def step():
        loss = task(to_device(batch, device, task.model.host_inputs()), count).total
        loss.backward()
        clip(task.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        return loss.detach()

    first = step()
    try:
        torch.cuda.set_sync_debug_mode("error")
        second = step()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert second < first
