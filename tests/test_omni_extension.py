"""Pictures of any size work everywhere, and docs/extending.md as it is written."""

import copy
import io
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from data_shards.index.index import Index
from data_shards.plan.plan import Plan, PlanConfig
from data_shards.read.loader import Loader
from data_shards.shards.sample import Sample
from data_shards.shards.write import write_shards
from omni import OmniForConditionalGeneration, OmniProcessor
from omni.encoders import ENCODERS
from omni.features.cache import FeatureCache
from omni.generation.answer import answer
from omni.generation.settings import Generation
from omni.media.facts import Facts, facts_of
from omni.processing.messages import assistant, image, user
from omni.projectors import PROJECTORS, item_lengths
from stages.metrics.flops import Flops
from stages.objectives.task import Task

PAGE = Path(__file__).parents[1] / "docs" / "extending.md"
NATIVE = {"kind": "native_patches", "patch": 16}
VIT = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
       "intermediate_size": 48, "patch_size": 8}  # fmt: skip
QWEN2_VL = {"kind": "qwen2_vl", "model_config": {"depth": 1, "embed_dim": 32, "num_heads": 2}}
NAFLEX = {"kind": "naflex", "model_config": {**VIT, "num_patches": 16}, "max_patches": 24}
TILES = {"kind": "timm", "architecture": "test_vit", "image_size": 48,
         "model_args": {"img_size": 48}, "resize": {"by": "tiles", "most": 2}}  # fmt: skip
CASES = {
    "encoder": ({"encoder": NATIVE, "projector": {"kind": "patch_concat_mlp"}}, [4, 8]),
    "projector": (None, [5, 5]),
    "qwen2_vl": ({"encoder": QWEN2_VL, "projector": {"kind": "patch_concat_mlp"}}, [6, 8]),
    "naflex": ({"encoder": NAFLEX, "projector": {"kind": "patch_concat_mlp"}}, [6, 8]),
    "tiles": ({"encoder": TILES, "projector": {"kind": "patch_concat_mlp"}}, [12, 12]),
    "both": ({"encoder": NATIVE, "projector": {"kind": "glance", "queries": 3}}, [3, 3]),
}
"""what is attached, and the tokens of the two pictures"""


@pytest.fixture(autouse=True)
def page(monkeypatch):
    """Register the classes of the page's own code."""
    code: dict = {"__name__": "extending"}
    for block in re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL):
        exec(block, code)
    monkeypatch.setitem(ENCODERS, "native_patches", code["NativePatches"])
    monkeypatch.setitem(PROJECTORS, "glance", code["Glance"])


