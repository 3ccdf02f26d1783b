"""A processor is called as those of transformers are, and nothing passed to it is lost."""

import base64
import io

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import pipeline

from omni.media.decode import load_audio
from omni.model.head import IGNORE_INDEX
from omni.processing.messages import MessageError, assistant, audio, image, system, user
from omni.processing.processor import PlaceholderError


def _same(one, other):
    assert one.keys() == other.keys()
    for name, tensor in other.items():
        torch.testing.assert_close(one[name], tensor, msg=name)


@pytest.fixture(scope="module")
def asked(make_picture, make_sound):
    """Hold three conversations, and their pictures and sounds by conversation."""
    png, wav = make_picture(1), make_sound(0.5)
    talks = [
        [system("Be brief."), user(image(png), "or", image(make_picture(2)), "?")],
        [user("Two and two?"), assistant("Four."), user("Sure?")],
        [user(audio(wav), image(png), "and", audio(make_sound(1.2)))],
    ]
    return talks, [[png, make_picture(2)], [], [png]], [[], [], [wav, make_sound(1.2)]]


@pytest.mark.parametrize("nested", [True, False])
def test_texts_with_media_are_what_their_conversations_are(omni_pair, asked, nested):
    _, processor = omni_pair
    talks, images, sounds = asked
    expected = processor.apply_chat_template(talks, tokenize=True, add_generation_prompt=True)
    texts = processor.apply_chat_template(talks, add_generation_prompt=True)
    assert [t.count(processor.image_token) for t in texts] == [2, 0, 1]
    if not nested:
        images, sounds = ([m for row in media for m in row] for media in (images, sounds))
    found = processor(text=texts, images=images, audio=sounds, padding=True, return_tensors="pt")
    _same(found, expected)
    one = processor(text=texts[0], images=images[:1] if nested else images[:2])
    assert one["input_ids"] == [processor.encode(talks[0], generation=True).input_ids.tolist()]


def _wave(data):
    return load_audio(data)


FORMS = {
    "pillow": lambda data: Image.open(io.BytesIO(data)),
    "array": lambda data: np.asarray(Image.open(io.BytesIO(data))),
    "tensor": lambda data: torch.from_numpy(np.array(Image.open(io.BytesIO(data)))).movedim(2, 0),
}
WAVES = {"array": _wave, "tensor": lambda data: torch.from_numpy(_wave(data)),
         "list": lambda data: _wave(data).tolist()}  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "form"),
    [*(("image", form) for form in FORMS.values()), *(("audio", form) for form in WAVES.values())],
)
def test_media_come_in_every_form(omni_pair, make_picture, make_sound, kind, form):
    _, processor = omni_pair
    data = make_picture(1) if kind == "image" else make_sound(0.5)
    name = "images" if kind == "image" else "audio"
    expected = processor(text=f"<|{kind}|>?", **{name: [data]})
    _same(processor(text=f"<|{kind}|>?", **{name: form(data)}), expected)
    _same(processor(text=f"<|{kind}|>?", **{name: [form(data)]}), expected)


@pytest.mark.parametrize("key", ["image", "url", "path", "base64"])
def test_parts_name_their_media_as_in_transformers(omni_pair, make_picture, tmp_path, key):
    _, processor = omni_pair
    (tmp_path / "a.png").write_bytes(make_picture(1))
    refs = {"base64": base64.b64encode(make_picture(1)).decode()}
    part = {"type": "image", key: refs.get(key, str(tmp_path / "a.png"))}
    question = {"type": "text", "text": "What?"}
    found = processor.apply_chat_template(
        [{"role": "user", "content": [part, question]}], tokenize=True
    )
    expected = processor.apply_chat_template([user(image(make_picture(1)), "What?")], tokenize=True)
    _same(found, expected)


TOO_FEW = {
    "none": {"text": "<|image|>?"},
    "one of two": {"text": "<|image|><|image|>", "images": ["a.png"]},
    "another row's": {"text": ["<|image|>", "?"], "images": [[], ["a.png"]]},
    "no marker": {"text": "What?", "audio": np.zeros(1600, np.float32)},
}


@pytest.mark.parametrize("case", TOO_FEW)
def test_media_and_markers_must_agree(omni_pair, case):
    with pytest.raises(MessageError, match=r"the texts have \[.*\] <\|(image|audio)\|>, for \["):
        omni_pair[1](**TOO_FEW[case])


def test_a_video_is_a_file(omni_pair):
    frames = np.zeros((2, 8, 8, 3), np.uint8)
    with pytest.raises(MessageError, match="decoded frames have no times"):
        omni_pair[1](text="<|video|>", videos=[frames])


def test_a_kind_without_an_encoder_is_named(make_model, make_picture):
    _, processor = make_model()
    assert processor.image_token is None
    with pytest.raises(MessageError, match="there is image, but the model has no encoder for it"):
        processor(text="<|image|>", images=make_picture(1))


@pytest.mark.parametrize("options", [{"size": 7}, {"images_kwargs": {"do_resize": False}}])
def test_preprocessing_is_no_option(omni_pair, make_picture, options):
    with pytest.raises(ValueError, match=r"unknown option '(size|do_resize)'"):
        omni_pair[1](text="<|image|>", images=make_picture(1), **options)
    with pytest.raises(ValueError, match=r"unknown option '(size|do_resize)'"):
        omni_pair[1].apply_chat_template([user("a")], tokenize=True, **options)


