"""Which answers of a conversation are learnt is said by its meta, and by who builds it."""

import json

import pytest
from typer.testing import CliRunner

from data_shards.cli import app
from data_shards.read.encode import Encode
from data_shards.read.entry import find_shards, read_shard
from data_shards.shards.sample import Sample
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


@pytest.mark.parametrize("source", ["llava", "text"])
def test_a_build_says_it_of_each_sample(tmp_path, source):
    turns = [{"role": m["role"], "content": m["content"][0]["text"]} for m in TALK]
    if source == "llava":
        (tmp_path / "a.json").write_text(json.dumps([{"messages": turns}]))
        options = ["--json", str(tmp_path / "a.json")]
    else:
        (tmp_path / "a.jsonl").write_text(json.dumps({"messages": TALK}))
        options = ["--file", str(tmp_path / "a.jsonl")]
    out = str(tmp_path / "out")
    done = CliRunner().invoke(app, ["build", source, *options, "--labels", "last", "--out", out])
    assert done.exit_code == 0, done.output
    (shard,) = find_shards([f"{out}/train-*.tar"])
    assert [sample.meta["labels"] for sample in read_shard(shard)] == ["last"]
