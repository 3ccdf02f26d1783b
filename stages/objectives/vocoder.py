"""Train the vocoder: log-mel frames -> a wave."""

from typing import Any

import torch

from omni.heads.mel import FRAMES_PER_CODE, SAMPLES_PER_CODE
from omni.heads.vocoder import wave_error

from .speech import Clips, OfSound


class Vocode(OfSound):
    """How far the spectra of what it makes are from those of the sound; there is no critic."""

    needs = ("codec", "vocoder")
    runs_part = "vocoder"
    hears_codes = False

    def errors(self, model: Any, clips: Clips) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        vocoder = model.heads[model.head_of("vocoder")]
        mel, errors = clips.mel().to(model.dtype), []
        # one by one: what the padding of a batch would sound like overlaps with a clip's end
        for number, frames in enumerate(clips.frames):
            found = vocoder(mel[number : number + 1, : frames * FRAMES_PER_CODE])
            wave = clips.wave[number : number + 1, : frames * SAMPLES_PER_CODE]
            errors.append(wave_error(found, wave).sum() / FRAMES_PER_CODE)
        return torch.stack(errors), {}
