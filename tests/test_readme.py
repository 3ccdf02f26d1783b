"""What the README shows is what is there."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from omni.messages import image, user

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def tree() -> list[str]:
    """The paths of the README's annotated tree."""
    block = README.split("## The tree")[1].split("```")[1].strip()
    paths, folder = [], ""
    for line in block.splitlines():
        name = line.split()[0]
        if not line.startswith(" "):
            folder, name = name, ""
        paths.append(folder + name)
    return paths


def test_every_path_of_the_tree_exists():
    paths = tree()
    assert len(paths) > 30
    assert [p for p in paths if not (ROOT / p).exists()] == []


def test_the_python_example_answers_about_an_image(tiny_checkpoint, omni_pair, tmp_path):
    code = re.search(r"```python\n(.*?)```", README, re.S).group(1)
    assert len(code.splitlines()) < 10
    Image.new("RGB", (40, 30), "red").save(tmp_path / "photo.jpg")
    code = code.replace("runs/quickstart/sft", str(tiny_checkpoint))
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    model, processor = omni_pair
    messages = [user(image(tmp_path / "photo.jpg"), "What kind of thing is this?")]
    batch = processor.pad([processor.encode(messages, generation=True)])
    tokens = model.generate(**batch, max_new_tokens=16)[0, batch["input_ids"].shape[1] :]
    assert done.stdout == processor.tokenizer.decode(tokens, skip_special_tokens=True) + "\n"


@pytest.mark.parametrize("script", sorted((ROOT / "scripts").glob("*.sh")), ids=lambda p: p.name)
def test_scripts_are_valid_bash(script):
    subprocess.run(["bash", "-n", str(script)], check=True)
