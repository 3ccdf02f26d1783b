"""Auto classes find the model and the processor, or say what to do; never a bare tokenizer."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

PLAIN = """
from transformers import AutoModelForImageTextToText, AutoProcessor
try:
    print(type(AutoProcessor.from_pretrained(FOLDER)))
except ValueError as error:
    print("trust_remote_code=True" in str(error))
processor = AutoProcessor.from_pretrained(FOLDER, trust_remote_code=True)
model = AutoModelForImageTextToText.from_pretrained(FOLDER, trust_remote_code=True)
print(type(processor).__name__, type(model).__name__)
processor.save_pretrained(AGAIN)
model.save_pretrained(AGAIN)
"""
FIRST = """
import sys, omni
assert "transformers" not in sys.modules and "torch" not in sys.modules
from transformers import AutoProcessor, AutoModelForMultimodalLM
print(type(AutoProcessor.from_pretrained(FOLDER)).__name__)
print(type(AutoModelForMultimodalLM.from_pretrained(FOLDER)).__name__)
"""
LAST = """
from transformers import AutoModel, AutoModelForCausalLM, AutoTokenizer
import omni
print(type(AutoModel.from_pretrained(FOLDER)).__name__)
print(type(AutoModelForCausalLM.from_pretrained(FOLDER)).__name__)
"""
MODEL, PROCESSOR = "OmniForConditionalGeneration", "OmniProcessor"


def _run(script: str, folder: Path, again: Path) -> list[str]:
    paths = {"PYTHONPATH": os.getcwd(), "HF_MODULES_CACHE": str(again.parent / "modules")}
    head = f"FOLDER, AGAIN = {str(folder)!r}, {str(again)!r}\n"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", head + script], stdin=subprocess.DEVNULL,
        capture_output=True, text=True, env=os.environ | paths,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.split("\n")[:-1]


@pytest.mark.slow
def test_without_omni_transformers_asks_and_then_loads(tiny_checkpoint, tmp_path):
    *asked, loaded = _run(PLAIN, tiny_checkpoint, tmp_path / "again")
    assert asked[-1].endswith("True")
    assert loaded == f"{PROCESSOR} {MODEL}"
    files, again = ({f.name: f.read_bytes() for f in folder.iterdir()}
                    for folder in (tiny_checkpoint, tmp_path / "again"))  # fmt: skip
    assert files == again  # the file of code among them, and no copy of our sources


@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "found"),
    [(FIRST, [PROCESSOR, MODEL]), (LAST, ["OmniModel", MODEL])],
    ids=["first", "last"],
)
def test_importing_omni_is_enough_in_any_order(tiny_checkpoint, tmp_path, script, found):
    assert _run(script, tiny_checkpoint, tmp_path / "again") == found
