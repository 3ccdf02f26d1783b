"""Prompts that begin alike: answered as alone, from fewer tokens, only where that is right."""

from types import SimpleNamespace

import pytest
import torch
from transformers import LlamaConfig, MistralConfig

import omni.generation.answer
from eval.answering.backends.ours import for_model
from omni.generation.prefix import share, shares
from omni.generation.settings import Generation
from omni.processing.messages import audio, image, user


@pytest.fixture
def prompts(omni_pair, make_picture, make_sound):
    """Make (name, prompt) of questions; equal letters of a name begin with the same media."""
    one, two, other = (image(make_picture(seed)) for seed in (1, 2, 3))
    tone, noise = audio(make_sound(0.5)), audio(make_sound(0.5, 300))
    look, listen = "See which of the two is red, and say so. ", "Say at once what you are told: "
    asked = {
        "a1": [user(one, two, 2 * look, "A. left B. right")],
        "a2": [user(one, two, 2 * look, "A. right B. left")],
        "a3": [user(one, two, 2 * look, "So?")],
        "b1": [user(one, other, 2 * look, "A. left B. right")],
        "c1": [user(tone, 3 * listen, "in English")],
        "c2": [user(tone, 3 * listen, "in words of one syllable")],
        "d1": [user(noise, 3 * listen, "in English")],
    }
    _, processor = omni_pair
    return {name: processor.encode(said, generation=True) for name, said in asked.items()}


def test_sharing_changes_no_answer(omni_pair, prompts):
    model, processor = omni_pair
    settings = {"max_new_tokens": 6, "min_new_tokens": 6, "do_sample": False, "pad_token_id": 0,
                "output_logits": True, "return_dict_in_generate": True}  # fmt: skip
    shared = share(processor, list(prompts.values()))
    assert shared is not None
    names = list(prompts)
    groups = [{names[row] for row in (shared.of == head).nonzero()[:, 0].tolist()}
              for head in range(len(shared.heads["input_ids"]))]  # fmt: skip
    assert groups == [{"a1", "a2", "a3"}, {"b1"}, {"c1", "c2"}, {"d1"}]
    together = model.generate(**shared.to_generate(model), **settings)
    steps = torch.stack(together.logits, 1)  # (B, 6, V)
    for row, prompt in enumerate(prompts.values()):
        alone = model.generate(**processor.pad([prompt]), **settings)
        torch.testing.assert_close(torch.stack(alone.logits, 1)[0], steps[row], atol=1e-4, rtol=0)
    for mine, other in ((0, 3), (4, 6)):  # another picture does matter, and another sound
        assert not torch.allclose(steps[mine], steps[other], atol=1e-3)


def test_fewer_tokens_run(omni_pair, prompts):
    model, processor = omni_pair
    group = [prompts[name] for name in ("a1", "a2")]
    shared = share(processor, group)
    assert shared is not None
    (common,) = shared.heads["attention_mask"].sum(1).tolist()
    assert torch.equal(group[0].input_ids[:common], group[1].input_ids[:common])
    assert group[0].input_ids[common] != group[1].input_ids[common]
    ran = []
    decoder = model.get_decoder()
    hook = decoder.register_forward_pre_hook(
        lambda _, args, given: ran.append(given["inputs_embeds"].shape[:2].numel()),
        with_kwargs=True,
    )
    model.generate(**shared.to_generate(model), max_new_tokens=1, do_sample=False, pad_token_id=0)
    hook.remove()
    assert sum(ran) == common + 2 * max(len(prompt) - common for prompt in group)


def test_the_evaluation_shares(omni_pair, make_picture, monkeypatch):
    model, processor = omni_pair
    asked = [[user(image(make_picture(seed)), "Which one is it, then? ", options)]
             for options in ("A. red", "A. blue", "A. pink") for seed in (1, 2)]  # fmt: skip
    found = [for_model(model, processor, max_batch=1)(asked, Generation(8))]
    made = []

    def noted(*given):
        made.append(share(*given))
        return made[-1]

    monkeypatch.setattr(omni.generation.answer, "share", noted)
    found.append(for_model(model, processor)(asked, Generation(8)))
    assert [len(shared.heads["input_ids"]) for shared in made if shared] == [2]
    assert found[0] == found[1]


def test_what_has_little_in_common_is_not_split(omni_pair, prompts):
    _, processor = omni_pair
    assert share(processor, [prompts["a1"]]) is None
    assert share(processor, [prompts["b1"], prompts["c1"], prompts["d1"]]) is None


@pytest.mark.parametrize(
    ("config", "right"), [(LlamaConfig(), True), (MistralConfig(sliding_window=64), False)]
)
def test_a_sliding_window_shares_nothing(config, right):
    assert shares(SimpleNamespace(config=config)) is right
