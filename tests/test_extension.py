"""What docs/extending.md shows works as written there: one file, and one line that names it."""

import importlib
import json
import re
from pathlib import Path

import datasets
import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

from data_shards.build import build
from data_shards.index.index import Index
from data_shards.shards.sample import Sample
from data_shards.shards.write import write_shards
from data_shards.sources import SOURCES
from eval.answering.answerer import Answerer
from eval.bench.oracle import Oracle
from eval.lmms.official import Official
from eval.suites.registry import public
from eval.suites.sources import Local
from omni.processing.messages import assistant, image, user
from stages.cli import app
from stages.objectives import OBJECTIVES
from stages.objectives.task import Task

PAGE = Path(__file__).parent.parent / "docs" / "extending.md"
STEPS = 8
RECIPE = """\
text: tiny:llama
output: {root}/run
precision: fp32
threads: 0
sources: {{pairs: ["{root}/pairs/train-*.tar"]}}
stages:
  - name: prefer
    attach:
      vision:
        encoder: {{kind: timm, architecture: test_vit, image_size: 48,
                  model_args: {{img_size: 48}}}}
        projector: {{kind: patch_concat_mlp}}
    trainable: {{projectors: 1.0e-3, language_model: 1.0e-3}}
    data: {{mixture: {{pairs: 1}}, max_length: 400, batch_size: 4}}
    objective: {{kind: margin, margin: 0.5}}
    steps: 8
"""


