"""What the command lines have in common."""

from typer.core import TyperGroup


class RunByDefault(TyperGroup):
    """`omni-train RECIPE` is `omni-train run RECIPE`, unless RECIPE is the name of a command."""

    def parse_args(self, ctx, args):
        if args and args[0] not in self.commands and args[0] != "--help":
            args = ["run", *args]
        return super().parse_args(ctx, args)
