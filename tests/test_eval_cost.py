"""The length of a prompt, before it is encoded: exact but for videos."""

import io
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from eval.answering.answerer import plan_batches
from eval.answering.cost import TokenCost
from omni.media.decode import MediaError
from omni.processing.messages import audio, image, system, user, video


@pytest.fixture
def prompts(make_picture, make_sound, tmp_path):
    """Prompts of every kind of part, and every form that a medium may have."""
    file = tmp_path / "sound.wav"
    file.write_bytes(make_sound(2.3))
    picture = Image.open(io.BytesIO(make_picture(2)))
    return {
        "words": [system("Be brief."), user("Two and two?" * 30)],
        "picture bytes": [user(image(make_picture(1)), "图片左边是哪一类东西？")],
        "pictures": [user("A", image(picture), "or", image(make_picture(1)), "?")],
        "sound bytes": [user(audio(make_sound(0.3)), "What?")],
        "sound file": [user(audio(str(file)), "What?")],
        "sound array": [user(audio(np.zeros(50_000, np.float32)), image(picture), "What?")],
    }


def test_tokens_are_counted_and_nothing_decoded(omni_pair, prompts, monkeypatch):
    _, processor = omni_pair
    lengths = {name: len(processor.encode(p, generation=True)) for name, p in prompts.items()}
    monkeypatch.setattr(type(processor), "encode", None)
    assert {name: TokenCost(processor)(p) for name, p in prompts.items()} == lengths


def test_what_cannot_be_read_is_an_error_of_its_question(omni_pair):
    for broken in (image(b"no picture"), audio("/no/such/file.wav")):
        with pytest.raises(MediaError):
            TokenCost(omni_pair[1])([user(broken)])


def test_one_video_stands_for_all():
    encoded = []

    def encode(messages, generation):
        encoded.append(messages)
        return range(116)

    cost = TokenCost(SimpleNamespace(encode=encode))
    assert cost([user(video(b"1"), "x" * 400)]) == 116
    assert cost([user(video(b"2"), "x" * 800)]) == 216
    assert len(encoded) == 1


def test_only_what_is_shown_twice_is_moved_from_its_place_by_length():
    costs = {f"{number}": 1000 + number for number in range(8)}
    media = {key: key for key in costs} | {"7": "same", "0": "same"}
    batches = plan_batches(costs, media, token_budget=10_000, max_batch=2)
    assert batches == [["6", "5"], ["4", "3"], ["2", "1"], ["7", "0"]]
