"""`omni-train keys`: every key of a recipe with its type, default and meaning, as Markdown."""

import ast
import inspect
from collections.abc import Iterator
from dataclasses import MISSING, Field, fields
from typing import Any

from omegaconf import MISSING as REQUIRED

from ..objectives import OBJECTIVES, objective_class
from .rollout import Length, RolloutConfig
from .rule import Lora, Rule
from .sampled import Sampled
from .schema import DataConfig, ProbeConfig, Recipe, StageConfig

HEAD = """\
# The keys of a recipe

What `omni-train keys` prints, from the code that reads recipes. `omni-train RECIPE --show` prints
a recipe with all of its values, and `omni-train init` writes a first one.
"""
PARTS = (
    ("", Recipe),
    ("sources.NAME.sample", Sampled),
    ("stages[]", StageConfig),
    ("stages[].data", DataConfig),
    ("stages[].rollout", RolloutConfig),
    ("stages[].rollout.length", Length),
    ("stages[].trainable.PATTERN", Rule),
    ("stages[].lora.PATTERN", Lora),
    ("probes", ProbeConfig),
)


def reference() -> str:
    """Return the page."""
    return "\n".join([HEAD, *_tables()])


def _tables() -> Iterator[str]:
    for where, cls in PARTS:
        yield _table(f"`{where}`" if where else "The file", cls)
    for kind in OBJECTIVES:
        options = objective_class(kind).options_class
        if fields(options):
            yield _table(f"`stages[].objective`, kind `{kind}`", options)


def _table(title: str, cls: type[Any]) -> str:
    about = inspect.getdoc(cls) or ""
    texts: dict[str, str] = {}
    for base in reversed(cls.__mro__[:-1]):
        texts |= _texts(base)
    rows = [f"| `{f.name.rstrip('_')}` | {_type(f)} | {_default(f)} | {texts.get(f.name, '')} |"
            for f in fields(cls)]  # fmt: skip
    return "\n".join([f"## {title}", "", about, "", "| key | type | default | |",
                      "|---|---|---|---|", *rows, ""])  # fmt: skip


def _texts(cls: type[Any]) -> dict[str, str]:
    """Return the text below each field, which Python does not keep."""
    [node] = ast.parse(inspect.getsource(cls)).body
    assert isinstance(node, ast.ClassDef)
    found = {}
    for field, below in zip(node.body, node.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(below, ast.Expr):
            text = " ".join(ast.literal_eval(below.value).split())
            found[ast.unparse(field.target)] = text.replace("|", "\\|")
    return found


def _type(field: Field[Any]) -> str:
    kind = field.type if isinstance(field.type, str) else None
    name = kind or getattr(field.type, "__name__", "")
    if not isinstance(field.type, type) or getattr(field.type, "__args__", None):
        name = str(field.type)
    name = name.replace("typing.", "").replace("stages.recipe.schema.", "")
    return name.replace("|", "\\|")


def _default(field: Field[Any]) -> str:
    if field.default_factory is not MISSING:
        made = field.default_factory()
        return f"`{made}`" if isinstance(made, list | dict) and made else ""
    if field.default is MISSING or field.default == REQUIRED:
        return "required"
    return "" if field.default is None else f"`{field.default}`"
