"""How a command says that it cannot do what it was asked for."""

import typer


def refused(error: object) -> typer.Exit:
    """Print why on stderr, as it stands; raise what this returns: exit status 2."""
    from rich.console import Console
    from rich.text import Text

    console = Console(stderr=True)
    console.print(Text.assemble(("error:", "red"), f" {error}"), soft_wrap=True, highlight=False)
    return typer.Exit(2)