@pytest.fixture
def page(tmp_path, monkeypatch):
    """Import the code of the page."""
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    (tmp_path / "extending.py").write_text("\n".join(blocks), encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(OBJECTIVES, "margin", "extending:Margin")
    yield importlib.import_module("extending")
    importlib.sys.modules.pop("extending")


@pytest.fixture
def prefer(page, tmp_path, make_picture):
    """Return a function that trains on pairs about pictures, and one that reads its log."""
    meta = {"source": "t", "license": "MIT", "schema": 1}
    pairs = [
        Sample([user(image("img0.jpg"), f"Which, {n}?")], {"img0.jpg": make_picture(n)}, meta,
               chosen=[assistant("This one.")], rejected=[assistant("That other.")])
        for n in range(12)
    ]  # fmt: skip
    write_shards(pairs, tmp_path / "pairs")
    (tmp_path / "recipe.yaml").write_text(RECIPE.format(root=tmp_path))

    def run(*overrides: str, command: tuple[str, ...] = ()):
        return CliRunner().invoke(app, [*command, str(tmp_path / "recipe.yaml"), *overrides])

    return run


def steps_of(run: Path) -> list[dict]:
    rows = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [row for row in rows if "step" in row]


def test_an_objective_on_pairs_learns_and_tells_its_figures(prefer, tmp_path):
    result = prefer()
    assert result.exit_code == 0, result.output
    rows = steps_of(tmp_path / "run")
    assert rows[-1]["accuracy"] == 1 > rows[0]["loss"] - rows[-1]["loss"] > 0.2
    for row in rows:
        assert (row["samples"], row["source.pairs.samples"]) == (4, 4)
        assert row["source.pairs"] == pytest.approx(row["loss"], rel=1e-5)  # a mean over pairs
    doctor = prefer(command=("doctor",))
    assert doctor.exit_code == 0, doctor.output


def test_how_a_step_is_cut_does_not_matter_to_it(prefer, tmp_path):
    losses = []
    for size, accumulate in ((4, 1), (2, 2), (1, 4)):
        out = tmp_path / f"run{size}"
        result = prefer(
            f"output={out}", f"stages.prefer.data.batch_size={size}", "stages.prefer.steps=3",
            f"stages.prefer.data.accumulate={accumulate}",
        )  # fmt: skip
        assert result.exit_code == 0, result.output
        losses.append([(row["loss"], row["accuracy"]) for row in steps_of(out)])
    for other in losses[1:]:
        assert torch.allclose(torch.tensor(losses[0]), torch.tensor(other), rtol=1e-4)


def test_it_goes_on_after_a_crash_to_the_same_bits(prefer, tmp_path, at_update):
    def fail():
        raise FloatingPointError("the machine went away")

    with at_update(4, fail):
        assert prefer("save_seconds=0").exit_code == 2
    assert "resumed after step 3 of 8" in prefer().output
    assert prefer(f"output={tmp_path / 'whole'}").exit_code == 0
    one, other = (load_file(tmp_path / name / "prefer" / "model.safetensors")
                  for name in ("run", "whole"))  # fmt: skip
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_what_an_objective_compares_with_stays_frozen(page, omni_pair, monkeypatch):
    monkeypatch.setattr(page.Margin, "make_extra", lambda self, model: torch.nn.Linear(2, 2))
    task = Task(omni_pair[0], "margin").train()
    assert task.extra is task.objective.extra and not task.extra.training
    assert not any(p.requires_grad for p in task.extra.parameters())


def test_pairs_are_not_cut_and_other_samples_are_named(prefer, tmp_path):
    cut = prefer("stages.prefer.data.overlong=truncate")
    assert cut.exit_code == 2 and "use overlong: skip" in " ".join(cut.stderr.split())
    meta = {"source": "t", "license": "MIT", "schema": 1}
    talks = [Sample([user("a"), assistant("b")], {}, meta) for _ in range(3)]
    write_shards(talks, tmp_path / "plain")
    plain = prefer(f"sources.pairs=[{tmp_path}/plain/*.tar]")
    assert plain.exit_code == 2
    assert "no 'chosen' and 'rejected' answer" in " ".join(plain.stderr.split())


def test_a_source_is_built_split_and_counted(page, tmp_path, monkeypatch):
    monkeypatch.setitem(SOURCES, "glossary", page.Glossary)
    words = [f"word{n}\tmeaning {n}" for n in range(20)]
    (tmp_path / "words.txt").write_text("\n".join([*words, "no tab here"]), encoding="utf-8")
    manifest = build(
        SOURCES["glossary"](data=tmp_path / "words.txt"), tmp_path / "out", heldout=0.25
    )
    splits = {name: split["samples"] for name, split in manifest["splits"].items()}
    assert splits == {"train": 15, "heldout": 5}
    assert len(Index.open(f"{tmp_path}/out/train-*.tar")) == 15
    assert "words.txt:21: there is no tab" in str(manifest["skipped"])


def test_a_benchmark_scores_its_truth(page, tmp_path, make_picture):
    choices = ["red", "green", "blue", "pink"]
    table = [
        {"idx": n, "type": "2D", "task": ("Count", "Relation")[n % 2], "source": "COCO",
         "image": {"bytes": make_picture(n), "path": None}, "question": f"Which? {n}",
         "prompt": f"Which? {n} (A) red (B) green (C) blue (D) pink", "choices": choices,
         "answer": f"({'ABCD'[n % 4]})"}
        for n in range(8)
    ]  # fmt: skip
    read = datasets.Dataset.from_list(table).cast_column("image", datasets.Image())
    (tmp_path / "data" / "cv_bench").mkdir(parents=True)
    read.to_parquet(str(tmp_path / "data" / "cv_bench" / "test-00000.parquet"))
    (row,) = public((page.CV_BENCH,), "one more").rows
    assert isinstance(row, Official)
    source = Local(tmp_path / "data")
    oracle = Answerer(Oracle([row], source, tmp_path), lambda m: 50)
    right = row.run(oracle, source, "normal", None, tmp_path / "right")
    assert right.score == pytest.approx(100) and right.chance == 25
    nonsense = Answerer(lambda batch, generation, keys: ["Hm"] * len(batch), lambda m: 50)
    assert row.run(nonsense, source, "normal", None, tmp_path / "wrong").score == 0
