"""What commands that take a recipe have in common."""

from typing import Annotated

import typer

RecipeName = Annotated[str, typer.Argument(help="a YAML file, or the name of a shipped recipe")]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(help="changes to the recipe, e.g. `stages.sft.steps=10 output=runs/other`"),
]
