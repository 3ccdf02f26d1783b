"""omni-chat: one question, a conversation, and errors of one line."""

import importlib
import subprocess
import sys

import av
import numpy as np
import pytest
from typer.testing import CliRunner

from omni.processing.messages import MEDIA
from omni.serve import chat


@pytest.fixture
def run(tiny_checkpoint):
    def call(*arguments: str, typed: str = ""):
        return CliRunner().invoke(chat.app, [str(tiny_checkpoint), *arguments], input=typed)

    return call


@pytest.fixture
def files(tmp_path, make_picture, make_sound):
    (tmp_path / "a b.png").write_bytes(make_picture(0))
    (tmp_path / "q.wav").write_bytes(make_sound(0.4))
    with av.open(str(tmp_path / "v.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=5)
        stream.width = stream.height = 32
        frame = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")
        container.mux([*stream.encode(frame), *stream.encode(None)])
    (tmp_path / "not.png").write_bytes(b"no picture")
    return tmp_path


def test_help_does_without_torch_and_has_an_example():
    done = subprocess.run([sys.executable, "-X", "importtime", "-m", "omni.serve.chat", "--help"],
                          capture_output=True, text=True, check=True)  # fmt: skip
    assert "omni-chat runs/quickstart/sft" in done.stdout
    assert "| torch\n" not in done.stderr


def test_one_question_streams_what_answer_returns(run, omni_pair, files, monkeypatch):
    said = {}
    module = importlib.import_module("omni.generation.answer")
    real = module.answer
    monkeypatch.setattr(module, "answer", lambda *a, **k: said.setdefault("text", real(*a, **k)))
    result = run("Hi?", "--image", str(files / "a b.png"), "--audio", str(files / "q.wav"),
                 "--max-new-tokens", "5")  # fmt: skip
    assert result.exit_code == 0, result.output
    assert said["text"][0].strip() == result.stdout.strip()


def test_other_seeds_draw_other_answers(run):
    def drawn(seed: str) -> str:
        how = ["--temperature", "1.5", "--top-p", "0.95", "--seed", seed, "--max-new-tokens", "8"]
        result = run("Hi?", *how)
        assert result.exit_code == 0, result.output
        return result.stdout

    assert drawn("1") == drawn("1") != drawn("2")


def test_thinking_has_a_budget(run):
    result = run("Hi?", "--thinking", "6", "--ignore-end", "1", "--max-new-tokens", "2")
    assert result.exit_code == 0, result.output
    thought, _, answer = result.stdout.strip().partition("<think>")[2].partition("</think>")
    assert len(thought) <= 6 and answer.removeprefix("\nFinal Answer:").strip()
    assert run("Hi?", "--thinking", "1", "--ignore-end", "-1").exit_code == 2


def test_media_alone_are_a_question(run, files):
    assert run("--image", str(files / "a b.png"), "--max-new-tokens", "2").exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["x", "--image", "nowhere.png"], "nowhere.png: no such file"),
        (["x", "--image", "{}/not.png"], "not.png: not a readable image"),
        (["x", "--audio", "{}/a b.png"], "a b.png: not readable audio"),
        (["x", "--video", "{}/a b.png"], "a b.png: not a readable video"),
        (["x", "--top-p", "0"], "top_p must be a number above 0, at most 1, not 0.0"),
    ],
)
def test_bad_files_and_numbers_are_one_line(run, files, arguments, reason):
    result = run(*[a.format(files) for a in arguments])
    assert result.exit_code == 2
    assert reason in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_missing_or_half_written_checkpoint_is_one_line(tiny_checkpoint, tmp_path):
    import shutil

    missing = CliRunner().invoke(chat.app, [str(tmp_path / "none"), "x"])
    assert "config.json and processor_config.json missing" in missing.stderr
    above = CliRunner().invoke(chat.app, [str(tiny_checkpoint.parent), "x"])
    assert f"did you mean {tiny_checkpoint}?" in above.stderr
    half = shutil.copytree(tiny_checkpoint, tmp_path / "half")
    weights = half / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:5000])
    result = CliRunner().invoke(chat.app, [str(half), "x"])
    assert (missing.exit_code, above.exit_code, result.exit_code) == (2, 2, 2)
    assert "damaged or half written" in result.stderr.splitlines()[-1]


class Fake:
    """Answers with the number of messages and media that it was given."""

    def __init__(self):
        self.asked = []

    def __call__(self, messages):
        self.asked.append(messages)
        if messages[-1]["content"][-1].get("text") == "fail":
            raise chat.ChatError("no encoder for it")
        return f"answer {len(messages)}"


@pytest.fixture
def talk(monkeypatch, capsys):
    def run(*lines: str):
        fake, feed = Fake(), iter(lines)

        def read(_prompt):
            line = next(feed, None)
            if line is None:
                raise EOFError
            return line

        monkeypatch.setattr("builtins.input", read)
        chat.converse(fake)
        return fake.asked, capsys.readouterr().out

    return run


def test_a_conversation_has_a_history_that_reset_forgets(talk):
    asked, _ = talk("one", "two", "/reset", "three")
    assert [[m["role"] for m in messages] for messages in asked] == [
        ["user"], ["user", "assistant", "user"], ["user"]
    ]  # fmt: skip
    assert asked[1][1]["content"][0]["text"] == "answer 1"


def test_attachments_go_with_the_next_message_only(talk, files):
    asked, out = talk(f"/image {files}/a b.png", f"/audio '{files}/q.wav'",
                      f"/video {files}/v.mp4", "look", "again")  # fmt: skip
    kinds = [[p["type"] for p in messages[-1]["content"]] for messages in asked]
    assert kinds == [[*MEDIA, "text"], ["text"]]
    assert out.count("attached") == 3 + chat.HELP.count("attached")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("/image nowhere.png", "no such file"),
        ("/image", "give a path"),
        ("/sing", "unknown command"),
        ("/image 'x", "no such file"),
        ("fail", "no encoder for it"),
    ],
)
def test_no_error_ends_the_conversation(talk, line, said):
    asked, out = talk(line, "go on", "/quit", "never read")
    assert said in out
    assert [m["role"] for m in asked[-1]] == ["user"]  # a failed message leaves no trace
    assert asked[-1][-1]["content"][0]["text"] == "go on"


def test_ctrl_c_stops_an_answer_but_not_the_conversation(monkeypatch, capsys):
    lines = iter(["one", "/quit"])
    monkeypatch.setattr("builtins.input", lambda _: next(lines))

    def stopped(_messages):
        raise KeyboardInterrupt

    chat.converse(stopped)
    assert "forgotten" in capsys.readouterr().out


def test_the_real_thing_in_a_conversation(run, files):
    typed = f"hello\n/image {files}/not.png\n/image {files}/a b.png\nwhat?\n/quit\n"
    result = run("--max-new-tokens", "2", typed=typed)
    assert result.exit_code == 0, result.output
    assert "not a readable image" in result.stdout
    assert "[1 attached] > " in result.stdout
