"""What an answer holds, and that drawing it depends on nothing but seed, prompt and number."""

from dataclasses import fields, replace
from typing import Any

import pytest
import torch

from eval.answering.answerer import key_of
from eval.answering.backends.ours import for_model
from omni.generation.answer import answer, complete, prompts
from omni.generation.prefix import Shared
from omni.generation.settings import Generation
from omni.processing.identity import identify
from omni.processing.messages import audio, image, user

DRAWN = Generation(max_new_tokens=8, temperature=0.8, top_p=0.9, seed=3)
MODES = {
    "greedy": Generation(max_new_tokens=8),
    "drawn": replace(DRAWN, top_p=1.0),
    "nucleus": DRAWN,
    "several": replace(DRAWN, n=3),
}


@pytest.fixture(scope="module")
def talks(make_picture, make_sound):
    """Prompts of all lengths and media; those of one beginning share it where that is wanted."""
    one, two, tone = image(make_picture(1)), image(make_picture(2)), audio(make_sound(0.4))
    look = 4 * "See which of the two is red, and say so at once. "
    return [
        [user("Two and two?")],
        [user(one, two, look, "A. left")],
        [user(one, two, look, "B. right")],
        [user(one, two, look, "So?")],
        [user(tone, one, "And now, what is said?")],
    ]


def asked(talks) -> list[str]:
    return [identify(talk).whole for talk in talks]


