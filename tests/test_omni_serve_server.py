"""omni-serve as a command: what it says, when, and how it ends."""

import importlib.util
import json
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request

import pytest
from typer.testing import CliRunner

from omni.serve import server

COMMAND = [sys.executable, "-m", "omni.serve.server"]


def test_help_does_without_torch_and_has_an_example():
    done = subprocess.run([sys.executable, "-X", "importtime", *COMMAND[1:], "--help"],
                          capture_output=True, text=True, check=True)  # fmt: skip
    assert "omni-serve runs/quickstart/sft" in done.stdout
    assert not re.search(r"\| (torch|fastapi|uvicorn)\n", done.stderr)


def test_it_says_what_it_loads_and_where_it_listens_and_answers_there(tiny_checkpoint):
    process = subprocess.Popen([*COMMAND, str(tiny_checkpoint), "--port", "0"], text=True,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE)  # fmt: skip
    try:
        assert process.stderr.readline() == f"loading {tiny_checkpoint} ...\n"
        line = process.stdout.readline()
        found = re.fullmatch(r"listening at (http://127\.0\.0\.1:\d+/v1) \(model model\)\n", line)
        body = json.dumps({"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 2})
        request = urllib.request.Request(
            f"{found[1]}/chat/completions", body.encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            assert json.load(answer)["usage"]["completion_tokens"] <= 2
    finally:
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert "Traceback" not in errors


def fails(*arguments: object) -> str:
    result = CliRunner().invoke(server.app, [str(a) for a in arguments])
    assert result.exit_code == 2
    return result.stderr


def test_what_the_user_can_mend_costs_no_loading(tiny_checkpoint, tmp_path, monkeypatch):
    monkeypatch.setattr(server, "load", lambda *a: pytest.fail("it loaded"))
    assert "not a complete omni checkpoint" in fails(tmp_path)
    assert "no such folder" in fails(tiny_checkpoint, "--allow-dir", tmp_path / "gone")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert f"cannot listen at 127.0.0.1 port {port}" in fails(tiny_checkpoint, "--port", port)
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec",
                        lambda name: None if name == "uvicorn" else real(name))  # fmt: skip
    began = time.monotonic()
    assert "uvicorn not installed; type: uv pip install" in fails(tiny_checkpoint)
    assert time.monotonic() - began < 2
