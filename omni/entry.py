"""An entry of a recipe, or of a part's spec, that is wrong."""


class EntryError(ValueError):
    """What was written cannot be; `keys` lead to it from where whoever raises this looks."""

    def __init__(self, reason: object, *keys: str):
        super().__init__(reason)
        self.keys = keys
