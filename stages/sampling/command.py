"""`omni-train sample`: what a checkpoint answers, as shards."""

from pathlib import Path
from typing import Annotated

import typer

from omni.serve.command import refused


def sample(
    checkpoints: Annotated[list[Path], typer.Argument(help="of omni models, mostly of one")],
    prompts: Annotated[list[Path], typer.Option(help="folder of shards; may be given repeatedly")],
    out: Annotated[Path, typer.Option(help="folder of the answers' shards")],
    n: Annotated[int, typer.Option("-n", "--n", min=1, help="answers to each prompt")] = 1,
    temperature: Annotated[float, typer.Option(min=0, help="0: the most likely token")] = 1.0,
    top_p: Annotated[float, typer.Option(help="draw from the tokens that are so likely")] = 1.0,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="of an answer")] = 256,
    seed: Annotated[int, typer.Option(min=0, help="other ones draw other answers")] = 0,
    batch: Annotated[int, typer.Option(min=1, help="prompts at once")] = 8,
    pairs: Annotated[
        str,
        typer.Option(
            help="spin: pairs of the real answer and an own; hard: of a right one and a wrong"
        ),
    ] = "",
    right: Annotated[
        str,
        typer.Option(
            help="of hard, what is compared with the real answer: guard, conclusion, number or text"
        ),
    ] = "",
    choice: Annotated[
        str, typer.Option(help="of hard: random, longest or length-matched")
    ] = "random",
    device: Annotated[str, typer.Option(help="where the model runs")] = "cpu",
) -> None:
    """Answer the prompts of shards with CHECKPOINTS; the answers are shards to train on.

    A prompt is a train sample up to its last answer. Run it again after an interruption and it
    goes on; at most a batch is lost. The manifest names weights, prompts, seed and settings, and
    each sample's meta its prompt and whether the answer was cut (`finish`: length).

    With `--pairs spin` each is a pair: the real answer is chosen, the own one rejected; equal ones
    are left out and counted. With `--pairs hard` a prompt that is answered rightly and wrongly
    makes one pair of both, which hs_dpo weighs; how length goes with rightness is printed.

    Example: `omni-train sample runs/mine/sft --prompts data/chat --out data/own -n 4`
    """
    from omni.generation.settings import Generation
    from omni.load import CheckpointError

    from ..recipe.sampled import PAIRS, check_hard
    from .sample import described, sample_answers
    from .samples import Pairing

    try:
        if pairs not in PAIRS:
            raise ValueError(f"--pairs is spin, hard or left out, not {pairs!r}")
        check_hard(pairs, right, choice, n * len(checkpoints))
        how = Generation(max_new_tokens, (), temperature, top_p, n, seed)
        pairing = Pairing(pairs, right, choice, seed)
        manifest = sample_answers(checkpoints, prompts, out, how, batch, device, pairing)
    except (CheckpointError, ValueError, OSError) as error:
        raise refused(error) from error
    print("\n".join(described(str(out), manifest)))
