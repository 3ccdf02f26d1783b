"""What benches of speech share: words that voices say, stages of `speech_tiny`, encoded clips."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

VOICE = "pico:en-US@1"


def build_words(
    data: Path, renditions: int, voices: str = VOICE, heldout_voices: str = "none",
    tasks: Sequence[str] = ("say",),
) -> None:  # fmt: skip
    """Write shards of forty words that are said by voices; one held-out rendition of each.

    Args:
        data: folder of the shards.
        renditions: of each word, for training.
        voices: that are cast.
        heldout_voices: of them, those that only held-out renditions have.
        tasks: of the source; what each asks for is in the same shards.
    """
    from data_shards.shards.write import write_shards
    from data_shards.sources.base import Build
    from data_shards.sources.demo.speech import Speech

    sources = [Speech(task=task, voices=voices, heldout_voices=heldout_voices,
                      renditions=renditions, heldout_renditions=1) for task in tasks]  # fmt: skip
    write_shards((one for source in sources for one in source.generate(Build(seed=0))), data)


def train_speech(
    output: Path, data: Path, stages: Sequence[str], overrides: Sequence[str] = (),
    start: Path | None = None,
) -> Path:  # fmt: skip
    """Run stages of `speech_tiny` as a user does; return the checkpoint of the last.

    Args:
        output: folder of the run.
        data: of the shards.
        stages: names, in the recipe's order.
        overrides: of the recipe.
        start: the checkpoint to start from, if not the recipe's LLM.
    """
    from accelerate import Accelerator

    from ..recipe.read import load_recipe
    from ..training.chain import run_recipe

    recipe = load_recipe("speech_tiny", [
        f"output={output}", f"sources.say=[{data}/train-*.tar]", "trackers=[]", *overrides,
    ])  # fmt: skip
    recipe.text = str(start or recipe.text)
    recipe.stages = [stage for stage in recipe.stages if stage.name in stages]
    with redirect_stdout(sys.stderr):
        run_recipe(recipe, Accelerator(cpu=True))
    return output / recipe.stages[-1].name


def clips_of(processor: Any, data: Path, split: str) -> Iterator[Any]:
    """Encode the clips of a split, each alone."""
    from data_shards.read.encode import Encode
    from data_shards.read.entry import read_shard
    from stages.objectives.speech import Sounds

    encode = Encode(processor, Sounds())
    for shard in sorted(data.glob(f"{split}-*.tar")):
        for sample in read_shard(shard):
            yield processor.pack(encode.sample(sample))


def codes_of(model: Any, batch: dict[str, Any]) -> Any:
    """Return the codes of a clip without its end: (n, books)."""
    import torch

    with torch.no_grad():
        return model.codes(model.codec, dict(batch))[:-1]
