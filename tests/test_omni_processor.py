"""Messages -> tensors: where labels are, what a prompt is, and what is refused."""

import pytest
import torch
from jinja2.exceptions import TemplateSyntaxError

from omni import OmniProcessor
from omni.model.forward import load_text_tokenizer
from omni.processing.messages import MessageError, assistant, audio, image, system, user, validate
from omni.processing.processor import IGNORE_INDEX, PlaceholderError
from omni.processing.template import CHATML


def labelled(processor, encoded) -> list[str]:
    """Return the runs of text that carry labels."""
    runs, current = [], []
    for label in [*encoded.labels.tolist(), IGNORE_INDEX]:
        if label != IGNORE_INDEX:
            current.append(label)
        elif current:
            runs.append(processor.tokenizer.decode(current))
            current = []
    return runs


def test_only_answers_and_their_end_marker_are_labelled(omni_pair, make_picture):
    _, processor = omni_pair
    encoded = processor.encode([
        system("Be brief."),
        user(image(make_picture(0)), "What? <b>"), assistant("A cat."),
        user("Sure?"), assistant("Yes. A cat."),
    ])  # fmt: skip
    assert labelled(processor, encoded) == ["A cat.<|im_end|>", "Yes. A cat.<|im_end|>"]
    kept = encoded.labels != IGNORE_INDEX
    assert torch.equal(encoded.labels[kept], encoded.input_ids[kept])
    assert len(encoded) == len(encoded.input_ids) == len(encoded.labels)


def test_an_answer_equal_to_the_question_is_found_in_its_own_turn(omni_pair):
    _, processor = omni_pair
    encoded = processor.encode([user("assistant"), assistant("user"), user("x"), assistant("x")])
    assert labelled(processor, encoded) == ["user<|im_end|>", "x<|im_end|>"]


@pytest.mark.parametrize("turns", [1, 2])
def test_a_prompt_is_a_prefix_of_the_training_tokens(omni_pair, make_picture, make_sound, turns):
    _, processor = omni_pair
    talk = [user(image(make_picture(0)), "A"), assistant(" spaced "),
            user(audio(make_sound(0.5)), "B"), assistant("b")]  # fmt: skip
    whole = processor.encode(talk)
    prompt = processor.encode(talk[: 2 * turns - 1], generation=True)
    assert torch.equal(whole.input_ids[: len(prompt)], prompt.input_ids)
    assert whole.labels[len(prompt)] == whole.input_ids[len(prompt)]  # the answer begins here
    assert whole.labels[len(prompt) - 1] == IGNORE_INDEX


def test_packing_restarts_positions_and_never_labels_a_first_token(omni_pair):
    _, processor = omni_pair
    encoded = [processor.encode([user("q" * n), assistant("a")]) for n in (1, 5)]
    encoded[1].labels[0] = 7  # as if a template labelled its first token
    batch = processor.pack(encoded)
    lengths = [len(e) for e in encoded]
    positions = batch["position_ids"][0].tolist()
    assert positions == [*range(lengths[0]), *range(lengths[1])]
    assert "attention_mask" not in batch
    assert batch["labels"][0, lengths[0]] == IGNORE_INDEX
    assert encoded[1].labels[0] == 7  # the sample itself is untouched


def test_padding_goes_left(omni_pair):
    _, processor = omni_pair
    encoded = [processor.encode([user("q" * n)], generation=True) for n in (1, 5)]
    batch = processor.pad(encoded)
    assert batch["attention_mask"][0].tolist() == [0] * 4 + [1] * len(encoded[0])
    assert torch.equal(batch["input_ids"][0, 4:], encoded[0].input_ids)


