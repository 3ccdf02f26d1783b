"""The pages of omni-chat in a headless Chromium, at the widths of a desk and of a hand."""

import importlib.util
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
import uvicorn

from omni.generation.settings import Generation
from omni.serve.engine import Engine
from omni.serve.limits import RequestLimits
from omni.serve.page.answerer import Answerer
from omni.serve.page.examples import Example
from omni.serve.page.site import make_site, room
from omni.serve.page.votes import Votes
from omni.serve.start import address, bind
from stages.report.picture import browser

spec = importlib.util.spec_from_file_location("browser", Path(__file__).with_name("browser.py"))
driver = importlib.util.module_from_spec(spec)
spec.loader.exec_module(driver)

BOX = "document.querySelector('#question textarea')"
TALK = "document.querySelector('.conversation').innerText"
DONE = "document.querySelector('.conversation').innerText.split('the first after').length - 1"
# what has the focus: its label, its words, or the kind of thing that it is
FOCUS = """(() => { const e = document.activeElement; return [e.ariaLabel, e.innerText,
    e.labels?.[0]?.innerText, e.type, e.title].filter(Boolean).join(' ') })()"""
WIDE = "document.documentElement.scrollWidth - document.documentElement.clientWidth"


@contextmanager
def shown(page):
    """Show a page at a free port of this machine."""
    with bind("127.0.0.1", 0) as bound:
        bound.listen(16)
        server = uvicorn.Server(uvicorn.Config(make_site(page, 1 << 20), log_level="warning"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]}, daemon=True)
        thread.start()
        yield address(bound)
        server.should_exit = True
        thread.join(10)


@pytest.fixture(scope="module")
def tab(tmp_path_factory):
    if not (program := browser()):
        pytest.skip("no chromium is installed to show the pages in")
    with driver.chromium(program, tmp_path_factory.mktemp("profile")) as tab:
        yield tab


@pytest.fixture(scope="module")
def answerers(make_speaker, talker, specs):
    model, processor = make_speaker(vision=specs.vision)
    torch.manual_seed(0)
    model.language_model.lm_head.weight = torch.nn.Parameter(torch.randn(260, 32))
    engines = [Engine(model, processor), Engine(*talker)]
    with room():
        yield [Answerer(name, engine, RequestLimits())
               for name, engine in zip(("one", "two"), engines, strict=True)]  # fmt: skip
    for engine in engines:
        engine.close()


@pytest.fixture(scope="module")
def files(tmp_path_factory, make_picture, make_sound):
    folder = tmp_path_factory.mktemp("files")
    (folder / "a.png").write_bytes(make_picture(0))
    (folder / "q.wav").write_bytes(make_sound(0.3))
    (folder / "not.png").write_bytes(b"no picture")
    return folder


@pytest.fixture(scope="module")
def chat(answerers, files):
    from omni.serve.page.chat import Chat

    example = Example("What is this?", "a square", (files / "a.png",), ("image",))
    with shown(Chat(answerers[0], Generation(max_new_tokens=8), [example]).page) as url:
        yield url


def put(tab, text, *files):
    """Type a question, upload its files, and send it."""
    tab.js(f"{BOX}.focus()")
    if files:
        tab.upload("#question input[type=file]", *files)
        items = "document.querySelectorAll('#question .thumbnail-item').length"
        tab.wait(f"{items} === {len(files)}")
        tab.wait("!document.querySelector('#question [aria-label=Uploading]')")
        tab.js(f"{BOX}.focus()")
    tab.type(text)
    tab.wait(f"{BOX}.value === {text!r}")
    tab.press("Enter")


def reach(tab, most=60):
    """Press Tab until the focus is where it began; return what had it."""
    found = []
    tab.js("document.activeElement.blur()")
    for _ in range(most):
        tab.press("Tab")
        found.append(tab.js(FOCUS))
        if len(found) > 3 and found[-1] == found[0]:
            break
    return " | ".join(found)


def set_drawer(tab, label, value):
    """Give a field of the drawer a value, as typing does."""
    tab.wait(
        f"[...document.querySelectorAll('#settings label')]"
        f".some(e => e.innerText.includes({label!r}))"
    )
    tab.js(f"""(() => {{
        const field = [...document.querySelectorAll('#settings label')]
            .find(e => e.innerText.includes({label!r}));
        const input = field.querySelector('input, textarea')
            ?? field.closest('.block').querySelector('input');
        if (input.type === 'checkbox') {{ if (input.checked !== {str(value).lower()}) input.click(); return }}
        Object.getOwnPropertyDescriptor(Object.getPrototypeOf(input), 'value').set.call(input, {value!r});
        for (const kind of ['input', 'change', 'blur']) input.dispatchEvent(new Event(kind, {{bubbles: true}}));
    }})()""")  # noqa: E501


