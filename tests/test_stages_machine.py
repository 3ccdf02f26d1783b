"""What cannot run on this machine is refused in one sentence, before anything is loaded."""

import re
import sys
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch
from typer.testing import CliRunner

from stages.cli import app
from stages.engine import compiler
from stages.metrics import trackers
from stages.recipe.read import load_recipe
from stages.recipe.schema import RecipeError
from stages.training import trainer
from stages.training.chain import check_machine

LOGIN = [name for login in trackers.LOGINS.values() for name in (*login.keys, login.offline[0])]


def machine(device: str = "cpu", precision: str = "no"):
    return SimpleNamespace(device=torch.device(device), mixed_precision=precision)


def check(*overrides: str, on=None) -> None:
    check_machine(load_recipe("tiny", ["trackers=[]", *overrides]), on or machine())


def script(folder, name: str, body: str) -> str:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize("kind", ["none", "fails", "makes nothing", "no headers"])
def test_compile_without_a_compiler_that_works_is_refused(kind, tmp_path, monkeypatch):
    check("compile=true")
    words = "a compiler that works and Python's headers"
    if kind == "none":
        monkeypatch.setenv("CXX", str(tmp_path / "g++"))
        words = f"a compiler, and there is no {tmp_path}/g++: install it"
    elif kind == "no headers":
        monkeypatch.setattr(compiler.sysconfig, "get_path", lambda _: str(tmp_path))
    else:
        body = "echo broken >&2; exit 1" if kind == "fails" else "exit 0"
        monkeypatch.setenv("CXX", script(tmp_path, "g++", body))
    with pytest.raises(
        ValueError, match=re.escape(f"compile: torch.compile needs {words}")
    ) as error:
        check("compile=true")
    assert "leave compile out" in str(error.value) and len(str(error.value).splitlines()) == 1
    check()  # where it is not asked for, none is needed


def test_compile_on_a_gpu_needs_triton(monkeypatch):
    monkeypatch.setattr(compiler, "has_triton", lambda: False)
    with pytest.raises(ValueError, match=r"^compile: .* the package triton; or leave compile out"):
        check("compile=true", on=machine("cuda"))
    monkeypatch.setattr(compiler, "has_triton", lambda: True)
    monkeypatch.setenv("CC", "/nowhere/gcc")
    with pytest.raises(ValueError, match="there is no /nowhere/gcc"):
        check("compile=true", on=machine("cuda"))


def test_a_gpu_without_bf16_does_not_imitate_it(monkeypatch):
    asked = []

    def supported(including_emulation: bool = True) -> bool:
        asked.append(including_emulation)
        return including_emulation

    monkeypatch.setattr(torch.cuda, "is_bf16_supported", supported)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "Tesla V100")
    with pytest.raises(
        ValueError, match=r"^precision: Tesla V100 has no bf16; choose fp32 or auto"
    ):
        check(on=machine("cuda", "bf16"))
    assert asked == [False]
    check(on=machine("cuda"))
    check(on=machine("cpu", "bf16"))


def test_weights_are_not_shared_over_what_is_one_device():
    with pytest.raises(ValueError, match=r"^sharding: full does not run on mps"):
        check("sharding=full", on=machine("mps"))
    check("sharding=full")
    check(on=machine("mps"))


@pytest.fixture
def anywhere(monkeypatch, tmp_path):
    """Install all trackers, so to say, in a home without logins."""
    for name in LOGIN:
        monkeypatch.delenv(name, raising=False)
    for name in ("COMET_CONFIG", "CLEARML_CONFIG_FILE", "SWANLAB_SAVE_DIR", "SWANLAB_ROOT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    names = list(trackers.LOGGER_TYPE_TO_CLASS)
    monkeypatch.setattr(trackers, "get_available_trackers", lambda: names)
    return tmp_path


@pytest.mark.parametrize("name", trackers.LOGINS)
def test_a_service_without_a_login_says_how_to_log_in(name, anywhere, monkeypatch):
    login = trackers.LOGINS[name]
    with pytest.raises(RecipeError, match=f"^trackers: {name} has no login: type ") as error:
        check(f"trackers=[{name}]")
    variable, values = login.offline
    assert all(key in str(error.value) for key in (*login.keys, variable))
    for value in values.split("|"):
        monkeypatch.setenv(variable, value)
        check(f"trackers=[{name}]")
    monkeypatch.setenv(variable, "online")
    for key in login.keys:
        with pytest.raises(RecipeError):
            check(f"trackers=[{name}]")
        monkeypatch.setenv(key, "secret")
    check(f"trackers=[{name}]")
    monkeypatch.delenv(login.keys[0])
    for file in login.files:
        if file.startswith("~"):
            (anywhere / file[2:]).touch()
    check(f"trackers=[{name}]")


@pytest.mark.parametrize(
    "name", sorted(set(trackers.LOGGER_TYPE_TO_CLASS) - {*trackers.LOGINS, "wandb"})
)
def test_the_other_trackers_need_none(name, anywhere):
    check(f"trackers=[{name}]")


@pytest.mark.parametrize(
    ("mode", "key", "words"),
    [("online", None, "wandb has no login: type wandb login, set WANDB_API_KEY"),
     ("online", "secret", None), ("offline", None, None)],
)  # fmt: skip
def test_wandb_is_asked_itself_whether_it_has_a_login(mode, key, words, anywhere, monkeypatch):
    settings = SimpleNamespace(mode=mode, api_key=key)
    wandb = SimpleNamespace(setup=lambda: SimpleNamespace(settings=settings))
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    with pytest.raises(RecipeError, match=words) if words else nullcontext():
        check("trackers=[wandb]")


@pytest.mark.parametrize("name", trackers.LOGGER_TYPE_TO_CLASS)
def test_a_tracker_that_is_not_installed_says_what_to_install(name, monkeypatch):
    monkeypatch.setattr(trackers, "get_available_trackers", lambda: [])
    with pytest.raises(RecipeError, match=f"{name} is not installed: pip install {name[:4]}"):
        check(f"trackers=[{name}]")


def test_an_unknown_tracker_is_named_with_the_nearest():
    with pytest.raises(RecipeError, match="'tensorbord' is not known; did you mean 'tensorboard'"):
        check("trackers=[tensorbord]")


@pytest.mark.parametrize("command", [[], ["doctor"]])
def test_the_commands_refuse_it_before_anything_is_loaded(command, tmp_path, monkeypatch, shards):
    monkeypatch.setattr(trainer, "make_model", None)
    given = [*command, "tiny", *shards, f"output={tmp_path}/run", "attention=flex_attention"]
    result = CliRunner().invoke(app, given)
    assert result.exit_code in (1, 2)
    said = result.stderr if not command else result.stdout
    assert "flex_attention has no backward pass on cpu" in said
    assert not (tmp_path / "run").exists()
    assert "Traceback" not in result.output and sys.exc_info() == (None, None, None)