@pytest.mark.parametrize("word", ["<|vision|>", "<|im_end|>", "<|im_start|>", "<|endoftext|>"])
def test_special_tokens_that_a_text_spells_stay_text(omni_pair, make_picture, word):
    """In questions, answers and prompts; the template's own, and media, stay what they are."""
    _, processor = omni_pair
    tokenizer, special = processor.tokenizer, processor.tokenizer.convert_tokens_to_ids(word)
    odd = "\U000f0000"  # what stands in for a special token may be in the text too
    talk = [user(image(make_picture(0)), f"Why {word}{word}?"), assistant(f"{odd}a {word}, so.")]
    same = [user(image(make_picture(0)), "Why ##?"), assistant("a #, so.")]
    encoded, plain = processor.encode(talk), processor.encode(same)
    assert (encoded.input_ids == special).sum() == (plain.input_ids == special).sum()
    assert tokenizer.decode(encoded.input_ids) == tokenizer.decode(plain.input_ids).replace(
        "#", word).replace("assistant\n", f"assistant\n{odd}")  # fmt: skip
    assert labelled(processor, encoded) == [f"{odd}a {word}, so.<|im_end|>"]
    spelled = tokenizer(word, split_special_tokens=True, add_special_tokens=False)["input_ids"]
    assert len(spelled) == len(word.encode())
    named = [user(image("img0.png"), *talk[0]["content"][1:]), talk[1]]
    assert processor.text_length(named) == len(encoded) - 4  # of the picture
    prompt = processor.encode(talk[:1], generation=True)
    assert torch.equal(encoded.input_ids[: len(prompt)], prompt.input_ids)


def test_a_template_that_prints_placeholders_is_refused(omni_pair, make_picture):
    _, processor = omni_pair
    twice = OmniProcessor(
        processor.tokenizer,
        processor.modalities,
        CHATML.replace("{{ m.content }}", 2 * "{{ m.content }}"),
    )
    with pytest.raises(PlaceholderError, match=r"8 <\|vision\|> placeholders for 4 vision"):
        twice.encode([user(image(make_picture(0)))], generation=True)


def ended(template: str, eos: str = "<|endoftext|>") -> OmniProcessor:
    tokenizer = load_text_tokenizer("tiny:llama")
    tokenizer.eos_token = eos
    tokenizer.add_special_tokens({"additional_special_tokens": ["<end_of_turn>", "<|end|>"]})
    return OmniProcessor(tokenizer, chat_template=template)


TURNS = "{% for m in messages %}<{{ m.role }}>{{ m.content }}END{% endfor %}LAST"
PROMPT = "{% if add_generation_prompt %}<assistant>{% endif %}"
ENDS = {  # what is printed after an answer, what after the whole -> end marker, of the last answer
    "chatml with another eos": ("<|im_end|>\n", "", "<|im_end|>", ""),
    "gemma": ("<end_of_turn>\n", "", "<end_of_turn>", ""),
    "eos": ("<|endoftext|>\n", "", "<|endoftext|>", ""),
    "two tokens": ("<|end|><end_of_turn>\n", "", "<|end|><end_of_turn>", ""),
    "eos at the very end": ("<|end|>\n", "<|endoftext|>", "<|end|>", "\n<|endoftext|>"),
    "words": ("\n### end\n\n", "", "\n### end", ""),
    "nothing": ("\n", "", "", ""),
}


@pytest.mark.parametrize("kind", ENDS)
def test_the_end_marker_is_what_the_template_prints_after_an_answer(kind):
    turn, whole, marker, more = ENDS[kind]
    last = f"{{% if not add_generation_prompt %}}{whole}{{% endif %}}" + PROMPT
    processor = ended(TURNS.replace("END", turn).replace("LAST", last))
    encoded = processor.encode([user("q"), assistant("Yes."), user("p"), assistant(" No. ")])
    assert labelled(processor, encoded) == [f"Yes.{marker}", f" No. {marker}{more}"]
    assert processor.end_of_turn == marker
    ids, words = processor.ends
    if "<" in marker:
        assert processor.tokenizer.convert_tokens_to_ids(marker[marker.rindex("<") :]) in ids
    assert words == ("" if "<" in marker else marker.strip())


