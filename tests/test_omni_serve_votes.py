"""Two models side by side: who is hidden, what is kept, and that dpo trains on it."""

import asyncio
import json

import pytest
import torch
from accelerate import Accelerator

from data_shards.shards.write import write_shards
from data_shards.sources.base import Build
from data_shards.sources.formats.preference import Preference
from omni.generation.settings import Generation
from omni.serve.engine import Engine
from omni.serve.limits import RequestLimits
from omni.serve.page.answerer import Answerer
from omni.serve.page.site import room
from omni.serve.page.votes import Votes
from stages.recipe.read import load_recipe
from stages.training.chain import run_recipe

VALUES = (0, 1, 0, 6, "", False)


@pytest.fixture(scope="module")
def pair(talker, make_model, specs):
    other, processor = make_model(vision=specs.vision, audio=specs.audio)
    torch.manual_seed(1)
    other.language_model.lm_head.weight = torch.nn.Parameter(torch.randn(260, 32))
    engines = [Engine(*talker), Engine(other, processor)]
    with room():
        yield tuple(Answerer(name, engine, RequestLimits())
                    for name, engine in zip(("one", "two"), engines, strict=True))  # fmt: skip
    for engine in engines:
        engine.close()


@pytest.fixture
def compare(pair, tmp_path):
    from omni.serve.page.compare import Compare

    return lambda blind=False, seed=0: Compare(
        pair, Generation(seed=seed), [], Votes(tmp_path / "votes"), blind
    )


def ask(page, text, *files):
    from omni.serve.page.compare import Round

    found = Round()

    async def asked():
        async for _ in page.ask({"text": text, "files": [*files]}, found, *VALUES):
            pass

    asyncio.run(asked())
    return found


def test_a_vote_becomes_a_pair_that_dpo_trains_on(compare, tmp_path, make_picture, tiny_checkpoint):
    page, files = compare(), []
    for n, choice in enumerate(("left", "right", "tie", "both bad")):
        file = tmp_path / f"p{n}.PNG"
        file.write_bytes(make_picture(n))
        files.append(file)
        found = ask(page, f"What is {n}?", str(file))
        assert choice in found.choices
        page.vote(choice, found)
        assert not found.choices  # one vote for each question
        page.vote(choice, found)
    assert page.votes.count() == {"one": 1, "two": 1, "tie": 1, "both bad": 1}
    rows = [json.loads(line) for line in page.votes.file.read_text().splitlines()]
    assert [("chosen" in row, "answers" in row) for row in rows] == [(True, False)] * 2 + [
        (False, True)] * 2  # fmt: skip
    build = Build(heldout=0, say=lambda text: None)
    samples = list(Preference(json=page.votes.file).generate(build))
    assert (len(samples), build.skipped, build.facts) == (2, [], {"ties": 2})
    assert [s.meta["vote"]["for"] for s in samples] == ["one", "two"]
    assert [s.parts["img0.png"] for s in samples] == [file.read_bytes() for file in files[:2]]
    assert samples[0].chosen[0]["content"][0]["text"] == rows[0]["chosen"]
    write_shards(samples, tmp_path / "shards")
    run_dpo(tmp_path, tiny_checkpoint)


def run_dpo(tmp_path, checkpoint):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(f"""
output: {tmp_path}/run
text: {checkpoint}
precision: fp32
sources: {{votes: ['{tmp_path}/shards/train-*.tar']}}
stages:
- name: tune
  trainable: {{language_model: 1.0e-3}}
  objective: dpo
  steps: 1
  data: {{mixture: {{votes: 1}}, batch_size: 2}}
""")
    run_recipe(load_recipe(str(recipe), []), Accelerator(cpu=True))
    assert (tmp_path / "run" / "tune" / "model.safetensors").is_file()


def test_blind_hides_names_until_the_vote_and_orders_by_the_seed(compare):
    page = compare(blind=True)
    shown = json.dumps(page.page.get_config_file(), default=str)
    assert '"one"' not in shown and '"two"' not in shown
    orders = {}
    for seed in range(4):
        orders[seed] = [ask(compare(True, seed), f"Q{n}").order for n in range(3)]
        assert [ask(compare(True, seed), f"Q{n}").order for n in range(3)] == orders[seed]
    assert {order for found in orders.values() for order in found} == {(0, 1), (1, 0)}
    found = ask(page, "Q0")
    left = ("one", "two")[found.order[0]]
    told = page.vote("left", found)[-1]
    assert f"Left is {left}" in told
    row = json.loads(page.votes.file.read_text())
    assert row["vote"]["for"] == left and row["vote"]["blind"]
    assert row["chosen"] == found.talks[0].turns[0].answer.text


def test_what_cannot_be_compared_has_no_votes(compare, tmp_path):
    (tmp_path / "not.png").write_bytes(b"no picture")
    page = compare()
    found = ask(page, "Look", str(tmp_path / "not.png"))
    assert not found.choices
    page.vote("left", found)
    assert not page.votes.file.exists()
    found = ask(page, "Hi?")
    assert set(found.choices) >= {"tie", "both bad"}
    for talk in found.talks:
        talk.turns[0].answer = found.talks[0].turns[0].answer
    assert found.choices == ("tie", "both bad")  # equal answers make no pair
