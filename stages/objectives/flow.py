"""Train the flow from codes to log-mel frames."""

from dataclasses import dataclass
from typing import Any, Literal

import torch

from omni.heads.flow import DROPOUT, Flow, prior_error

from .speech import Clips, OfSound, vectors_of


@dataclass(frozen=True)
class FlowOptions:
    """How the times are drawn, and what else counts."""

    times: Literal["cosine", "uniform"] = "cosine"
    """cosine: as the steps of sampling lie, more of them early"""
    prior_weight: float = 1.0
    """of the pre-net's own error"""


class FlowMatching(OfSound):
    """The squared error of the velocity and, weighted, that of the prior; figures are both."""

    options_class = FlowOptions
    figures = ("velocity", "prior")
    needs = ("codec", "flow")
    runs_part = "flow"

    def errors(self, model: Any, clips: Clips) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        flow: Flow = model.heads[model.head_of("flow")]
        mel = clips.mel().to(model.dtype)
        vectors = vectors_of(model, clips)
        with torch.no_grad():
            decoded = model.encoders[model.codec].decoder(vectors).refined
        prior = flow.prior(vectors, decoded)
        noise, time, kept = self._draw(mel, model.training)
        velocity = clips.sums(flow.loss(prior, mel, noise, time, kept).float())
        guess = clips.sums(prior_error(prior, mel).float())
        figures = {"velocity": velocity.sum(), "prior": guess.sum()}
        return velocity + self.options.prior_weight * guess, figures

    def _draw(
        self, mel: torch.Tensor, training: bool
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Draw noise like mel, times (W,), and which items show their prior (W,).

        Where nothing is trained, they are the same for every item, whatever its batch.
        """
        items = len(mel)
        if not training:
            one = torch.randn(mel.shape[1:], generator=torch.Generator().manual_seed(0))
            noise = one.to(mel).expand_as(mel)
            return noise, mel.new_full((items,), 0.5), mel.new_ones(items)
        time = torch.rand(items, device=mel.device)
        if self.options.times == "cosine":
            time = 1 - torch.cos(time * torch.pi / 2)
        kept = (torch.rand(items, device=mel.device) >= DROPOUT).to(mel)
        return torch.randn_like(mel), time.to(mel), kept
