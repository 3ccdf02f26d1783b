"""New rows of the embedding table train alone; every other row is what it was, to the bit."""

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
from typer.testing import CliRunner

from data_shards.bench.data import samples
from data_shards.shards.write import write_shards
from omni.load import load
from omni.processing.messages import assistant
from omni.weights import resolve
from stages.cli import app

TOKENS = ["<box>", "</box>"]
RECIPE = """\
text: set below
output: set below
precision: fp32
threads: 0
sources: {text: [set below]}
stages:
  - name: rows
    new_tokens: ["<box>", "</box>"]
    trainable: {new_tokens: {lr: 1.0e-2, weight_decay: 0.1}}
    data: {mixture: {text: 1}, batch_size: 4}
    steps: 6
  - name: both
    new_tokens: ["<box>", "</box>"]
    trainable: {new_tokens: 1.0e-2}
    lora: {language_model: {r: 2, lr: 1.0e-2}}
    data: {mixture: {text: 1}, batch_size: 4}
    steps: 2
"""


@pytest.fixture(scope="module", params=["tied", "untied"])
def parts(request, tmp_path_factory) -> Path:
    """Hold an LLM, whose head is its embedding or is not, and shards that use the tokens."""
    folder = tmp_path_factory.mktemp(request.param)
    (folder / "recipe.yaml").write_text(RECIPE)
    tiny = resolve("tiny:llama").folder
    torch.manual_seed(0)
    config = AutoConfig.from_pretrained(tiny, tie_word_embeddings=request.param == "tied")
    AutoModelForCausalLM.from_config(config).save_pretrained(folder / "llm")
    AutoTokenizer.from_pretrained(tiny).save_pretrained(folder / "llm")
    rows = list(samples(16, media=[], chars=(5, 20)))
    for n, row in enumerate(rows):
        row.messages[1] = assistant(f"<box>{n}</box>")
    write_shards(rows, folder / "text")
    return folder


def train(folder: Path, run: Path, *overrides: str):
    return CliRunner().invoke(app, [
        str(folder / "recipe.yaml"), f"text={folder / 'llm'}", f"output={run}",
        f"sources.text=[{folder}/text/*.tar]", *overrides,
    ])  # fmt: skip


@pytest.fixture(scope="module")
def run(parts) -> Path:
    result = train(parts, parts / "run")
    assert result.exit_code == 0, result.output
    return parts / "run"


def tables(model) -> list[torch.Tensor]:
    return [model.get_input_embeddings().weight, model.get_output_embeddings().weight]


def test_the_new_rows_move_and_no_other_number_does(run, parts):
    before = AutoModelForCausalLM.from_pretrained(parts / "llm")
    model, processor = load(run / "rows")
    ids = processor.tokenizer.convert_tokens_to_ids(TOKENS)
    assert ids == [259, 260]  # the table of 260 had a row that no token used
    assert model.config.text_config.vocab_size == 261
    for old, new in zip(tables(before), tables(model), strict=True):
        assert (len(old), len(new)) == (260, 261)
        assert torch.equal(old[:259], new[:259])
        assert not torch.isclose(new[259:], old.mean(0), atol=1e-3).all(1).any()
    tied = [a is b for a, b in (tables(before), tables(model))]
    assert tied in ([True, True], [False, False])
    skipped = {"lm_head.weight", "model.embed_tokens.weight"}
    old, new = before.state_dict(), model.language_model.state_dict()
    assert old.keys() == new.keys()
    assert all(torch.equal(old[n], new[n]) for n in old.keys() - skipped)
    facts = json.loads((run / "rows" / "stage.json").read_text())
    assert facts["frozen_ok"] is True
    assert facts["last_loss"] < facts["first_loss"]


def test_the_next_stage_knows_them_and_may_add_adapters(run):
    (first, processor), (second, later) = load(run / "rows"), load(run / "both")
    assert later.tokenizer.convert_tokens_to_ids(TOKENS) == [259, 260]
    assert len(processor.tokenizer("<box>")["input_ids"]) == 1
    old, new = first.state_dict(), second.state_dict()
    assert old.keys() == new.keys()
    moved = {n for n in old if not torch.equal(old[n], new[n])}
    assert any("q_proj" in n for n in moved)
    assert not [n for n in moved if "norm" in n]
    for a, b in zip(tables(first), tables(second), strict=True):
        assert torch.equal(a[:259], b[:259])
        assert not torch.equal(a[259:], b[259:])


def test_a_killed_stage_goes_on_to_the_same_bits(run, parts, tmp_path, at_update):
    def fail():
        raise FloatingPointError("the machine went away")

    with at_update(4, fail):
        assert train(parts, tmp_path / "run", "save_seconds=0").exit_code == 2
    result = train(parts, tmp_path / "run", "--stage", "rows")
    assert "rows: resumed after step 3 of 6" in result.output
    ours, theirs = (load(r / "rows")[0].state_dict() for r in (tmp_path / "run", run))
    assert all(torch.equal(ours[n], theirs[n]) for n in theirs)
