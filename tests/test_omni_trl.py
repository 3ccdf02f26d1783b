"""TRL's trainers see the pictures of their samples."""

import io

import pytest
import torch
from datasets import Dataset
from PIL import Image
from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer

from omni import OmniForConditionalGeneration, OmniProcessor


def _says(role, text):
    return {"role": role, "content": text}


ASKED, SAID, OTHER = (_says("user", "What?"), _says("assistant", "A cat"), _says("assistant", "no"))
KINDS = {
    "messages": (SFTTrainer, SFTConfig, {"messages": [ASKED, SAID]}),
    "completion": (SFTTrainer, SFTConfig, {"prompt": [ASKED], "completion": [SAID]}),
    "preference": (DPOTrainer, DPOConfig,
                   {"prompt": [ASKED], "chosen": [SAID], "rejected": [OTHER]}),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_trl_trains_on_pictures(tiny_checkpoint, make_picture, tmp_path, kind):
    """The loss falls, and pictures matter: the projector has a gradient."""
    trainer, config, sample = KINDS[kind]
    rows = [{"images": [Image.open(io.BytesIO(make_picture(n)))], **sample} for n in range(4)]
    arguments = config(
        str(tmp_path), max_steps=8, per_device_train_batch_size=4, learning_rate=3e-3,
        max_length=None, report_to=[], use_cpu=True, bf16=False, logging_steps=1,
        save_strategy="no", disable_tqdm=True,
    )  # fmt: skip
    model = OmniForConditionalGeneration.from_pretrained(tiny_checkpoint)
    before = [p.clone() for p in model.projectors["vision"].parameters()]
    run = trainer(
        model, args=arguments, train_dataset=Dataset.from_list(rows),
        processing_class=OmniProcessor.from_pretrained(tiny_checkpoint),
    )  # fmt: skip
    run.train()
    losses = [entry["loss"] for entry in run.state.log_history if "loss" in entry]
    assert losses[-1] < losses[0] - 0.01
    after = model.projectors["vision"].parameters()
    assert any(not torch.equal(a, b) for a, b in zip(after, before, strict=True))