@pytest.mark.parametrize("width", [1280, 400])
def test_a_visitor_talks(tab, chat, answerers, files, width):
    tab.open(chat, width)
    tab.wait(BOX)
    assert "Hello" not in tab.js(TALK)  # of another visitor
    put(tab, "Hello?", files / "a.png")
    tab.wait(f"{DONE} === 1")
    assert tab.js("document.querySelectorAll('.conversation img').length") >= 1
    put(tab, "Then?", files / "q.wav")
    tab.wait(f"{DONE} === 2")
    tab.wait("document.querySelector('.conversation [aria-label^=user][aria-label*=audio]')")
    put(tab, "This?", files / "not.png")
    tab.wait(f"{TALK}.includes('not.png: ')")
    tab.js("document.querySelector('.examples button').click()")
    tab.wait(f"{TALK}.includes('expected: a square')")
    tab.wait(f"{DONE} === 3")
    assert tab.js(WIDE) <= 0
    outside = [url for url in tab.urls if not url.startswith((chat, "data:", "blob:", "about:"))]
    assert not outside


def test_a_question_is_spoken_into_the_microphone(tab, chat):
    tab.open(chat, 400)
    tab.wait(BOX)
    for label in ("Record audio", "Start recording", "Stop recording", "Attach audio", "Submit"):
        button = (f"[...document.querySelectorAll('#question button')]"
                  f".find(e => [e.ariaLabel, e.innerText.trim()].includes({label!r}))")  # fmt: skip
        tab.wait(button)
        time.sleep(1.0 if label == "Stop recording" else 0.1)
        tab.js(f"{button}.click()")
    tab.wait("document.querySelector('.conversation [aria-label^=user][aria-label*=audio]')")
    tab.wait(f"{DONE} === 1")


def test_stop_and_a_spoken_answer(tab, chat, answerers):
    tab.open(chat, 1280)
    tab.wait(BOX)
    set_drawer(tab, "Most tokens of an answer", 1000)
    put(tab, "On and on")
    tab.wait("/tokens\\b/.test(" + TALK + ")")
    tab.js("[...document.querySelectorAll('#actions button')].find(e => e.innerText === 'Stop')"
           ".click()")  # fmt: skip
    tab.wait(f"{TALK}.includes('stopped')")
    end = time.monotonic() + 5
    while answerers[0].engine.running and time.monotonic() < end:
        time.sleep(0.02)
    assert not answerers[0].engine.running
    set_drawer(tab, "Most tokens of an answer", 8)
    set_drawer(tab, "Speak answers", True)
    put(tab, "Say it")
    tab.wait(f"/\\d s(, cut at the most frames|$)|not spoken|no word/m.test({TALK})")
    tab.wait("document.querySelector('.conversation [aria-label^=bot][aria-label*=audio]')")


def test_the_keyboard_alone_reaches_everything(tab, chat):
    tab.open(chat, 400)
    tab.wait(BOX)
    put(tab, "Hi?")
    tab.wait(f"{DONE} === 1")
    found = reach(tab)
    for what in ("Upload", "audio", "Submit", "Stop", "Regenerate", "Edit", "What is this?",
                 "Sidebar", "Copy", "Clear"):  # fmt: skip
        assert what.lower() in found.lower(), (what, found)


def test_two_models_are_voted_on(tab, answerers, tmp_path):
    from omni.serve.page.compare import Compare

    votes = Votes(tmp_path / "votes")
    pair = answerers[0], answerers[1]
    with shown(Compare(pair, Generation(max_new_tokens=6), [], votes, True).page) as url:
        tab.open(url, 400)
        tab.wait(BOX)
        put(tab, "Which?")
        tab.wait("[...document.querySelectorAll('#votes button')].filter(e => !e.disabled).length")
        assert "one" not in tab.js("document.querySelector('#title').innerText")
        tab.js("[...document.querySelectorAll('#votes button')].find(e => e.innerText === 'Tie')"
               ".click()")  # fmt: skip
        tab.wait("/Left is (one|two)/.test(document.querySelector('#result').innerText)")
        assert tab.js(WIDE) <= 0
    assert votes.count() == {"tie": 1}
