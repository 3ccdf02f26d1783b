"""YAML -> a typed recipe, overridden with `a.b=c`."""

from dataclasses import fields, is_dataclass
from importlib import resources
from pathlib import Path
from typing import Any, get_origin

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from omni.nearest import nearest

from .checks import check_values
from .places import Places
from .schema import Recipe, RecipeError, StageConfig

KINDS = {dict: "mapping", list: "list"}


def load_recipe(source: str | Path, overrides: list[str] | None = None) -> Recipe:
    """Read a YAML file (or the name of a shipped recipe) and apply `a.b=c` overrides.

    A stage is addressed by its name: `stages.sft.steps=10`.

    Raises:
        RecipeError: unknown key (the nearest valid one is named), wrong type, missing file.
    """
    places = read_places(source, overrides)
    content = yaml.safe_load(places.path.read_text(encoding="utf-8"))
    if not isinstance(content, dict):
        raise RecipeError(f"{places.path}: a recipe is a mapping of keys")
    _check_keys(content, Recipe, places)
    for override in places.overrides:
        _apply(content, override)
    _check_keys(content, Recipe, places)
    for stage in content.get("stages") or []:  # alone first, so that an error names its stage
        _typed(StageConfig, stage, places, "stages", stage.get("name", "?"))
    recipe: Recipe = _typed(Recipe, content, places)
    check_values(recipe, places)
    return recipe


def read_places(source: str | Path, overrides: list[str] | None = None) -> Places:
    """Return where a recipe says what, for errors.

    Raises:
        RecipeError: there is no such file, or it is not YAML.
    """
    path = find_recipe(source)
    try:
        return Places(path, path.read_text(encoding="utf-8"), overrides or [])
    except yaml.YAMLError as error:
        raise RecipeError(f"{path}: not YAML: {error}") from error


def _typed(cls: type, content: dict[str, Any], places: Places, *keys: str) -> Any:
    stage = f"stage {keys[-1]!r}: " if keys else ""
    try:
        return OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(cls), content))
    except MissingMandatoryValue as error:
        raise RecipeError(
            f"{places.of(*keys)}: {stage}the key {error.full_key!r} is required"
        ) from error
    except OmegaConfBaseException as error:
        key = getattr(error, "full_key", "") or ""
        where = places.of(*keys, *key.split("."))
        raise RecipeError(f"{where}: {stage}{key}: {str(error).splitlines()[0]}") from error


def find_recipe(source: str | Path) -> Path:
    """Return the path of a recipe given as a file or by the name of a shipped one."""
    path = Path(source)
    if path.is_file():
        return path
    shipped = Path(str(resources.files("stages"))) / "recipes"
    candidate = shipped / f"{Path(source).stem}.yaml"
    if candidate.is_file() and str(source) in (candidate.name, candidate.stem):
        return candidate
    names = ", ".join(sorted(p.stem for p in shipped.glob("*.yaml")))
    raise RecipeError(f"{source}: no such file, and no shipped recipe of that name ({names})")


def _check_keys(content: Any, cls: type, places: Places, *keys: str) -> None:
    """Refuse keys that the dataclass does not have, naming line and nearest valid key."""
    if not isinstance(content, dict):
        name = ".".join(keys) or "the recipe"
        raise RecipeError(f"{places.of(*keys)}: {name} must be a mapping")
    known = {f.name: f.type for f in fields(cls)}
    if "stages" in content and not isinstance(content["stages"], list):
        raise RecipeError(f"{places.of('stages')}: 'stages' must be a list")
    for key, value in content.items():
        below = (*keys, str(key))
        if key not in known:
            hint = nearest(key, known)
            raise RecipeError(f"{places.of(*below)}: unknown key {'.'.join(below)!r}; {hint}")
        if key == "stages" and isinstance(value, list):
            for number, stage in enumerate(value):
                name = stage.get("name", number) if isinstance(stage, dict) else number
                _check_keys(stage, StageConfig, places, "stages", str(name))
        kind: Any = get_origin(known[key])
        if kind and kind in KINDS and value is not None and not isinstance(value, kind):
            raise RecipeError(f"{places.of(*below)}: {'.'.join(below)} must be a {KINDS[kind]}")
        if is_dataclass(known[key]):
            _check_keys(value, known[key], places, *below)  # type: ignore[arg-type]


def _apply(content: dict[str, Any], override: str) -> None:
    key, equals, value = override.partition("=")
    if not equals:
        raise RecipeError(f"override {override!r}: write key=value, e.g. stages.sft.steps=10")
    node: Any = content
    *parents, last = key.split(".")
    for part in parents:
        if isinstance(node, list):
            named = [stage for stage in node if stage.get("name") == part]
            if not named:
                names = ", ".join(stage.get("name", "?") for stage in node)
                raise RecipeError(f"override {override!r}: no stage {part!r}; stages: {names}")
            node = named[0]
        else:
            node = node.setdefault(part, {})
    if not isinstance(node, dict):
        raise RecipeError(f"override {override!r}: {'.'.join(parents)} has no keys")
    try:
        node[last] = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise RecipeError(f"override {override!r}: the value is not YAML") from error