def png(width, height):
    pixels = np.random.default_rng(width).integers(0, 255, (height, width, 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


PICTURES = [png(60, 40), png(50, 120)]


@pytest.fixture(params=CASES)
def case(request, make_model, specs):
    """Give a model, its processor, and what the two pictures become."""
    spec, tokens = CASES[request.param]
    spec = spec or {**specs.vision, "projector": {"kind": "glance", "queries": 5}}
    model, processor = make_model(vision=spec)
    talks = [[user(image(one), "What is it?"), assistant("A cat.")] for one in PICTURES]
    encoded = [processor.encode(talk) for talk in talks]
    return SimpleNamespace(model=model, processor=processor, tokens=tokens, encoded=encoded)


def test_the_plan_knows_the_tokens_of_every_picture(case):
    facts = [facts_of("image", one) for one in PICTURES]
    table = np.array(facts, dtype=[(n, type(v)) for n, v in Facts()._asdict().items()])
    planned, cells = case.processor.media_lengths("image", table)
    modality = case.processor.modalities["vision"]
    made = [item_lengths(modality, e.media["vision"][0]) for e in case.encoded]
    placed = [int((e.input_ids == modality["token_id"]).sum()) for e in case.encoded]
    assert planned.tolist() == placed == [sum(n) for n in made] == case.tokens
    with torch.no_grad():
        media = case.model.take_media("vision", case.processor.pack(case.encoded))
        found = case.model.encoders["vision"](*media).cells
    starts = np.cumsum([0, *map(len, made[:-1])])  # of each picture's items
    assert np.add.reduceat(found, starts).tolist() == cells.tolist()


def test_it_learns_alike_alone_and_packed(case):
    model = case.model.train()
    batch = case.processor.pack(case.encoded)
    found = model(**batch)
    alone = [model(**case.processor.pack([one])).token_losses for one in case.encoded]
    torch.testing.assert_close(found.token_losses, torch.cat(alone), atol=1e-5, rtol=1e-4)
    found.loss.backward()
    parts = [*model.encoders.named_parameters(), *model.projectors.named_parameters()]
    assert all(p.grad is not None and p.grad.isfinite().all() for _, p in parts)
    assert any(p.grad.any() for _, p in parts)


def test_it_is_saved_and_loaded_to_the_bit(case, tmp_path):
    case.model.save_pretrained(tmp_path)
    case.processor.save_pretrained(tmp_path)
    model = OmniForConditionalGeneration.from_pretrained(tmp_path).eval()
    processor = OmniProcessor.from_pretrained(tmp_path)
    state, loaded = case.model.state_dict(), model.state_dict()
    assert state.keys() == loaded.keys()
    assert all(torch.equal(state[name], loaded[name]) for name in state)
    with torch.no_grad():
        expected = case.model(**case.processor.pack(case.encoded))
        assert torch.equal(model(**processor.pack(case.encoded)).token_losses,
                           expected.token_losses)  # fmt: skip


def test_it_answers_the_same_alone_in_a_batch_and_by_beams(case):
    prompts = [[user(image(one), "What is it?")] for one in [*PICTURES, PICTURES[0]]]
    how = Generation(max_new_tokens=4)
    together = answer(case.model, case.processor, prompts, how)
    assert together == [answer(case.model, case.processor, [p], how)[0] for p in prompts]
    batch = case.processor.pad([case.processor.encode(p, generation=True) for p in prompts])
    ways = {"max_new_tokens": 4, "do_sample": False, "num_beams": 2}
    beams = case.model.generate(**batch, **ways)
    alone = [case.model.generate(**case.processor.pad([case.processor.encode(p, generation=True)]),
                                 **ways) for p in prompts]  # fmt: skip
    new = batch["input_ids"].shape[1]
    assert [row[new:].tolist() for row in beams] == [one[0, -4:].tolist() for one in alone]


@pytest.mark.parametrize("where", ["memory", "files"])
def test_its_features_are_cached(where, case, tmp_path):
    model = case.model
    model.encoders.requires_grad_(False)
    batch = case.processor.pack([*case.encoded, copy.deepcopy(case.encoded[0])])
    with torch.no_grad():
        plain = model(**batch).token_losses
        model.feature_cache = cache = FeatureCache(1 << 20, tmp_path if where == "files" else None)
        first, second = model(**batch).token_losses, model(**batch).token_losses
    torch.testing.assert_close(first, plain, atol=1e-5, rtol=1e-5)
    assert torch.equal(first, second)
    modality = case.processor.modalities["vision"]
    first, second = (len(item_lengths(modality, e.media["vision"][0])) for e in case.encoded)
    assert (cache.misses, cache.hits) == (first + second, first + 2 * first + second)


@pytest.mark.parametrize("objective", ["sft", "align"])
def test_it_trains_from_shards(objective, case, tmp_path):
    meta = {"source": "t", "license": "MIT", "schema": 1}
    talk = [user(image("img0.png"), "What?"), assistant("A cat.")]
    write_shards([Sample(talk, {"img0.png": one}, meta) for one in PICTURES], tmp_path / "s")
    index = Index.open(tmp_path / "s")
    lengths = index.lengths(case.processor)
    config = PlanConfig({"x": 1.0}, max_tokens=int(lengths.tokens.sum()))
    loader = Loader(Plan({"x": index}, config, {"x": lengths}), case.processor)
    batch, _ = next(iter(loader))
    assert sorted(batch.documents.lengths) == sorted(lengths.tokens.tolist())
    assert batch.counts["images"] == 2
    flops = Flops(case.model, objective == "sft").of(batch)
    assert flops["vision"] > 0
    loss = Task(case.model, objective).train()(batch.tensors, torch.tensor(9.0)).total
    loss.backward()
    assert loss.isfinite()


@pytest.mark.parametrize("bias", [True, False])
def test_tokens_are_as_large_as_text_whatever_makes_them(bias, make_model, specs, monkeypatch):
    class Narrow(PROJECTORS["glance"]):
        def __init__(self, input_width: int, output_width: int, queries: int = 16):
            super().__init__(input_width, output_width, queries)
            self.out = torch.nn.Linear(input_width, output_width, bias=bias)

    class Bare(torch.nn.Module):
        def __init__(self, input_width: int, output_width: int):
            super().__init__()

    monkeypatch.setitem(PROJECTORS, "narrow", Narrow)
    monkeypatch.setitem(PROJECTORS, "bare", Bare)
    model, processor = make_model(vision={**specs.vision, "projector": {"kind": "narrow"}})
    media = model.take_media("vision", processor.pack([processor.encode(
        [user(image(PICTURES[0])), assistant("A cat.")])]))  # fmt: skip
    ratio = model.encode("vision", *media).std() / model.get_input_embeddings().weight.std()
    assert 0.2 < ratio < 5
    with pytest.raises(ValueError, match=r"no nn\.Linear"):
        make_model(vision={**specs.vision, "projector": {"kind": "bare"}})