def test_a_template_may_strip_answers_and_refuse_a_system_message():
    """As Gemma's: an answer keeps its label, and what is refused is said."""
    refusing = (
        "{% if messages[0].role == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
        "{{ bos_token }}" + TURNS.replace("m.content", "m.content | trim").replace("LAST", PROMPT)
    ).replace("END", "<end_of_turn>\n")
    processor = ended(refusing)
    encoded = processor.encode([user("q"), assistant(" Yes.\n")])
    assert labelled(processor, encoded) == ["Yes.<end_of_turn>"]
    assert processor.tokenizer.decode(encoded.input_ids).startswith("<user>")  # there is no bos
    with pytest.raises(MessageError, match="refuses this conversation: no system role"):
        processor.encode([system("s"), user("q"), assistant("a")])


def test_a_template_has_what_transformers_gives_it():
    template = (
        "{{ strftime_now('%Y') }}{% for m in messages %}{% if m.role == 'assistant' %}"
        "{% generation %}{{ m.content }}<|end|>{% endgeneration %}{% else %}{{ m.content }}"
        "{% continue %}{% endif %}{% endfor %}"
    )
    encoded = ended(template).encode([user("q"), assistant("a")])
    assert labelled(ended(template), encoded) == ["a<|end|>"]


@pytest.mark.parametrize("template", ["{% for m in messages %}", "{{ nothing.at_all }}"])
def test_a_template_that_is_broken_is_named(template):
    with pytest.raises((MessageError, TemplateSyntaxError), match=r"undefined|endfor"):
        ended(template).encode([user("q"), assistant("a")])


BAD = {
    "unknown role 'robot'": [{"role": "robot", "content": [{"type": "text", "text": "x"}]}],
    "unknown part type 'smell'": [{"role": "user", "content": [{"type": "smell", "smell": "x"}]}],
    "a non-empty list": [],
    "content must be": [{"role": "user", "content": "plain"}],
    "system message can only come first": [user("a"), system("b")],
    "an assistant message holds text and audio only": [user("a"), assistant(image(b"x"))],
    "needs the keys": [{"role": "user"}],
    "needs the keys 'role'": [{"role": "user", "text": "x"}],
    "needs the keys 'role' and": [{"from": "human", "value": "x"}],
    "text must be a string": [user({"type": "text", "text": 3})],
    "needs the key 'image'": [user({"type": "image"})],
}


@pytest.mark.parametrize("reason", BAD)
def test_bad_messages_say_what_is_wrong(omni_pair, reason):
    _, processor = omni_pair
    with pytest.raises(MessageError, match=reason):
        processor.encode(BAD[reason])


def test_a_part_that_names_a_missing_file_is_refused():
    with pytest.raises(MessageError, match=r"'img1\.png'; the sample has: img0\.png"):
        validate([user(image("img1.png"))], parts={"img0.png"})


def test_a_modality_that_is_not_attached_is_named(make_model, specs, make_picture, make_sound):
    _, bare = make_model()
    with pytest.raises(MessageError, match=r"no encoder for it \(has: none"):
        bare.encode([user(image(make_picture(0)))], generation=True)
    _, seeing = make_model(vision=specs.vision)
    with pytest.raises(MessageError, match=r"no encoder for it \(has: vision"):
        seeing.encode([user(audio(make_sound(0.3)))], generation=True)


def test_a_template_that_rewrites_history_is_refused():
    template = (
        "{% for m in messages %}{{ m.role }}:"
        "{% if loop.last or m.role == 'user' %}{{ m.content }}{% else %}(elided){% endif %}\n"
        "{% endfor %}{% if add_generation_prompt %}assistant:{% endif %}"
    )
    processor = OmniProcessor(load_text_tokenizer("tiny:llama"), chat_template=template)
    processor.encode([user("a"), assistant("b")])
    with pytest.raises(MessageError, match="message 1: the chat template rewrites earlier turns"):
        processor.encode([user("a"), assistant("b"), user("c"), assistant("d")])


def test_a_template_cannot_run_code():
    from jinja2.exceptions import SecurityError

    processor = OmniProcessor(
        load_text_tokenizer("tiny:llama"),
        chat_template="{{ messages.__class__.__mro__[1].__subclasses__() }}",
    )
    with pytest.raises(SecurityError):
        processor.encode([user("a")], generation=True)
