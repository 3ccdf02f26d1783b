"""What the README and docs/ show is what is there: commands, options, benches, files, recipes."""

import ast
import importlib
import importlib.util
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from PIL import Image
from typer.main import get_command

from omni.processing.messages import image, user
from stages.recipe.read import load_recipe

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
PAGES = {page.name: page.read_text()
         for page in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md"))
         }  # fmt: skip
APPS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
BENCHES = {"omni-shards": "data_shards.bench", "omni-train": "stages.bench",
           "omni-eval": "eval.bench", "omni-serve": "omni.serve.bench"}  # fmt: skip
PACKAGES = ("omni", "data_shards", "eval", "stages")
FOLDERS = (*PACKAGES, "scripts", "tests", "docs")
RUNS_MODULES = ("torchrun", "python")


def blocks(page: str, *kinds: str) -> list[str]:
    return [text for kind, text in re.findall(r"```(\w*)\n(.*?)```", page, re.S) if kind in kinds]


def spans(page: str) -> list[str]:
    """The pieces of a page that are set as code within its text."""
    return re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", page, flags=re.S))


def commands(page: str) -> list[tuple[list[str], bool]]:
    """Return (words, whether they stand in a block to be copied) of all that begins like one."""
    lines = [(line, True) for block in blocks(page, "bash") for line in block.splitlines()]
    found = []
    for line, copied in [*lines, *((span, False) for span in spans(page))]:
        words = shlex.split(line, comments=True)
        if len(words) == 1 and words[0] in (*RUNS_MODULES, "srun"):  # named, not given
            continue
        while words and re.fullmatch(r"[A-Z_]+=\S*", words[0]):  # GPUS=8 scripts/...
            words = words[1:]
        if words and "--wrap" in words:
            words = shlex.split(words[words.index("--wrap") + 1])
        if not words:
            continue
        if words[0] == "srun":
            words = words[next(n for n, word in enumerate(words) if "/" in word) :]
        name = words[0].removeprefix(".venv/bin/").removeprefix("./")
        if name in APPS or name in RUNS_MODULES or name.startswith("scripts/"):
            found.append(([name, *words[1:]], copied))
        elif copied:
            assert name == "source", f"{line}: neither a command of ours nor one that is explained"
    return found


def parse(name: str, words: list[str]) -> str:
    """Parse words as the command would, without running it; return what is wrong, or ""."""
    module, attribute = APPS[name].split(":")
    command = get_command(getattr(importlib.import_module(module), attribute))
    while subcommands := getattr(command, "commands", None):
        if words and words[0] in subcommands:
            command, words = subcommands[words[0]], words[1:]
        elif "run" in subcommands and words:
            command = subcommands["run"]
        else:
            return "" if not words else f"no subcommand {words[0]}"
    if command.name == "bench" and words:
        known = importlib.import_module(BENCHES[name]).BENCHES
        return "" if words[0] in {*known, "NAME"} else f"no bench {words[0]}"
    try:
        command.make_context(name, list(words))
    except Exception as error:
        missing = "does not exist" in str(error)  # a file of the reader's
        return "" if missing else f"{type(error).__name__}: {error}"
    return ""


@pytest.mark.parametrize("page", PAGES)
def test_every_command_can_be_given(page):
    wrong = []
    for (name, *words), copied in commands(PAGES[page]):
        if name in APPS:
            said = parse(name, words)
            if said and (copied or not said.startswith("MissingParameter")):
                wrong.append(f"{name} {' '.join(words)}: {said}")
        elif name in RUNS_MODULES:
            module = words[words.index("-m") + 1] if "-m" in words else "sys"
            if not importlib.util.find_spec(module):
                wrong.append(f"{name}: no module {module}")
        elif not (ROOT / name).is_file():
            wrong.append(f"{name}: no such file")
    assert wrong == []


@pytest.mark.parametrize(("words", "said"), [
    (["omni-train", "reprot", "x", "--stage"], "BadOptionUsage"),
    (["omni-train", "report", "x", "--pictrue", "y"], "NoSuchOption"),
    (["omni-eval", "prepare"], "MissingParameter"), (["omni-train", "bench", "x"], "no bench x"),
    (["omni-shards", "build", "lava", "--out", "x"], "no subcommand lava"),
    (["omni-train", "quickstart", "stages.sft.steps=1", "--stage", "sft"], ""),
])  # fmt: skip
def test_a_wrong_command_is_found(words, said):
    assert parse(words[0], words[1:]).startswith(said)
    assert bool(parse(words[0], words[1:])) == bool(said)


@pytest.mark.parametrize("page", PAGES)
def test_every_file_and_link_is_there(page):
    folder = ROOT if page in ("README.md", "CONTRIBUTING.md") else ROOT / "docs"
    links = re.findall(r"\]\(([^)#]+)\)", PAGES[page])
    gone = [link for link in links if not (folder / link).exists()]
    starts = tuple(f"{name}/" for name in FOLDERS)
    words = [word.removeprefix("./") for span in spans(PAGES[page]) for word in span.split()]
    paths = [word for word in words if word.startswith(starts)]
    assert gone + [path for path in paths if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("page", PAGES)
def test_every_recipe_and_override_is_valid(page, tmp_path):
    for block in blocks(PAGES[page], "yaml"):
        content = yaml.safe_load(block)
        stages = content if isinstance(content, list) else [{"name": "one"} | content]
        rest = {"output": "x", "text": "x", "stages": stages, "sources": {}}
        if "stages" in content:
            rest = content
        for stage in rest["stages"]:
            stage.setdefault("steps", 1)
            if "rollout" not in stage:
                stage.setdefault("data", {"mixture": {"some": 1}})
            rest["sources"] |= {name: ["x"] for name in stage.get("data", {}).get("mixture", ())
                                if "stages" not in content}  # fmt: skip
        path = tmp_path / "recipe.yaml"
        path.write_text(yaml.safe_dump(rest))
        load_recipe(path)
    for (name, *words), _ in commands(PAGES[page]):
        if name == "omni-train" or "stages.cli" in words:
            load_recipe("quickstart", [word for word in words if re.match(r"[a-z_.]+=", word)])


def test_the_reading_order_is_an_afternoon():
    text = PAGES["code.md"].split("## The tree")[0]
    said = int(re.search(r"about ([\d,]+) lines", text).group(1).replace(",", ""))
    files = {span for span in spans(text) if span.endswith((".py", ".yaml"))}
    lines = sum(len((ROOT / file).read_text().splitlines()) for file in files)
    assert len(files) > 20
    assert abs(lines - said) < 0.1 * said
    assert lines < 5500


def test_the_readme_is_short_and_has_commands():
    assert len(README.splitlines()) <= 180
    assert len(commands(README)) > 15


def test_the_tree_says_what_each_folder_is_for():
    shown = PAGES["code.md"].split("## The tree")[1].split("```")[1].strip().splitlines()
    packages = [f.parent for top in PACKAGES for f in sorted((ROOT / top).rglob("__init__.py"))]
    for package in packages:
        purpose = ast.get_docstring(ast.parse((package / "__init__.py").read_text()))
        depth = len(package.relative_to(ROOT).parts) - 1
        assert f"{'  ' * depth}{package.name}/".ljust(21) + purpose.splitlines()[0] in shown
    assert len(shown) == len(packages) + 2  # scripts/ and tests/


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
