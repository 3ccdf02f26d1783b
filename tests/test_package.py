"""The package as another project gets it: built as a wheel, used from outside this folder."""

import shutil
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

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
