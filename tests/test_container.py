"""The image and its compose file say what is there: files, extras, commands, paths."""

import json
import re
import shlex
import tomllib
from pathlib import Path

import pytest
import yaml
from typer.main import get_command

from omni.serve.server import app

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "scripts" / "container"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


@pytest.fixture(scope="module")
def steps():
    """The instructions of the Dockerfile, in order, as (word, rest)."""
    text = (FOLDER / "Dockerfile").read_text().replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return [tuple(re.split(r"\s+", line.strip(), maxsplit=1)) for line in lines]


def rest(steps, word):
    return [what for name, what in steps if name == word]


def test_all_that_is_copied_is_there_and_sent(steps):
    sent = {line[1:] for line in (FOLDER / "Dockerfile.dockerignore").read_text().splitlines()
            if line.startswith("!")}  # fmt: skip
    copied = {source for what in rest(steps, "COPY") for source in shlex.split(what)[:-1]}
    assert copied == sent
    assert all((ROOT / source).exists() for source in copied)
    packages = PROJECT["tool"]["setuptools"]["packages"]["find"]["include"]
    assert {pattern.rstrip("*") for pattern in packages} <= copied
    assert {PROJECT["project"]["readme"], *PROJECT["project"]["license-files"]} <= copied


def test_a_step_has_what_it_needs(steps):
    """Dependencies are installed before the code is there, the project after it."""
    installs = [n for n, (_, what) in enumerate(steps) if "uv pip install" in what]
    code = [n for n, (word, what) in enumerate(steps) if word == "COPY" and "omni" in what]
    assert installs[0] < code[0] < installs[1] and "-e ." in steps[installs[1]][1]
    assert "-c constraints.txt" in steps[installs[0]][1]
    extras = re.findall(r"--extra (\w+)", steps[installs[0]][1])
    assert "serve" in extras and set(extras) <= set(PROJECT["project"]["optional-dependencies"])


def test_the_command_is_one_of_the_server_and_not_run_by_root(steps):
    [entry], [more] = rest(steps, "ENTRYPOINT"), rest(steps, "CMD")
    program, checkpoint, *options = [*json.loads(entry), *json.loads(more)]
    assert program in PROJECT["project"]["scripts"] and checkpoint == "/checkpoint"
    command = get_command(app).commands["run"]
    context = command.make_context(program, [checkpoint, *options], resilient_parsing=False)
    assert context.params["host"] == "0.0.0.0"
    assert rest(steps, "EXPOSE") == [str(context.params["port"])]
    users = [n for n, (word, _) in enumerate(steps) if word == "USER"]
    assert users and steps[users[-1]][1] != "root"
    [check] = rest(steps, "HEALTHCHECK")
    assert f"127.0.0.1:{context.params['port']}/health" in check


def test_compose_builds_it_and_mounts_the_quickstarts_checkpoint(steps):
    service = yaml.safe_load((FOLDER / "compose.yaml").read_text())["services"]["omni"]
    context = (FOLDER / service["build"]["context"]).resolve()
    assert context == ROOT and (context / service["build"]["dockerfile"]).is_file()
    assert service["ports"][0].startswith("127.0.0.1:")
    [volume] = service["volumes"]
    assert volume["read_only"] and volume["target"] == rest(steps, "VOLUME")[0]
    default = re.fullmatch(r"\$\{CHECKPOINT:-(.*)\}", volume["source"])[1]
    quickstart = (ROOT / "README.md").read_text()
    assert (FOLDER / default).resolve().relative_to(ROOT).as_posix() in quickstart
