"""The page of omni-chat without a browser: what a click does, and what is kept of votes."""

import asyncio
import json
import tarfile
from pathlib import Path

import pytest
import soundfile
import torch
from typer.testing import CliRunner

from omni.generation.answer import answer
from omni.generation.settings import Generation
from omni.generation.speech import begin
from omni.processing.messages import audio, image, user
from omni.serve import chat as command
from omni.serve.engine import Engine
from omni.serve.limits import RequestLimits
from omni.serve.page.answerer import Answerer
from omni.serve.page.examples import ExampleError, heldout
from omni.serve.page.site import names_of, room

VALUES = (0, 1, 0, 6, "", False)  # of the drawer


@pytest.fixture(scope="module")
def speaker(make_speaker, specs):
    """A tiny model that sees, hears and speaks, and says many things."""
    model, processor = make_speaker(vision=specs.vision)
    torch.manual_seed(0)
    model.language_model.lm_head.weight = torch.nn.Parameter(torch.randn(260, 32))
    return model, processor


@pytest.fixture(scope="module")
def answerers(speaker, talker):
    engines = [Engine(*speaker), Engine(*talker)]
    with room():
        yield tuple(Answerer(name, engine, RequestLimits())
                    for name, engine in zip(("one", "two"), engines, strict=True))  # fmt: skip
    for engine in engines:
        engine.close()


@pytest.fixture(scope="module")
def chat(answerers):
    from omni.serve.page.chat import Chat

    return Chat(answerers[0], Generation(), [])


@pytest.fixture
def files(tmp_path, make_picture, make_sound):
    found = {"a b.png": make_picture(0), "q.wav": make_sound(0.4), "not.png": b"no picture",
             "cut.png": make_picture(1)[:60]}  # fmt: skip
    for name, data in found.items():
        (tmp_path / name).write_bytes(data)
    return {name: str(tmp_path / name) for name in found}


def drive(found):
    """Return all that a click yields."""

    async def collect():
        return [step async for step in found]

    return asyncio.run(collect())


def ask(chat, talk, text="Hi?", files=(), values=VALUES):
    return drive(chat.ask({"text": text, "files": list(files)}, talk, *values))


def test_an_answer_grows_to_that_of_the_model_alone(chat, speaker, files):
    from omni.serve.page.talk import Talk

    talk = Talk()
    steps = ask(chat, talk, "What?", [files["a b.png"], files["q.wav"]])
    messages = [user(image(files["a b.png"]), audio(files["q.wav"]), "What?")]
    alone = answer(*speaker, [messages], Generation(max_new_tokens=6))[0]
    assert talk.turns[0].answer.text == alone
    assert steps[0][1] == {"text": "", "files": []}  # the box is free at once
    note = steps[-1][0][-1]["content"]
    counted = speaker[1].encode(messages, generation=True).input_ids
    for name, config in speaker[1].modalities.items():
        assert f"{int((counted == config['token_id']).sum())} {name}" in note
    assert "6 in " in note and "cut at 6" in note


def test_turns_follow_one_another_and_failed_ones_are_forgotten(chat, speaker, files):
    from omni.serve.page.talk import Talk

    talk = Talk()
    for name in ("not.png", "cut.png"):
        shown = ask(chat, talk, "Look", [files[name]])[-1][0]
        assert f"{name}: " in shown[-1]["content"][0]
    ask(chat, talk, "One?")
    first = talk.turns[-1].answer.text
    ask(chat, talk, "Two?")
    content = talk.content(RequestLimits())
    said = [[part["text"] for part in message["content"]] for message in content.messages]
    assert said == [["One?"], [first], ["Two?"]]


@pytest.mark.parametrize(("values", "reason"), [
    ((0, 0, 0, 6, "", False), "top_p must be a number above 0"),
    ((0, 1, 0, 6, "some", False), "thinking must be a whole number"),
])  # fmt: skip
def test_settings_that_cannot_be_are_shown(chat, values, reason):
    from omni.serve.page.talk import Talk

    talk = Talk()
    assert reason in ask(chat, talk, values=values)[-1][0][-1]["content"][0]
    ask(chat, talk)
    assert talk.turns[-1].answer.text


def test_regenerate_draws_with_the_next_seed_and_edit_takes_back(chat, files):
    from omni.serve.page.talk import Talk

    talk, hot = Talk(), (1.5, 1, 3, 6, "", False)
    ask(chat, talk, "Hi?", [files["a b.png"]], hot)
    drive(chat.regenerate(talk, *hot))
    again = talk.turns[0].answer.text
    other = Talk()
    ask(chat, other, "Hi?", [files["a b.png"]], (1.5, 1, 4, 6, "", False))
    assert again == other.turns[0].answer.text and len(talk.turns) == 1
    shown, box = chat.edit(talk)
    assert (shown, box) == ([], {"text": "Hi?", "files": [files["a b.png"]]})


def test_thinking_keeps_to_its_budget(chat):
    from omni.serve.page.talk import Talk

    talk = Talk()
    ask(chat, talk, values=(0, 1, 0, 3, "4", False))
    thought, _, said = talk.turns[0].answer.text.removeprefix("<think>").partition("</think>")
    assert len(thought) <= 4 and said.strip()


