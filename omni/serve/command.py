"""What the command lines have in common."""

import os
import sys

import typer
from typer.core import TyperGroup


def announce(what: str, aside: bool = False) -> None:
    """Print at once what a command goes on to do: the libraries behind it take seconds to import.

    Once, where ranks share the work; `aside` to stderr, where a program may read what is printed.
    """
    if os.environ.get("RANK", "0") == "0":
        print(f"{what} ...", file=sys.stderr if aside else sys.stdout, flush=True)


class RunByDefault(TyperGroup):
    """`omni-train RECIPE` is `omni-train run RECIPE`, unless RECIPE is the name of a command."""

    def parse_args(self, ctx, args):
        if args and args[0] not in self.commands and args[0] != "--help":
            args = ["run", *args]
        return super().parse_args(ctx, args)


def refused(error: object) -> typer.Exit:
    """Print why on stderr, as it stands; raise what this returns: exit status 2."""
    from rich.console import Console
    from rich.text import Text

    console = Console(stderr=True)
    console.print(Text.assemble(("error:", "red"), f" {error}"), soft_wrap=True, highlight=False)
    return typer.Exit(2)
