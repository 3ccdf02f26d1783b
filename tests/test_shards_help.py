"""Every example in the help of omni-shards does what it says, as it is written."""

import io
import json
import shlex
import tarfile
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.main import get_command
from typer.testing import CliRunner

from data_shards.bench import BENCHES
from data_shards.cli import app

ELSEWHERE = {"stamps", "pictures", "easyvqa", "photos", "recordings", "vqa", "speech"}
"""made of what is fetched, or by a model"""


def examples(command) -> Iterator[list[str]]:
    """Yield the words of every example in the help of a command and of those below it."""
    for line in (command.help or "").splitlines():
        line = line.strip().removeprefix("Example: ")
        if line.startswith("omni-shards "):
            yield shlex.split(line)[1:]
    for below in getattr(command, "commands", {}).values():
        yield from examples(below)


EXAMPLES = {" ".join(found): found for found in examples(get_command(app))}


@pytest.fixture(scope="module")
def folder(tmp_path_factory, make_picture, make_sound):
    """A folder with what the examples read: sets, parts of one, in mine files of every format."""
    root = tmp_path_factory.mktemp("examples")
    (root / "mine").mkdir()
    picture, sound = make_picture(1), make_sound(0.2)
    files = {"a.png": picture, "a.txt": b"Squares.", "s.wav": sound,
             "wav.scp": b"s s.wav\n", "text": b"s words\n"}  # fmt: skip
    for name, data in files.items():
        (root / "mine" / name).write_bytes(data)
    with tarfile.open(root / "mine" / "0.tar", "w") as archive:
        for name in ("a.png", "a.txt"):
            info = tarfile.TarInfo(name)
            info.size = len(files[name])
            archive.addfile(info, io.BytesIO(files[name]))
    cell = {"bytes": picture, "path": None}
    pq.write_table(
        pa.table({"caption": ["Squares."], "image": [cell]}), root / "mine" / "0.parquet"
    )
    turns = [{"from": "human", "value": "What?"}, {"from": "gpt", "value": "A thing."}]
    row = {"conversations": turns, "prompt": "What?", "chosen": "A thing.", "rejected": "No.",
           "answer": "A thing.", "critique": "Right.",
           "output": "Request: harmful\nCompletion: refusal\nResponse: unharmful"}  # fmt: skip
    (root / "mine.json").write_text(json.dumps([row]))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        for words in (["shapes", "--count", "8", "--out", "data/shapes"],
                      ["text", "--out", "data/text"],
                      ["llava", "--json", "mine.json", "--out", "data/mine", "--part", "1/1"],
                      ):  # fmt: skip
            built = CliRunner().invoke(app, ["build", *words])
            assert built.exit_code == 0, built.output
        yield root


@pytest.mark.parametrize("words", EXAMPLES.values(), ids=EXAMPLES)
def test_an_example_of_the_help_does_what_it_says(words, folder, monkeypatch):
    monkeypatch.chdir(folder)
    if words[0] == "bench":
        assert words[1] in BENCHES
    elif words[:2] == ["build", "shapes"] or words[1] in ELSEWHERE:
        command = get_command(app)
        for name in words[:2]:
            command = command.commands[name]
        command.make_context("omni-shards", words[2:])
    else:
        done = CliRunner().invoke(app, words)
        assert done.exit_code == 0, done.output


def test_every_command_has_an_example():
    commands = get_command(app).commands
    named = {name for name in commands if name != "build"}
    named |= {f"build {name}" for name in commands["build"].commands}
    lacking = {name for name in named if not any(text.startswith(name) for text in EXAMPLES)}
    assert not lacking
