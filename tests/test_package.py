"""The package as another project gets it: built as a wheel, used from outside this folder."""

import ast
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, distribution, packages_distributions
from itertools import chain
from pathlib import Path
from zipfile import ZipFile

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
PACKAGES = ("omni", "data_shards", "eval", "stages")
SCRIPT = """
import sys
from torch import nn

from omni.encoders import ENCODERS

class Own(nn.Module):
    pass

ENCODERS["own"] = Own  # as docs/extending.md says, from a project that depends on this one
from eval.report.page import render
from eval.report.published import published
from stages.cli import app
from stages.recipe.read import load_recipe

assert published().models and load_recipe("tiny").stages and load_recipe("quickstart").stages
for name in ("omni", "data_shards", "eval", "stages"):
    assert sys.modules[name].__file__.startswith(sys.argv[1]), sys.modules[name].__file__
sys.argv[1:] = ["tiny", "--show"]
app()
"""


def test_a_wheel_holds_all_and_works_elsewhere(tmp_path):
    source, out, site = tmp_path / "source", tmp_path / "out", tmp_path / "site"
    for name in PACKAGES:
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    subprocess.run(
        [sys.executable, "-m", "uv", "build", "--wheel", "--no-build-isolation", "--offline",
         "--python", sys.executable, "-o", out, source], check=True, capture_output=True,
    )  # fmt: skip
    [wheel] = out.glob("*.whl")
    ZipFile(wheel).extractall(site)
    for name in PACKAGES:
        ours, theirs = ({str(p.relative_to(root)) for p in (root / name).rglob("*")
                         if p.is_file() and "__pycache__" not in p.parts}
                        for root in (ROOT, site))  # fmt: skip
        assert ours == theirs
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(site)], cwd=tmp_path, text=True, capture_output=True,
        env={"PYTHONPATH": str(site), "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "vision_align" in done.stdout


def test_what_is_imported_is_asked_for():
    """A library that an old installation left here is missing on a fresh machine."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"].values()
    wanted = [project["name"], *project["dependencies"], *chain.from_iterable(extras)]
    asked = installed_with(wanted)
    providers = packages_distributions()
    for folder in (*PACKAGES, "tests"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            for name in imports(path):
                if given := {canonicalize_name(each) for each in providers.get(name, ())}:
                    assert given & asked, f"{path.relative_to(ROOT)} imports {name}"


def installed_with(requirements: list[str]) -> set[str]:
    """Return the distributions that these requirements install, and what those ask for."""
    found: set[tuple[str, str]] = set()
    waiting = [Requirement(line) for line in requirements]
    while waiting:
        wanted = waiting.pop()
        for extra in ("", *wanted.extras):
            name = canonicalize_name(wanted.name)
            if (name, extra) in found:
                continue
            found.add((name, extra))
            try:
                lines = distribution(name).requires or []
            except PackageNotFoundError:  # an extra that is not installed here
                continue
            for line in map(Requirement, lines):
                if line.marker is None or line.marker.evaluate({"extra": extra}):
                    waiting.append(line)
    return {name for name, _ in found}


def imports(path: Path) -> Iterator[str]:
    """Give the packages that a file imports as soon as it is itself imported."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Import):
            yield from (name.name.split(".")[0] for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module.split(".")[0]
