"""Which answers of a conversation are learnt is said by its meta, and by who builds it."""

import json
import tarfile
from dataclasses import fields

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from data_shards.cli import app
from data_shards.read.encode import Encode
from data_shards.read.entry import find_shards, read_shard
from data_shards.shards.sample import Sample
from data_shards.sources import SOURCES
from omni.processing.messages import MessageError, assistant, user
from omni.processing.processor import IGNORE_INDEX

TALK = [user("Hi?"), assistant("One."), user("And?"), assistant("Two.")]


def learnt(processor, meta):
    (document,) = Encode(processor).sample(Sample(TALK, {}, meta))
    labels = document.labels[document.labels != IGNORE_INDEX]
    return processor.tokenizer.decode(labels, skip_special_tokens=True)


def test_the_last_answer_alone_is_learnt_where_the_meta_says_so(make_model):
    _, processor = make_model()
    assert learnt(processor, {}) == learnt(processor, {"labels": "all"}) == "One.Two."
    assert learnt(processor, {"labels": "last"}) == "Two."


@pytest.mark.parametrize("labels", ["lats", None, 1, ["last"]])
def test_another_word_is_refused(make_model, labels):
    _, processor = make_model()
    with pytest.raises(MessageError, match="labels in its meta is all or last"):
        learnt(processor, {"labels": labels})


def written(folder, make_picture) -> dict[str, list[str]]:
    """Write the conversation as every source reads it; return the options that name it."""
    turns = [{"role": m["role"], "content": m["content"][0]["text"]} for m in TALK]
    row = json.dumps({"messages": turns})
    (folder / "a.jsonl").write_text(row)
    (folder / "text.jsonl").write_text(json.dumps({"messages": TALK}))
    (folder / "pictures").mkdir()
    (folder / "pictures" / "a.json").write_text(row)
    (folder / "pictures" / "a.png").write_bytes(make_picture(1))
    with tarfile.open(folder / "a.tar", "w") as archive:
        archive.add(folder / "pictures" / "a.json", "a.json")
    pq.write_table(pa.table({"messages": [turns]}), folder / "a.parquet")
    return {
        "llava": ["--json", f"{folder}/a.jsonl"], "text": ["--file", f"{folder}/text.jsonl"],
        "hf": ["--data", f"{folder}/a.parquet"], "webdataset": ["--data", f"{folder}/a.tar"],
        "imagefolder": ["--data", f"{folder}/pictures"],
    }  # fmt: skip


HAVING = [name for name, source in SOURCES.items() if "labels" in {f.name for f in fields(source)}]


@pytest.mark.parametrize("source", HAVING)
def test_a_build_says_it_of_each_sample(tmp_path, make_picture, source):
    options = written(tmp_path, make_picture)[source]
    out = str(tmp_path / "out")
    done = CliRunner().invoke(app, ["build", source, *options, "--labels", "last", "--out", out])
    assert done.exit_code == 0, done.output
    (shard,) = find_shards([f"{out}/train-*.tar"])
    (sample,) = read_shard(shard)
    assert sample.meta["labels"] == "last"
    assert [m["role"] for m in sample.messages] == ["user", "assistant"] * 2


def test_only_sources_of_conversations_are_asked_which_answers():
    assert {*HAVING} == {"text", "llava", "hf", "webdataset", "imagefolder"}
