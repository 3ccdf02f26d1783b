"""Where a recipe says something: the line of its file, or the override on the command line."""

from collections.abc import Sequence
from pathlib import Path

import yaml
from yaml import MappingNode, Node, ScalarNode, SequenceNode


class Places:
    """The places of a recipe's entries.

    Args:
        path: the recipe's file.
        text: what it holds; YAML that can be parsed.
        overrides: `a.b=c`, which hold in place of the lines they replace.
    """

    def __init__(self, path: Path, text: str, overrides: Sequence[str] = ()):
        self.path, self.overrides = path, overrides
        self._lines: dict[tuple[str, ...], int] = {}
        if root := yaml.compose(text, yaml.SafeLoader):
            self._read(root, ())

    def _read(self, node: Node, keys: tuple[str, ...]) -> None:
        """Note the line of each key below `keys`; a mapping in a list goes by its name."""
        if isinstance(node, SequenceNode):
            for number, item in enumerate(node.value):
                name = _name(item) or str(number)
                self._lines.setdefault((*keys, name), item.start_mark.line + 1)
                self._read(item, (*keys, name))
        elif isinstance(node, MappingNode):
            merged = [value for key, value in node.value if key.value == "<<"]
            for key, value in node.value:
                if key.value != "<<":
                    self._lines.setdefault((*keys, str(key.value)), key.start_mark.line + 1)
                    self._read(value, (*keys, str(key.value)))
            for base in merged:  # what the mapping itself says was noted first
                for one in base.value if isinstance(base, SequenceNode) else [base]:
                    self._read(one, keys)

    def of(self, *keys: object) -> str:
        """Return "FILE:LINE" of an entry, or of the nearest above it that is written down.

        An override that sets the entry is named instead; one that sets a part of it, as well.
        """
        path = tuple(str(key) for key in keys)
        whole = ".".join(path)
        below = ""
        for override in reversed(self.overrides):
            key = override.partition("=")[0]
            if whole == key or whole.startswith(f"{key}."):
                return f"override {override!r}"
            if key.startswith(f"{whole}.") and not below:
                below = f" with override {override!r}"
        while path and path not in self._lines:
            path = path[:-1]
        return (f"{self.path}:{self._lines[path]}" if path else str(self.path)) + below


def _name(node: Node) -> str:
    """Return what a mapping says under the key "name", if it does."""
    if not isinstance(node, MappingNode):
        return ""
    found = (value for key, value in node.value if key.value == "name")
    return next((str(v.value) for v in found if isinstance(v, ScalarNode)), "")
