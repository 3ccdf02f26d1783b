"""Sources of a recipe that its own stages make: checked before the run, sampled within it."""

from functools import partial
from itertools import islice
from pathlib import Path

from accelerate import Accelerator

from data_shards.read.encode import Encode
from data_shards.read.quarantine import FEW
from data_shards.shards.rendering import Rendering
from data_shards.shards.shard import find_shards
from omni.entry import EntryError
from omni.load import CheckpointError
from omni.media.decode import MediaError
from omni.processing.messages import MessageError
from omni.processing.processor import PlaceholderError

from ..engine.distribute import by_main
from ..recipe.sampled import FOLDER, Sampled, source_of
from ..recipe.schema import Recipe, StageConfig
from .sample import described, find_prompts, sample_answers
from .samples import Answer, Pairing, samples_of, text_of


def sample_sources(recipe: Recipe, stage: StageConfig, accelerator: Accelerator) -> None:
    """Bring the sources of a stage that are sampled up to date with what they are sampled from.

    The main process does it while the others wait.

    Raises:
        CheckpointError: the stage to sample from is not finished.
        FileExistsError, FileNotFoundError, ValueError: see `sample_answers`.
    """
    for name in stage.data.mixture:
        source = source_of(recipe.sources[name])
        if isinstance(source, Sampled):
            by_main(accelerator, partial(_sample, recipe, name, source, str(accelerator.device)))


def _sample(recipe: Recipe, name: str, source: Sampled, device: str) -> None:
    output = Path(recipe.output)
    checkpoints = [output / stage for stage in source.stages]
    for checkpoint in checkpoints:
        if not (checkpoint / "stage.json").is_file():
            raise CheckpointError(
                f"source {name!r} is sampled from {checkpoint}, which is not there: run that stage "
                "first (without --stage, all stages run in order)"
            )
    how = Pairing(source.pairs, source.right, source.choice, source.seed)
    manifest = sample_answers(
        checkpoints, [Path(path) for path in source.prompts], output / FOLDER / name,
        source.generation, source.batch, device, how,
    )  # fmt: skip
    title = f"{name}: sampled from {' and '.join(source.stages)}"
    print("\n".join(described(title, manifest)), flush=True)


def check_prompts(source: Sampled, processor: object, rendering: Rendering) -> None:
    """Refuse a source whose first few prompts all make nothing that a stage can be trained on.

    Args:
        source: its prompts are looked at with a stand-in for the answers.
        processor: that of the model which is to be trained.
        rendering: of the stage's objective.

    Raises:
        EntryError: says why of the first.
        FileNotFoundError: there are no prompts.
    """
    if rendering.documents_per_sample > 1 and not source.pairs:
        raise EntryError("the objective compares two answers, and these are single ones: add "
                         "pairs: spin, which sets them against the real answers, or "
                         "pairs: hard")  # fmt: skip
    encode = Encode(processor, rendering)  # type: ignore[arg-type]
    skipped: dict[str, str] = {}
    found = find_prompts(find_shards(source.prompts), skipped)
    for prompt in islice(found, FEW):
        how = Pairing(source.pairs, source.right, source.choice, source.seed)
        stand_ins = [Answer("?", "stop")]
        if how.kind == "hard":  # one that is right, too
            stand_ins.append(Answer(text_of(prompt.real), "stop"))
        made = samples_of(prompt, stand_ins, how, skipped)
        for sample in made:
            try:
                encode.sample(sample)
            except (MessageError, MediaError, PlaceholderError) as error:
                skipped[prompt.name] = str(error)
            else:
                return
    first = next(iter(skipped.items()), ("there", "are no samples"))
    raise EntryError(f"none of the first {len(skipped)} prompts can be used; {': '.join(first)}",
                     "prompts")  # fmt: skip
