"""What a run logs of each step adds up, and its operations are those that are run."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoConfig, AutoModelForCausalLM

from data_shards.read.batch import Batch, Documents, make_batch
from omni import OmniForConditionalGeneration
from omni.model.config import OmniConfig
from omni.model.forward import load_text_tokenizer
from stages.metrics import peak
from stages.metrics.flops import Flops, matrices
from stages.metrics.metrics import RATES
from stages.metrics.names import COUNTS
from stages.metrics.trackers import check_trackers
from stages.objectives.task import Task
from stages.recipe.read import load_recipe
from stages.recipe.schema import RecipeError
from stages.trainable.patterns import set_trainable
from stages.training import probes
from stages.training.chain import run_recipe


@pytest.fixture(scope="module")
def run(shards, tmp_path_factory):
    """Train the tiny chain for two steps a stage."""
    folder = tmp_path_factory.mktemp("metrics") / "run"
    run_recipe(settings(shards, folder), Accelerator(cpu=True))
    return folder


def settings(shards: list[str], folder: Path):
    """Return the tiny recipe, cut short, with probes."""
    captions, *_, text = (Path(given.split("[")[1]).parent for given in shards)
    asked = ["probes.samples=3", "probes.rows=[category]", "probes.limit=2",
             f"probes.heldout=[{captions},{text}]"]  # fmt: skip
    steps = [f"stages.{n}.steps=2" for n in ("vision_align", "audio_align", "omni", "sft")]
    return load_recipe("tiny", [*shards, f"output={folder}", *steps, *asked])


def steps_of(run: Path) -> list[dict]:
    rows = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [row for row in rows if "step" in row]


def test_losses_by_source_and_by_modality_average_to_the_step(run):
    for row in steps_of(run):
        for kind in ("source.", "modality."):
            labels = {k.removesuffix(".labels"): n for k, n in row.items()
                      if k.startswith(kind) and k.endswith(".labels")}  # fmt: skip
            assert sum(labels.values()) == row["label_tokens"] > 0
            mean = sum(row[name] * n for name, n in labels.items()) / row["label_tokens"]
            assert mean == pytest.approx(row["loss"], rel=1e-5)


def test_a_row_of_the_log_has_every_figure(run):
    rows = steps_of(run)
    assert len(rows) == 8
    for row in rows:
        wanted = {"stage", "step", "loss", "lr", "seconds", "data_wait", "padding", "memory_gb",
                  "mfu", "mfu.llm", "mfu.vision", *RATES.values(), *COUNTS}  # fmt: skip
        assert not wanted - row.keys()
        assert row["tokens"] == row["positions"]
        assert row["padding"] == 0
        assert 0 < row["mfu"] <= 1
        assert row["mfu"] == pytest.approx(
            sum(v for k, v in row.items() if k.startswith("mfu.")), rel=1e-2
        )
        assert 0.05 < row["memory_gb"] < 64
    by_stage = {row["stage"]: row for row in rows}
    assert by_stage["vision_align"]["images"] == 4
    assert by_stage["vision_align"]["modality.vision.labels"] > 0
    assert by_stage["audio_align"]["audio_seconds"] == pytest.approx(
        4 * 0.41, abs=0.5
    )  # clips of 0.3 to 0.52 s
    assert {k for row in rows for k in row if k.startswith("modality.")} >= {
        "modality.text", "modality.vision", "modality.audio", "modality.audio+vision"
    }  # fmt: skip
    assert {"lr.projectors", "lr.language_model"} < by_stage["sft"].keys()
    facts = json.loads((run / "sft" / "stage.json").read_text())["totals"]
    last = [row for row in rows if row["stage"] == "sft"]
    assert facts["label_tokens"] == sum(row["label_tokens"] for row in last)
    sources = [n for k, n in facts.items() if k.startswith("source.") and k.endswith(".samples")]
    assert sum(sources) == facts["samples"] == 2 * 8


def counted(model, batch: Batch) -> float:
    """Count what a forward and a backward pass really multiply."""
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        model(**batch.tensors).loss.backward()
    model.zero_grad()
    return counter.get_total_flops()


@pytest.fixture
def batch(omni_pair, make_picture, make_sound):
    """Pack documents of text, of an image, and of an image with a sound."""
    from omni.processing.messages import assistant, audio, image, user

    def make(*only: str, processor=omni_pair[1]):
        image_ = image(make_picture(0))
        talks = {
            "text": [user("How many legs has a spider? " * 5), assistant("Eight legs. " * 9)],
            "vision": [user(image_, "What is this?"), assistant("Red, a square of it.")],
            "audio+vision": [user(image_, audio(make_sound(0.5))), assistant("A tone, and red.")],
        }
        place: Any = SimpleNamespace(
            item=SimpleNamespace(source="s"), entry=SimpleNamespace(where="x.tar:1")
        )
        found = [(place, [processor.encode(talks[name])]) for name in only or talks]
        return make_batch(processor, found, [], 0, 0, 0)

    return make


def test_operations_of_an_llm_are_those_that_it_runs(make_model, batch):
    model, processor = make_model()
    row = batch("text", "text", processor=processor)
    set_trainable(model, {"language_model": 1.0})
    real, found = counted(model, row), Flops(model, runs_llm=True).of(row)["llm"]
    assert found == pytest.approx(real, rel=0.02)
    everything = matrices(model.get_decoder())
    assert everything.backward == 2


def test_what_is_frozen_costs_no_weight_gradients(make_model, specs, batch):
    model, processor = make_model(vision=specs.vision, audio=specs.audio)
    row, found, real = batch(processor=processor), {}, {}
    patterns = {
        "all": {"*": 1.0},
        "projectors": {"projectors": 1.0},
        "llm": {"language_model": 1.0},
        "top": {"language_model.model.layers.1": 1.0},
    }
    for name, pattern in patterns.items():
        set_trainable(model, pattern)
        model.train()
        real[name], found[name] = counted(model, row), Flops(model, runs_llm=True).of(row)
        assert sum(found[name].values()) == pytest.approx(real[name], rel=0.06), name
    assert matrices(model.get_decoder(), upstream=True).backward == pytest.approx(1.5, abs=0.01)
    set_trainable(model, patterns["projectors"])
    assert matrices(model.get_decoder(), upstream=True).backward == 1  # half of what it was
    assert found["all"]["llm"] > found["llm"]["llm"] * 0.99
    assert found["projectors"]["llm"] < 0.9 * found["all"]["llm"]
    assert found["top"]["llm"] < found["projectors"]["llm"]
    assert found["all"]["vision"] > 2.5 * found["llm"]["vision"]


def test_operations_of_an_alignment_are_those_that_it_runs(make_model, specs, batch):
    model, processor = make_model(vision=specs.vision, audio=specs.audio)
    set_trainable(model, {"projectors": 1.0})
    row = batch("vision", "audio+vision", processor=processor)
    task, tensors = Task(model, "align"), row.tensors
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        task(tensors, torch.tensor(9.0))[0].backward()
    found = Flops(model, runs_llm=False).of(row)
    assert sum(found.values()) == pytest.approx(counter.get_total_flops(), rel=0.02)
    assert min(found.values()) > 0


class Looking(torch.nn.Module):
    """An encoder that looks at values, of which there are none on the meta device."""

    def forward(self, pixels):
        return pixels if pixels.sum().item() > 0 else -pixels


def test_an_encoder_that_cannot_be_counted_is_left_out_and_named(
    make_model, specs, batch, monkeypatch, caplog
):
    model, processor = make_model(vision=specs.vision)
    row = batch("vision", processor=processor)
    whole = Flops(model, runs_llm=True).of(row)["vision"]
    monkeypatch.setattr("stages.metrics.flops.build_encoder", lambda spec: Looking())
    flops = Flops(model, runs_llm=True)
    for _ in range(2):
        assert 0 < flops.of(row)["vision"] < whole  # the projector
    assert caplog.text.count("encoder 'vision': MFU leaves it out") == 1


LLMS = {
    "gpt2": {"n_embd": 32, "n_head": 4, "n_layer": 2, "n_positions": 2048},
    "bloom": {"hidden_size": 32, "n_head": 4, "n_layer": 2},
    "mpt": {"d_model": 32, "n_heads": 4, "n_layers": 2, "max_seq_len": 2048},
    "falcon": {"hidden_size": 32, "num_attention_heads": 4, "num_hidden_layers": 2, "alibi": True},
    "mamba": {"hidden_size": 32, "num_hidden_layers": 2, "state_size": 8},
    "rwkv": {"hidden_size": 32, "num_hidden_layers": 2, "attention_hidden_size": 32},
}


def test_layers_with_heads_of_several_sizes_are_counted():
    config = AutoConfig.for_model(
        "gemma4_text", vocab_size=260, hidden_size=32, intermediate_size=64, num_hidden_layers=6,
        num_attention_heads=4, num_key_value_heads=2, head_dim=8, global_head_dim=64,
        hidden_size_per_layer_input=0, vocab_size_per_layer_input=0, pad_token_id=0,
    )  # fmt: skip
    model = OmniForConditionalGeneration(OmniConfig(config))
    ids = torch.arange(2, 194)[None]
    documents = Documents([0], [192], [192], ["s"], ["text"], ["x.tar:1"])
    row = Batch({"input_ids": ids, "labels": ids}, documents, {}, 0, 0, [])
    real = counted(model.language_model, row)
    found = Flops(model, runs_llm=True).of(row)["llm"]
    assert found == pytest.approx(real, rel=0.02)


@pytest.mark.parametrize("kind", LLMS)
def test_an_llm_of_other_names_trains(kind, shards, tmp_path, caplog):
    """Where attention has no heads, there is no MFU; checkpointing needs `layers` and says so."""
    torch.manual_seed(0)
    config = AutoConfig.for_model(kind, vocab_size=264, **LLMS[kind])
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / "llm")
    load_text_tokenizer("tiny:llama").save_pretrained(tmp_path / "llm")
    asked = [f"text={tmp_path / 'llm'}", f"output={tmp_path / 'run'}", "stages.omni.steps=2",
             "stages.omni.trainable={language_model: 1.0e-3}", "stages.omni.data.mixture={text: 1}",
             "stages.omni.data.batch_size=1"]  # fmt: skip
    recipe = load_recipe("tiny", [*shards, *asked])
    recipe.stages = [stage for stage in recipe.stages if stage.name == "omni"]
    run_recipe(recipe, Accelerator(cpu=True))
    rows = steps_of(tmp_path / "run")
    assert len(rows) == 2
    if counted_at_all := kind not in ("mamba", "rwkv"):
        assert all(0 < row["mfu"] <= 1 for row in rows)
    else:
        assert not any(name.startswith("mfu") for row in rows for name in row)
    assert caplog.text.count("there is no MFU") == (not counted_at_all)
    if kind != "mamba":
        recipe.checkpointing, recipe.output = True, str(tmp_path / "other")
        with pytest.raises(ValueError, match="checkpointing is for LLMs whose decoder has"):
            run_recipe(recipe, Accelerator(cpu=True))


def test_a_busy_moment_does_not_make_the_peak(monkeypatch):
    now, rates = 0.0, [1e9, 5e9, 2e9]

    def measure(*_):
        nonlocal now
        now += 1.0
        return rates.pop(0)

    monkeypatch.setattr(peak, "time", SimpleNamespace(monotonic=lambda: now))
    monkeypatch.setattr(peak, "measured_flops", measure)
    best = peak.Peak(torch.device("cpu"), "no")
    assert best.rate == 1e9
    best.watch()
    assert best.rate == 5e9
    now += 0.9 / peak.SHARE  # of this, a second would be too much
    best.watch()
    assert rates == [2e9]
    now += 0.2 / peak.SHARE
    best.watch()
    assert rates == []
    assert best.rate == 5e9
    best.reached(7e9)  # by the training
    assert best.rate == 7e9


def test_mfu_is_at_most_one(shards, tmp_path, monkeypatch):
    monkeypatch.setattr(peak, "measured_flops", lambda *_: 1.0)
    recipe = settings(shards, tmp_path / "run")
    recipe.stages, recipe.probes.samples = recipe.stages[:1], 0
    run_recipe(recipe, Accelerator(cpu=True))
    rows = steps_of(tmp_path / "run")
    assert max(row["mfu"] for row in rows) == 1


def test_what_a_cache_answers_costs_nothing(make_model, specs, batch):
    from omni.features.cache import FeatureCache

    model, processor = make_model(vision=specs.vision)
    set_trainable(model, {"projectors.vision": 1.0})
    model.feature_cache = FeatureCache(1 << 20)
    row, flops = batch("vision", processor=processor), Flops(model, runs_llm=True)
    spent = []
    for _ in range(2):
        counted(model, row)
        spent.append(flops.of(row)["vision"])
    assert spent[0] > 2 * spent[1] > 0  # what is left is the projector


def test_a_tracker_that_is_missing_is_named_before_the_run(monkeypatch):
    check_trackers(["tensorboard"])
    with pytest.raises(RecipeError, match="'tensorbord' is not known; did you mean 'tensorboard'"):
        check_trackers(["tensorbord"])
    with pytest.raises(RecipeError, match="trackio is not installed: pip install trackio"):
        check_trackers(["trackio"])


def test_trackers_get_the_figures(run):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    board = EventAccumulator(str(run / "tensorboard" / "sft"))
    board.Reload()
    losses = [e.value for e in board.Scalars("loss")]
    assert losses == pytest.approx([r["loss"] for r in steps_of(run) if r["stage"] == "sft"])
    assert {"mfu.vision", "images_per_s", "lr.projectors"} < set(board.Tags()["scalars"])


def test_a_probe_measures_what_was_held_out(run, shards):
    for name in ("vision_align", "sft"):
        probe = json.loads((run / name / "probe.json").read_text())
        assert probe["heldout"]["vision"]["documents"] == 3
        assert 0 < probe["heldout"]["vision"]["loss"] < 20
        assert [(row["name"], row["n"]) for row in probe["rows"]] == [
            ("category", 2), ("captions/shapes", 2), ("text/tones", 2)
        ]  # fmt: skip
        assert all(0 <= row["score"] <= 100 for row in probe["rows"])
        assert len(probe["answers"]) == 4
        assert {one["source"] for one in probe["answers"]} <= {"captions", "images", "text"}
        assert all(one["prompt"] and one["expected"] for one in probe["answers"])
        assert (probe["text_drift"] > 0) == (name == "sft")  # before, the LLM was frozen
    assert any("'words' has no heldout-" in said for said in probe["missing"])
    deaf = json.loads((run / "audio_align" / "probe.json").read_text())
    assert deaf["heldout"] == {}
    assert [row["name"] for row in deaf["rows"]] == ["captions/shapes", "text/tones"]
    events = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert [e["name"] for e in events if e.get("event") == "probe"] == [
        "vision_align", "audio_align", "omni", "sft"
    ]  # fmt: skip


def test_answers_inside_a_stage_change_nothing_that_is_learned(run, shards, tmp_path, capsys):
    config = settings(shards, tmp_path)
    config.probes.samples, config.probes.every = 0, 1
    for name in ("vision_align", "audio_align", "omni"):
        run_recipe(config, Accelerator(cpu=True), name)
    ours, theirs = (
        [row["loss"] for row in steps_of(folder) if row["stage"] in ("vision_align", "omni")]
        for folder in (tmp_path, run)
    )
    assert ours == theirs[: len(ours)] and len(ours) == 4
    events = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    asked = [e for e in events if e.get("event") == "answers"]
    assert [(e["name"], e["after"]) for e in asked] == [
        ("vision_align", 1), ("audio_align", 1), ("omni", 1)
    ]  # fmt: skip
    assert all(len(e["answers"]) == config.probes.answers for e in asked)
    assert "omni: answers after step 1" in capsys.readouterr().out


def test_a_stage_that_lost_its_probe_is_probed_again(run, shards, monkeypatch):
    found = (run / "omni" / "probe.json").read_text()
    (run / "omni" / "probe.json").unlink()
    asked, measure = [], probes.measure

    def measured(recipe, stage, *rest):
        asked.append(stage.name)
        return measure(recipe, stage, *rest)

    monkeypatch.setattr(probes, "measure", measured)
    run_recipe(settings(shards, run), Accelerator(cpu=True))
    assert asked == ["omni"]
    again = json.loads((run / "omni" / "probe.json").read_text())
    assert again["heldout"] == json.loads(found)["heldout"]


def _frames_of_nothing(wave: torch.Tensor) -> torch.Tensor:
    return torch.zeros(*wave.shape[:-1], wave.shape[-1] // 160, 80)


def _spectra_of_nothing(mel: torch.Tensor) -> torch.Tensor:
    return torch.zeros(*mel.shape[:-1], 401)


@pytest.mark.parametrize(("kind", "head"), [
    ("codec", ""), ("flow", "flow"), ("vocoder", "vocoder"), ("vocoder", "hifigan"),
    ("speak", "depth"),
])  # fmt: skip
def test_operations_of_speech_are_those_that_it_runs(
    make_speaker, make_sound, kind, head, monkeypatch
):
    from omni.processing.messages import assistant, audio, user

    """Of clips that are as long, for padding is not needed; analysing a wave is no work of nets."""
    for place in ("stages.objectives.speech", "omni.heads.vocoder"):
        monkeypatch.setattr(f"{place}.log_mel", _frames_of_nothing)
    for vocoder in ("vocoder", "hifigan"):
        monkeypatch.setattr(f"omni.heads.{vocoder}.magnitudes", _spectra_of_nothing)
    model, processor = make_speaker("depth", "flow", "hifigan" if head == "hifigan" else "vocoder")
    patterns = {"codec": {"encoders": 1.0}, "speak": {"*": 1.0, "encoders": 0.0}}
    set_trainable(model, patterns.get(kind, {f"heads.the_{head}": 1.0}))
    task = Task(model, kind).train()
    place: Any = SimpleNamespace(
        item=SimpleNamespace(source="s"), entry=SimpleNamespace(where="x.tar:1")
    )
    rows = [{"messages": [user("Say it"), assistant("one", audio(make_sound(seconds)))]}
            for seconds in (0.8, 0.8)]  # fmt: skip
    talks = [talk for row in rows for talk in task.objective.rendering.documents(row)]
    row = make_batch(processor, [(place, [processor.encode(talk)]) for talk in talks], [], 0, 0, 0)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        task(row.tensors | task.step_counts([row.tensors]), torch.tensor(9.0)).total.backward()
    found = Flops(model, task.objective.runs_llm, kind if kind != "speak" else "depth").of(row)
    assert task.objective.runs_part == ("depth" if kind == "speak" else kind)
    assert sum(found.values()) == pytest.approx(counter.get_total_flops(), rel=0.1)
    part = f"the_{head}" if head else "speech"
    spent = {name for name, value in found.items() if value}
    assert spent == {part, *(["llm", "speech"] if kind == "speak" else []),
                     *(["speech"] if kind == "flow" else [])}  # fmt: skip
