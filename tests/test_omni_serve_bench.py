"""The server's own measurements: they hold, and they can fail."""

import json

import pytest
from typer.testing import CliRunner

from omni.serve import server
from omni.serve.bench import BENCHES
from omni.serve.engine import Engine

COUNTS = {"hostile": "45", "disconnect": "3", "load": "12", "peer": "4"}
TIMED = {"load": ("faster", 2), "peer": ("ratio", 1)}  # a busy machine decides how much


def run(name: str, count: str = ""):
    result = CliRunner().invoke(server.app, ["bench", name, "--count", count or COUNTS[name]])
    return result.exit_code, json.loads(result.stdout.splitlines()[-1])


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.slow] if n in TIMED else []) for n in BENCHES]
)
def test_what_the_server_promises_holds(name):
    code, found = run(name)
    if name in TIMED:
        figure, least = TIMED[name]
        assert found["differ"] == 0 and found[figure] > 0
        assert code == (0 if found["ok"] else 1) and found["ok"] == (found[figure] >= least)
    else:
        assert (code, found["ok"]) == (0, True), found


def test_a_server_that_lets_attacks_pass_is_found(monkeypatch):
    def lenient(messages, limits, sources):
        from omni.serve.content import Content

        return Content([{"role": "user", "content": [{"type": "text", "text": "x"}]}])

    monkeypatch.setattr("omni.serve.request.read_messages", lenient)
    code, found = run("hostile")
    assert code == 1 and found["wrong"] and found["differ"]


def test_a_server_that_goes_on_writing_is_found(monkeypatch):
    monkeypatch.setattr(Engine, "cancel", lambda self, ticket: None)
    monkeypatch.setattr("omni.serve.bench.disconnect.WAIT", 1.0)
    code, found = run("disconnect", "1")
    assert code == 1 and found["seconds"] >= 1 and found["tokens"] > 1