def test_rows_are_padded_and_cut_as_asked(omni_pair, make_picture):
    _, processor = omni_pair
    texts = ["a", "a bc"]
    rows = processor(text=texts)["input_ids"]
    width = len(rows[1])
    found = processor(text=texts, padding="max_length", max_length=width + 2, padding_side="right",
                      return_tensors="pt")  # fmt: skip
    assert found["input_ids"][0, : len(rows[0])].tolist() == rows[0]
    assert found["attention_mask"].sum(1).tolist() == [len(row) for row in rows]
    assert found["input_ids"].shape == (2, width + 2)
    wide = processor(text=texts, text_kwargs={"padding": True}, pad_to_multiple_of=8)
    assert [len(row) for row in wide["input_ids"]] == [8, 8]
    cut = processor(text=texts, truncation=True, max_length=2)
    assert cut["input_ids"] == [row[:2] for row in rows]
    with pytest.raises(PlaceholderError, match="truncation to 2 tokens cuts media off"):
        processor(text="<|image|>", images=make_picture(1), truncation=True, max_length=2)


def test_the_template_gets_its_variables(omni_pair):
    _, processor = omni_pair
    template = "{% for m in messages %}{{ m.content }}{% endfor %}{{ mood }}{{ tools[0].name }}"
    text = processor.apply_chat_template(
        [{"role": "user", "content": "hi"}],
        chat_template=template,
        mood="glad",
        tools=[{"name": "!"}],
    )
    assert text == "higlad!"
    found = processor.apply_chat_template(
        [user("hi")], chat_template=template, mood="glad", tools=[{"name": "!"}], tokenize=True
    )
    assert processor.decode(found["input_ids"][0]) == "higlad!"
    with pytest.raises(ValueError, match="unknown option 'mood'"):
        processor.apply_chat_template([user("hi")], mood="glad")


def test_content_may_be_a_text_and_the_result_ids_alone(omni_pair):
    _, processor = omni_pair
    plain = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yo"}]
    talk = [user("hi"), assistant("yo")]
    assert processor.apply_chat_template(plain) == processor.apply_chat_template(talk)
    ids = processor.apply_chat_template(plain, tokenize=True, return_dict=False)
    assert ids[0].tolist() == processor.encode(talk).input_ids.tolist()


def test_an_answer_may_go_on(omni_pair):
    _, processor = omni_pair
    talk = [user("hi"), assistant("I am")]
    text = processor.apply_chat_template(talk, continue_final_message=True)
    assert text == "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\nI am"
    found = processor.apply_chat_template(talk, continue_final_message=True, tokenize=True)
    assert processor.decode(found["input_ids"][0]) == text
    with pytest.raises(ValueError, match="pass one of"):
        processor.apply_chat_template(talk, continue_final_message=True, add_generation_prompt=True)


def test_tokens_of_answers_are_told(omni_pair, talks):
    _, processor = omni_pair
    found = processor.apply_chat_template(talks, tokenize=True, return_assistant_tokens_mask=True)
    for row, talk in zip(found["assistant_masks"], talks, strict=True):
        labels = processor.encode(talk).labels
        assert row[-len(labels) :].tolist() == (labels != IGNORE_INDEX).int().tolist()
        assert not row[: -len(labels)].any()
    assert found["assistant_masks"].shape == found["input_ids"].shape


@pytest.mark.parametrize("task", ["image-text-to-text", "any-to-any"])
@pytest.mark.parametrize("chat", [True, False])
def test_pipelines_answer_about_a_picture(omni_pair, make_picture, task, chat):
    model, processor = omni_pair
    picture = Image.open(io.BytesIO(make_picture(1)))
    asks = pipeline(task, model=model, processor=processor)
    options = {"max_new_tokens": 4, "return_full_text": False}
    messages = [user(image(picture), "What is it?")]
    text = processor.apply_chat_template(messages, add_generation_prompt=True)
    given = {"text": messages} if chat else {"text": text, "images": [picture]}
    (found,) = asks(**given, generate_kwargs={"do_sample": False}, **options)
    batch = processor.apply_chat_template(messages, tokenize=True, add_generation_prompt=True)
    ids = model.generate(**batch, max_new_tokens=4, do_sample=False)
    expected = processor.decode(ids[0, batch["input_ids"].shape[1] :], skip_special_tokens=True)
    assert found["generated_text"] == expected


WRONG = {
    "padding_side is left or right": {"padding_side": "top"},
    "padding is True, longest, max_length": {"padding": "most"},
    "padding to max_length needs max_length": {"padding": "max_length"},
    "unknown option 'tools'": {"tools": [{"name": "f"}]},  # the template prints none
}


@pytest.mark.parametrize("reason", WRONG)
def test_what_an_option_cannot_be_is_refused(omni_pair, reason):
    with pytest.raises(ValueError, match=reason):
        omni_pair[1].apply_chat_template([user("a")], tokenize=True, **WRONG[reason])