@pytest.mark.parametrize("frames", [40, 4])  # for which there is room behind the text
def test_an_answer_is_spoken_as_far_as_the_context_goes(chat, frames, monkeypatch):
    from omni.serve.page.talk import Talk

    encoder, written, talk = chat.answerer.encoder, Talk(), Talk()
    ask(chat, written, values=(0, 1, 0, 12, "", False))
    text = written.turns[0].answer.text
    [prompt] = begin(encoder.processor, [[user("Hi?")]], [text])
    monkeypatch.setattr(encoder, "context", len(prompt) + frames)
    ask(chat, talk, values=(0, 1, 0, 12, "", True))
    turn = talk.turns[0]
    assert turn.answer.text == text and not turn.answer.problem
    wave, rate = soundfile.read(turn.sound)
    assert rate == 16_000 and 0 < len(wave) <= 1280 * min(frames, encoder.frames)


def test_a_stop_ends_within_a_token_and_the_text_stays(chat):
    from omni.serve.page.talk import Talk

    talk = Talk()

    async def stopped():
        async for _ in chat.ask({"text": "Hi?", "files": []}, talk, 0, 1, 0, 1000, "", False):
            if talk.turns[0].answer.text and not talk.stop.set:
                talk.stop()

    asyncio.run(stopped())
    assert talk.turns[0].answer.text and "stopped" in talk.turns[0].answer.note
    ask(chat, talk)
    assert talk.turns[1].answer.whole


def test_who_leaves_frees_the_engine(chat):
    from omni.serve.page.talk import Talk

    async def left():
        found = chat.ask({"text": "Hi?", "files": []}, Talk(), 0, 1, 0, 1000, "", False)
        async for shown, _ in found:
            if "tokens" in shown[-1]["content"]:
                break
        await found.aclose()
        for _ in range(200):
            await asyncio.sleep(0.02)
            if not chat.answerer.engine.running:
                return True

    assert asyncio.run(left())


def test_examples_are_those_held_out_with_their_answers(shards_of, tmp_path):
    found = heldout([shards_of], {"image", "audio"}, tmp_path)
    assert [one.expected for one in found] == ["Thing 0.", "lion.", "Thing 1."]
    assert found[0].files[0].read_bytes()[:4] == b"\x89PNG" and found[0].icon
    assert found[1].label == "♪ Repeat. → lion."
    assert len(heldout([shards_of], {"audio"}, tmp_path)) == 1
    with pytest.raises(ExampleError, match="no heldout"):
        heldout([tmp_path / "nothing"], (), tmp_path)


@pytest.fixture
def shards_of(tmp_path, make_picture, make_sound):
    """Two pictures and a sound, held out, in folders of a folder."""
    samples = [("stamps", f"{n}", "image", "img0.png", make_picture(n), f"Thing {n}.")
               for n in range(2)]  # fmt: skip
    samples.append(("words", "2", "audio", "aud0.wav", make_sound(0.2), "lion."))
    for folder, key, kind, part, data, said in samples:
        tar = tmp_path / "sets" / folder / "heldout-000000.tar"
        tar.parent.mkdir(parents=True, exist_ok=True)
        asked = "Repeat." if kind == "audio" else "What is this?"
        content = [{"type": kind, kind: part}, {"type": "text", "text": asked}]
        row = {
            "messages": [
                {"role": "user", "content": content},
                {"role": "assistant", "content": [{"type": "text", "text": said}]},
            ]
        }
        with tarfile.open(tar, "a") as file:
            for name, blob in (("json", json.dumps(row).encode()), (part, data)):
                path = tmp_path / "part"
                path.write_bytes(blob)
                file.add(path, f"{key}.{name}")
    return tmp_path / "sets"


def test_names_tell_checkpoints_apart():
    assert names_of([Path("/a/run/sft"), Path("/a/other/sft")]) == ["run/sft", "other/sft"]
    assert names_of([Path("/a/run/dpo"), Path("/a/other/sft")]) == ["dpo", "sft"]


@pytest.mark.parametrize(("arguments", "reason"), [
    (["--blind", "--web"], "add --against"),
    (["--against", "{}"], "add --web"),
    (["--web", "--against", "{}"], "the same checkpoint"),
    (["Hi?", "--web"], "asked on the page"),
    (["--ignore-end", "1"], "add --thinking"),
    (["--ignore-end", "1", "--thinking", "4", "--web"], "not for the page"),
    (["--web", "--data", "nowhere"], "no heldout-*.tar"),
    (["--web", "--against", "nowhere"], "not a complete omni checkpoint"),
])  # fmt: skip
def test_wrong_options_are_one_line(tiny_checkpoint, arguments, reason):
    words = [str(tiny_checkpoint), *(word.format(tiny_checkpoint) for word in arguments)]
    result = CliRunner().invoke(command.app, words)
    assert result.exit_code == 2 and reason in result.stderr and result.stderr.count("\n") == 1


def test_without_gradio_it_is_said_how_to_install_it(tiny_checkpoint, monkeypatch):
    import importlib.util

    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name, *rest: None if name == "gradio" else real(name, *rest),
    )
    result = CliRunner().invoke(command.app, [str(tiny_checkpoint), "--web"])
    assert result.exit_code == 2 and "uv pip install -e .[web]" in result.stderr