@pytest.mark.parametrize("sharing", [False, True])
@pytest.mark.parametrize("mode", MODES)
def test_logprobs_are_those_of_a_forward_pass(talker, talks, mode, sharing):
    model, processor = talker
    generation = MODES[mode]
    batch = prompts(processor, talks, sharing)
    assert isinstance(batch, Shared) == sharing
    found = complete(model, processor, batch, generation, keys=asked(talks))
    assert len(found) == len(talks) * generation.n
    placeholders = [m["token_id"] for m in model.config.modalities.values()]
    for row, completion in enumerate(found):
        one = prompts(processor, [talks[row // generation.n]])
        start = one["input_ids"].shape[1]
        for name, more in (("input_ids", completion.ids),
                           ("attention_mask", torch.ones_like(completion.ids))):  # fmt: skip
            one[name] = torch.cat([one[name], more[None]], 1)
        with torch.no_grad():
            logits = model(**one).logits[0, start - 1 : -1]  # (T, V)
        logits[:, [i for i in placeholders if i < logits.shape[1]]] = -torch.inf
        expected = support(logits, generation).gather(1, completion.ids[:, None])[:, 0]
        assert completion.logprobs.dtype == torch.float32
        torch.testing.assert_close(completion.logprobs, expected, atol=1e-4, rtol=0)


def support(logits: torch.Tensor, generation: Generation) -> torch.Tensor:
    """(T, V) log-probabilities that tokens were drawn with, by the definition of a nucleus."""
    if not generation.temperature:
        return logits.log_softmax(-1)
    probabilities = (logits / generation.temperature).softmax(-1)
    for row in probabilities:
        order = row.argsort(descending=True)
        before = row[order].cumsum(0) - row[order]
        row[order[before >= generation.top_p]] = 0
    return (probabilities / probabilities.sum(-1, keepdim=True)).log()


@pytest.mark.parametrize("mode", MODES)
def test_no_answer_depends_on_its_batch(talker, talks, mode):
    model, processor = talker
    generation = MODES[mode]
    keys = asked(talks)
    alone = [complete(model, processor, prompts(processor, [talk]), generation, keys=[key])
             for talk, key in zip(talks, keys, strict=True)]  # fmt: skip
    alone = [completion for found in alone for completion in found]
    assert len({completion.text for completion in alone}) > len(talks) / 2
    for order in ([0, 1, 2, 3, 4], [4, 2, 0, 3, 1]):
        rows = [n * generation.n + number for n in order for number in range(generation.n)]
        for sharing in (False, True):
            batch = prompts(processor, [talks[n] for n in order], sharing)
            assert isinstance(batch, Shared) == sharing
            together = complete(model, processor, batch, generation, keys=[keys[n] for n in order])
            for row, completion in zip(rows, together, strict=True):
                assert completion.ids.tolist() == alone[row].ids.tolist()
                assert completion.finish == alone[row].finish
    one, many = (for_model(model, processor, max_batch=n) for n in (1, 5))
    if generation.n == 1:
        assert one(talks, generation) == many(talks, generation) == [c.text for c in alone]
        assert answer(model, processor, talks, generation) == [c.text for c in alone]


def test_the_noise_follows_from_seed_prompt_and_number(talker, make_picture):
    model, processor = talker
    talks = [[user(image(make_picture(seed)), "What?")] for seed in (1, 2)]
    few = replace(DRAWN, n=2, temperature=2.0, top_p=1.0)

    def ids(generation: Generation, keys: Any = None, talks: Any = talks) -> list[list[int]]:
        batch = prompts(processor, talks)
        found = complete(model, processor, batch, generation, keys=keys or asked(talks))
        return [completion.ids.tolist() for completion in found]

    first = ids(few)
    torch.manual_seed(7)
    state = torch.get_rng_state()
    assert ids(few) == first
    assert torch.equal(torch.get_rng_state(), state)  # nor does it draw from anybody's stream
    assert len({str(found) for found in first}) == 4
    more = ids(replace(few, n=4))
    assert [more[0:2], more[4:6]] == [first[0:2], first[2:4]]  # more of them change no first one
    longer = ids(replace(few, max_new_tokens=12))
    assert [found[:8] for found in longer] == first
    assert ids(replace(few, seed=4)) != first
    assert ids(few, ["a", "b"]) != ids(few, ["b", "a"])
    same = ids(few, ["a", "a"], [talks[0], talks[0]])
    assert same[:2] == same[2:]


def test_draws_have_the_frequencies_of_the_distribution(talker):
    model, processor = talker
    generation = replace(DRAWN, max_new_tokens=1, n=2000, temperature=2.0)
    found = complete(model, processor, prompts(processor, [[user("Hi")]]), generation)
    drawn = torch.tensor([int(completion.ids[0]) for completion in found])
    probability = {int(c.ids[0]): float(c.logprobs[0].exp()) for c in found}
    assert len(probability) > 3
    chi2 = sum(
        ((drawn == token).sum().item() - 2000 * p) ** 2 / (2000 * p)
        for token, p in probability.items()
    )
    assert chi2 < 3 * len(probability)
    assert sum(probability.values()) == pytest.approx(1, abs=0.02)  # over the nucleus


@pytest.mark.parametrize("temperature", [1e-30, 1e-3])
def test_a_low_temperature_is_greedy(talker, talks, temperature):
    model, processor = talker
    greedy = answer(model, processor, talks, Generation(8))
    assert answer(model, processor, talks, Generation(8, temperature=temperature)) == greedy


@pytest.mark.parametrize(
    ("generation", "text", "finish", "kept"),
    [
        (Generation(30), "Yes. Or no", "stop", "Yes. Or no<|im_end|>"),
        (Generation(30, stop=(" no", "Or")), "Yes.", "stop", "Yes. Or"),
        (Generation(7, stop=("Or",)), "Yes.", "stop", "Yes. Or"),
        (Generation(5), "Yes.", "length", "Yes. "),
    ],
)
def test_why_an_answer_ends(make_model, spell, generation, text, finish, kept):
    model, processor = make_model()
    spell(model, processor, [user("?")], "Yes. Or no<|im_end|> and on")
    (found,) = complete(model, processor, prompts(processor, [[user("?")]]), generation)
    assert (found.text, found.finish) == (text, finish)
    assert processor.tokenizer.decode(found.ids) == kept
    assert len(found.logprobs) == len(found.ids)
    assert not found.ids.is_inference()  # as rollouts they take part in training


def test_a_stop_string_in_the_thinking_ends_nothing(make_model, spell):
    model, processor = make_model()
    told = "<think>A\n\nB</think>\nB\n\nC<|im_end|>"
    spell(model, processor, [user("?")], told)
    batch = prompts(processor, [[user("?")]])
    (found,) = complete(model, processor, batch, Generation(60, stop=("\n\n",)))
    assert (found.text, found.finish) == ("<think>A\n\nB</think>\nB", "stop")
    assert processor.tokenizer.decode(found.ids) == "<think>A\n\nB</think>\nB\n\n"
    (found,) = complete(model, processor, batch, Generation(11, stop=("\n\n",)))
    assert (found.text, found.finish) == ("<think>A\n\nB", "length")


WRONG = {
    "max_new_tokens": [0, 1.5, True, "8"],
    "stop": ["\n", ("",), (1,), None],
    "temperature": [-0.1, float("nan"), float("inf"), "1", None],
    "top_p": [0, 1.1, float("nan"), None],
    "n": [0, -1, 2.0],
    "seed": [-1, 1 << 63, 0.5],
    "thinking": [4, {"min": 1}, "x"],
}
OTHER = {"max_new_tokens": 9, "stop": ("x",), "temperature": 0.5, "top_p": 0.5, "n": 2, "seed": 1,
         "thinking": {"max": 2}}  # fmt: skip


@pytest.mark.parametrize("name", [field.name for field in fields(Generation)])
def test_every_field_is_checked_and_part_of_the_key(name):
    for value in WRONG[name]:
        with pytest.raises(ValueError, match=rf"^{name} must be .*, not |^{name} must be below"):
            Generation(**{name: value})
    changed = replace(Generation(), **{name: OTHER[name]})
    assert key_of("q", changed) != key_of("q", Generation())
    assert key_of("q", changed) == key_of("q", replace(Generation(), **{name: OTHER[name]}))


def test_equal_descriptions_have_equal_keys():
    one = Generation(stop=["a"], temperature=1, top_p=1)  # type: ignore[arg-type]
    assert one.key == Generation(stop=("a",), temperature=1.0).key
    assert hash(one) == hash(Generation(stop=("a",), temperature=1.0))
