"""Before the first update, a model must score what it drew exactly as likely as it drew it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from data_shards.bench.result import Result

CLOSE = 1e-5
WAYS = {
    "plain": {},
    "temperature": {"temperature": 0.7},
    "top-p": {"top_p": 0.8},
    "stop strings": {"stop": ["e", "th"], "top_p": 0.9, "temperature": 1.2},
}
MEDIA: dict[str, Any] = {"text": (), "image": ("image",), "audio": ("audio",), "mixed": "any"}
FAULT = 0.05  # least that scoring over all tokens is off by, where top-p left some out


def run(folder: Path, small: bool = False) -> Result:
    """Draw with text, images, sounds and a mixture of them, one turn and three; score it again.

    The model is a random one that sees and hears. A control scores what `top_p` 0.8 left over
    all tokens, as if it had left out none: its ratios must be off.

    Args:
        folder: not used.
        small: one way of drawing.
    """
    model, processor = _model()
    ways = ["stop strings"] if small else [*WAYS]
    rows = [_measure(model, processor, shown, attempts, way)
            for shown in MEDIA for attempts in (1, 3) for way in ways]  # fmt: skip
    worst = max(row["largest |ratio - 1|"] for row in rows)
    control = _measure(model, processor, "text", 1, "top-p", forget=True)
    off = control["largest |ratio - 1|"]
    return Result(worst <= CLOSE and off > FAULT, {"worst": worst, "control": off},
                  [*rows, control])  # fmt: skip


def _measure(
    model: Any, processor: Any, shown: str, attempts: int, way: str, forget: bool = False
) -> dict[str, Any]:
    from ..objectives.policy import KEPT, score_labels
    from ..recipe.rollout import RolloutConfig
    from ..rollouts.play import Play
    from ..rollouts.rows import Rows
    from ..rollouts.world import environment_of

    entry = {"kind": "stages.bench.worlds:Letters", "media": MEDIA[shown]}
    config = RolloutConfig(entry, prompts=4, group=4, max_new_tokens=12, attempts=attempts,
                           batch=4, max_tokens=1024, **WAYS[way])  # fmt: skip
    play, rows = Play(environment_of(config), processor, config, 4096), Rows(processor, config)
    groups = play.groups(model, range(4), "bench")
    worst, tokens = 0.0, 0
    for batch in rows.batches(groups, 1):
        tensors = dict(batch.tensors)
        if forget:
            tensors = {n: t for n, t in tensors.items() if not n.startswith(KEPT)}
        for off in _off(score_labels(model, tensors)[1]):
            worst, tokens = max(worst, off), tokens + 1
    return {
        "prompts": shown, "turns": attempts, "drawn with": way + (", control" if forget else ""),
        "tokens": tokens, "largest |ratio - 1|": float(f"{worst:.2e}"),
    }  # fmt: skip


def _off(labels: Any) -> Iterator[float]:
    yield from ((labels.logps - labels.behaviour).exp() - 1).abs().tolist()


def _model() -> Any:
    """Return a random model that sees and hears, and its processor."""
    import torch

    from omni import OmniForConditionalGeneration, OmniProcessor
    from omni.model.forward import load_text_tokenizer

    from ..recipe.read import load_recipe

    torch.manual_seed(0)
    model = OmniForConditionalGeneration.from_text("tiny:llama").eval()
    processor = OmniProcessor(load_text_tokenizer("tiny:llama"))
    for stage in load_recipe("tiny").stages:
        for name, spec in stage.attach.items():
            model.attach(name, spec, processor)
    return model.eval().requires_grad_(False), processor
