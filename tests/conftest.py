"""Tiny random models and shards, made in milliseconds and without a network."""

import io
import json
import socket
import struct
import subprocess
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from html import escape
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile
from lxml import html
from PIL import Image

VISION = {
    "encoder": {
        "kind": "timm",
        "architecture": "test_vit",
        "image_size": 48,
        "model_args": {"img_size": 48},
    },
    "projector": {"kind": "patch_concat_mlp"},
}
AUDIO = {
    "encoder": {
        "kind": "whisper",
        "model_config": {
            "d_model": 32,
            "encoder_layers": 1,
            "encoder_attention_heads": 2,
            "encoder_ffn_dim": 64,
            "num_mel_bins": 80,
            "max_source_positions": 1500,
        },
    },
    "projector": {"kind": "frame_concat_mlp"},
}


CODEC = {
    "encoder": {
        **AUDIO["encoder"],
        "kind": "codec",
        "books": [16, 8, 8],
        "hidden": 48,
        "decoder_hidden": 32,
        "decoder_layers": 1,
    },
    "projector": {"kind": "codes"},
}
_SMALL = {"hidden_size": 16, "num_filters": 4, "codebook_size": 16, "codebook_dim": 16}
NEURAL = {
    "mimi": {**_SMALL, "model_type": "mimi", "num_hidden_layers": 1, "num_attention_heads": 2,
             "num_key_value_heads": 2, "head_dim": 8, "intermediate_size": 32, "num_quantizers": 4,
             "vector_quantization_hidden_dimension": 16, "upsample_groups": 16},
    "encodec": {**_SMALL, "model_type": "encodec", "num_lstm_layers": 1},
    "dac": {"model_type": "dac", "encoder_hidden_size": 4, "downsampling_ratios": [2, 4, 5, 8],
            "decoder_hidden_size": 32, "codebook_size": 16, "n_codebooks": 4},
}  # fmt: skip
HEADS = {
    "depth": {"layers": 2, "max_frames": 12},
    "flow": {"hidden": 32, "layers": 1, "middle": 1},
    "vocoder": {"hidden": 32, "layers": 1},
}
HIFIGAN = {"upsample_initial_channel": 32, "resblock_kernel_sizes": [3, 5],
           "resblock_dilation_sizes": [[1, 3], [1, 2]], "initializer_range": 0.2}  # fmt: skip


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Keep the tests away from the user's cache."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMNI_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="session", autouse=True)
def one_precision() -> Iterator[None]:
    """Let `precision: auto` be fp32: a process has one, and CPUs with bf16 would choose that."""
    from stages.engine.precision import choose_precision

    def chosen(wanted: str) -> str:
        return choose_precision("fp32" if wanted == "auto" else wanted)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("stages.engine.distribute.choose_precision", chosen)
        yield


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let any connection and any sleep fail the test: judges would do both."""

    def refuse(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("the evaluation touched the network or slept")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(time, "sleep", refuse)


@pytest.fixture(scope="session")
def specs() -> SimpleNamespace:
    """Hold what `attach` takes for tiny encoders, a tiny codec among them."""
    return SimpleNamespace(vision=VISION, audio=AUDIO, codec=CODEC, hifigan=HIFIGAN, neural={
        name: {"encoder": {"kind": "transformers_codec", "model_config": config, "books": 3},
               "projector": {"kind": "codes"}}
        for name, config in NEURAL.items()
    })  # fmt: skip


@pytest.fixture(scope="session")
def make_model() -> Callable[..., Any]:
    """Return a function: modality specs -> (model, processor), always the same weights."""

    def make(**modalities: dict[str, Any]) -> Any:
        import torch

        from omni import OmniForConditionalGeneration, OmniProcessor
        from omni.model.forward import load_text_tokenizer

        torch.manual_seed(0)
        model = OmniForConditionalGeneration.from_text("tiny:llama").eval()
        processor = OmniProcessor(load_text_tokenizer("tiny:llama"))
        for name, spec in modalities.items():
            model.attach(name, spec, processor)
        return model.eval(), processor

    return make


@pytest.fixture(scope="session")
def make_speaker(make_model: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function: kinds of heads -> a model with them and a codec that has seen data.

    Other modalities may be given by name.
    """

    def make(*heads: str, **modalities: dict[str, Any]) -> Any:
        import torch

        model, processor = make_model(speech=CODEC, **modalities)
        for kind in heads or HEADS:
            options = HEADS.get(kind, {"model_config": HIFIGAN})
            model.attach(f"the_{kind}", {"head": {"kind": kind, **options}}, processor)
            if kind == "flow":
                for last in (model.heads["the_flow"].mel, model.heads["the_flow"].unet.out):
                    torch.nn.init.normal_(last.weight, std=0.1)
            if kind == "vocoder":  # as one that has learnt: at first its net says nothing
                last = model.heads["the_vocoder"].out
                torch.nn.init.normal_(last.weight, std=0.1)
                last.bias.data[: len(last.bias) // 2] = -10.0  # quietly: no sample is cut off
        quantiser = model.encoders["speech"].quantiser.train()
        quantiser(
            torch.randn(300, quantiser.width), torch.full((300,), len(CODEC["encoder"]["books"]))
        )
        quantiser.take_seen()
        return model.eval(), processor

    return make


@pytest.fixture(scope="session")
def omni_pair(make_model: Callable[..., Any]) -> Any:
    """Hold one model with both modalities, shared: do not change it."""
    return make_model(vision=VISION, audio=AUDIO)


@pytest.fixture(scope="session")
def tiny_checkpoint(omni_pair: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Hold the folder of that model, saved."""
    folder = tmp_path_factory.mktemp("tiny") / "model"
    for part in omni_pair:
        part.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def make_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Return a function: modality specs -> a checkpoint whose LLM fits vLLM's kernels."""

    def make(**modalities: dict[str, Any]) -> Path:
        import torch
        from transformers import LlamaConfig, LlamaForCausalLM

        from omni import OmniForConditionalGeneration, OmniProcessor
        from omni.model.forward import load_text_tokenizer

        folder = tmp_path_factory.mktemp("served")
        torch.manual_seed(0)
        tokenizer = load_text_tokenizer("tiny:llama")
        config = LlamaConfig(
            vocab_size=260, hidden_size=128, intermediate_size=256, num_hidden_layers=2,
            num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=2048,
            bos_token_id=257, eos_token_id=258, pad_token_id=256, tie_word_embeddings=False,
            initializer_range=0.2,
        )  # fmt: skip
        for part in (LlamaForCausalLM(config), tokenizer):
            part.save_pretrained(folder / "llm")
        model = OmniForConditionalGeneration.from_text(str(folder / "llm")).eval()
        processor = OmniProcessor(tokenizer)
        for name, spec in modalities.items():
            model.attach(name, spec, processor)
        for part in (model, processor):
            part.save_pretrained(folder / "whole")
        return folder / "whole"

    return make


def _picture(seed: int, size: tuple[int, int] = (60, 40)) -> bytes:
    rng = np.random.default_rng(seed)
    colours = rng.integers(0, 255, (4, 4, 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(colours).resize(size, Image.Resampling.NEAREST).save(out, "PNG")
    return out.getvalue()


def _sound(seconds: float, pitch: float = 440.0, rate: int = 16_000, channels: int = 1) -> bytes:
    t = np.arange(round(seconds * rate)) / rate
    wave = 0.3 * np.sin(2 * np.pi * pitch * t)
    out = io.BytesIO()
    soundfile.write(out, np.stack([wave] * channels, 1), rate, format="WAV")
    return out.getvalue()


@pytest.fixture(scope="session")
def make_picture() -> Callable[..., bytes]:
    """Return a function: seed -> PNG bytes of coloured squares."""
    return _picture


@pytest.fixture(scope="session")
def make_sound() -> Callable[..., bytes]:
    """Return a function: (seconds, pitch, rate, channels) -> WAV bytes of a tone."""
    return _sound


@pytest.fixture(scope="session")
def talks() -> list[list[dict[str, Any]]]:
    """Hold conversations of all kinds and lengths; a picture and a sound occur twice."""
    from omni.processing.messages import assistant, audio, image, user

    png, wav = _picture(1), _sound(0.5)
    return [
        [user("Two and two?"), assistant("Four.")],
        [user(image(png), "What is it?"), assistant("A cat.")],
        [user("Say it: ", audio(wav)), assistant("lion")],
        [user(image(_picture(2)), audio(_sound(1.3, 300))), assistant("yes")],
        [user(image(png), "or", image(_picture(3)), "?"), assistant("The first."),
         user(audio(wav), audio(_sound(0.2)), "again?"), assistant("no")],
    ]  # fmt: skip


@pytest.fixture(scope="session")
def shards(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Write the five sources of recipes/tiny.yaml; return the overrides that name them."""
    from data_shards.shards.sample import Sample
    from data_shards.shards.write import write_shards
    from data_shards.sources.base import Build
    from data_shards.sources.demo.shapes import Shapes
    from omni.processing.messages import assistant, audio, image, user

    root = tmp_path_factory.mktemp("shards")
    meta = {"source": "tones", "license": "Apache-2.0", "schema": 1}
    pictures = Build(seed=0)
    colours = ("red", "green", "blue", "pink")

    def tone(n: int) -> dict[str, bytes]:
        return {"aud0.wav": _sound(0.3 + 0.02 * n, 200.0 * (1 + n % 4))}

    shapes = Shapes(count=16, variants=1, turns=1)
    write_shards(shapes.generate(pictures), root / "captions")
    write_shards(shapes.generate(Build(seed=1)), root / "images")
    words = [Sample([user(audio("aud0.wav")), assistant(colours[n % 4])], tone(n), meta | {})
             for n in range(12)]  # fmt: skip
    write_shards(words, root / "words")
    spoken = [
        Sample(
            [user(image("img0.png"), audio("aud0.wav")), assistant(colours[n % 4])],
            {"img0.png": _picture(n % 4), **tone(n)},
            meta | {},
        )
        for n in range(8)
    ]
    write_shards(spoken, root / "spoken")
    text = [Sample([user(f"{a} plus 1?"), assistant(str(a + 1))], {}, meta | {}) for a in range(8)]
    write_shards(text, root / "text")
    names = ("captions", "images", "words", "spoken", "text")
    return [f"sources.{name}=[{root / name}/train-*.tar]" for name in names]


@pytest.fixture(scope="session")
def kinds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write held-out pictures of four kinds, and one spoken word."""
    from data_shards.shards.sample import Sample
    from data_shards.shards.write import write_shards
    from omni.processing.messages import assistant, audio, image, user

    folder = tmp_path_factory.mktemp("kinds")
    facts = {"source": "stamps", "license": "GPL-2.0", "schema": 1}
    names = ("animal", "food", "plant", "tool")

    def picture(n: int) -> Sample:
        caption = f"The thing {n}."
        meta = {"kind": "caption", "identity": f"i{n}", "category": names[n % 4]}
        messages = [user(image("img0.png"), "What is this?"), assistant(caption)]
        more = facts | meta | {"caption": caption}
        return Sample(messages, {"img0.png": _picture(n)}, more, split="heldout")

    write_shards([picture(n) for n in range(12)], folder / "stamps")
    messages = [user(audio("aud0.wav"), "Repeat."), assistant("lion.")]
    meta = facts | {"kind": "transcription", "text": "lion"}
    word = Sample(messages, {"aud0.wav": _sound(0.5)}, meta, split="heldout")
    write_shards([word], folder / "speech")
    return folder


def _rcc(files: dict[str, tuple[int, bytes]], version: int = 3) -> bytes:
    """Hold files in a Qt resource container: path -> (flags: 1 zlib, 4 zstd; what is stored)."""
    tree: dict[str, Any] = {}
    for path, entry in files.items():
        *folders, name = path.split("/")
        place = tree
        for folder in folders:
            place = place.setdefault(folder, {})
        place[name] = entry
    names, stored, entries = b"", b"", [("", tree)]
    packed = b""
    while entries:  # breadth first, so that what is in a folder stands together
        number = len(packed) // (14 if version < 2 else 22)
        name, value = entries.pop(0)
        label, encoded = len(names), name.encode("utf-16-be")
        names += struct.pack(">HI", len(name), 0) + encoded
        if isinstance(value, dict):
            packed += struct.pack(">IHII", label, 2, len(value), number + 1 + len(entries))
            entries += value.items()
        else:
            flags, data = value
            packed += struct.pack(">IHHHI", label, flags, 0, 31, len(stored))
            stored += struct.pack(">I", len(data)) + data
        packed += bytes(0 if version < 2 else 8)
    head = 24
    at = (head, head + len(packed), head + len(packed) + len(stored))
    return struct.pack(">4s5I", b"qres", version, *at, 0) + packed + stored + names


@pytest.fixture(scope="session")
def make_rcc() -> Callable[..., bytes]:
    """Return a function: ({path: (flags, stored bytes)}, version) -> a container's bytes."""
    return _rcc


EMOJI = {
    "Animals & Nature/animal-mammal": "lion face|cow|pig",
    "Animals & Nature/animal-bird": "duck",
    "Food & Drink/food-fruit": "red apple|green apple|grapes|thing 3",
    "Flags/country-flag": "flag: Peru",
}


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """Write what the demo's sources take: emoji and their names, easy-VQA, GCompris."""
    root = tmp_path_factory.mktemp("demo")
    (root / "emoji").mkdir()
    lines, code = (
        ["# group: none", "# subgroup: none", "", "1F3FB ; component # x E1.0 tone"],
        0x1F600,
    )
    for place, names in EMOJI.items():
        group, _, subgroup = place.partition("/")
        lines += [f"# group: {group}", f"# subgroup: {subgroup}"]
        for name in names.split("|"):
            code += 1
            lines.append(f"{code:X} FE0F  ; fully-qualified     # x E0.6 {name}")
            lines.append(f"{code:X}       ; unqualified         # x E0.6 {name}")
            lines.append(f"{code:X} 1F3FC ; fully-qualified     # x E1.0 {name}: medium skin tone")
            (root / "emoji" / f"{code:x}-fe0f.png").write_bytes(_picture(code))
            (root / "emoji" / f"{code:x}-1f3fc.png").write_bytes(_picture(code + 1000))
    (root / "emoji-test.txt").write_text("\n".join(lines), encoding="utf-8")
    for split, count in (("train", 6), ("test", 3)):
        folder = root / "easyvqa" / split / "images"
        folder.mkdir(parents=True)
        questions = []
        for n in range(count):
            (folder / f"{n}.png").write_bytes(_picture(7 * n + count, (64, 64)))
            colour, shape = ("red", "blue", "teal")[n % 3], ("circle", "triangle")[n % 2]
            questions += [
                ["what color is the shape?", colour, n], [f"what is the {colour} shape?", shape, n],
                [f"is there a {colour} shape?", "yes", n], ["is there a black shape?", "no", n],
                [f"is there a {shape}?", "yes", n], ["is there a rectangle?", "no", n],
            ]  # fmt: skip
        (folder.parent / "questions.json").write_text(json.dumps(questions))
    (root / "photos").mkdir()
    place = "gcompris/src/activities/{}/resource"
    for number, name in enumerate(("explore_monuments", "explore_farm_animals")):
        folder, titles = place.format(name), (("Red Pyramid", "Old Tower"), ("Cow", "Pig"))[number]
        board = ",".join(
            f'{{ "title": qsTr("{title}"), "text": qsTr("About it."), '
            f'"image2": "qrc:/{folder}/p{n}.webp", "text2": qsTr("Which is it?") }}'
            for n, title in enumerate((*titles, "Gone"))
        ).encode()
        packed = struct.pack(">I", len(board)) + zlib.compress(board)
        files = {f"{folder}/board/board1.qml": (1, packed)}
        files |= {f"{folder}/p{n}.webp": (0, _picture(90 + 9 * number + n)) for n in range(2)}
        (root / "photos" / f"{name}.rcc").write_bytes(_rcc(files))
    folder = place.format("categorization") + "/images"
    named = ("tools/screwDriver2", "tools/plier", "fishes/fish1", "monuments/burj", "others/pan")
    files = {f"{folder}/{name}.webp": (0, _picture(60 + n)) for n, name in enumerate(named)}
    (root / "photos" / "categorization.rcc").write_bytes(_rcc(files, version=1))
    return SimpleNamespace(
        emoji=root / "emoji", emoji_names=root / "emoji-test.txt", easyvqa=root / "easyvqa",
        photos=root / "photos",
    )  # fmt: skip


@pytest.fixture(scope="session")
def loads_nothing() -> Callable[[html.HtmlElement], bool]:
    """Return a function: whether all that a page shows is in it, and nothing of it is a program."""

    def check(page: html.HtmlElement) -> bool:
        inside = all(url.startswith("data:") for _, _, url, _ in page.iterlinks())
        programs = page.xpath("//script | //iframe | //object | //embed | //base")
        programs += [name for name in page.xpath("//@*") if name.attrname.startswith("on")]
        return inside and not programs

    return check


@pytest.fixture
def browse(tmp_path: Path) -> Callable[..., Any]:
    """Return a function: (pages, widths, script) -> what the script leaves in `found`, by json.

    The pages stand in frames, each at each width in pixels, of a page that runs the script.
    """
    from stages.report.picture import browser

    if not (program := browser()):
        pytest.skip("no chromium is installed to lay the pages out")

    def run(pages: list[str], widths: tuple[int, ...], script: str) -> Any:
        frames = "".join(
            f'<iframe style="width: {width}px; height: 900px; border: 0" srcdoc="{escape(page)}">'
            "</iframe>" for page in pages for width in widths
        )  # fmt: skip
        script = f"""onload = () => {{
            const frames = [...document.querySelectorAll("iframe")].map(f => f.contentDocument);
            let found; {script}
            document.body.textContent = JSON.stringify(found);
        }}"""
        file = tmp_path / "all.html"
        file.write_text(f"<script>{script}</script><body>{frames}", encoding="utf-8")
        command = [program, "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom",
                   f"--user-data-dir={tmp_path / 'profile'}", f"file://{file}"]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
        text = html.document_fromstring(done.stdout or "<p>").body.text_content()
        assert text[:1] in ("[", "{"), done.stderr
        return json.loads(text)

    return run


@pytest.fixture
def spell(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Return a function: let a model answer these messages with this text, whatever follows."""

    def let(model: Any, processor: Any, messages: list[dict[str, Any]], text: str) -> None:
        from transformers import LogitsProcessorList

        spelled = processor.tokenizer(text)["input_ids"]
        start = len(processor.encode(messages, generation=True))

        def say(ids: Any, scores: Any) -> Any:
            scores[:] = -1.0
            scores[:, spelled[min(ids.shape[1] - start, len(spelled) - 1)]] = 1.0
            return scores

        generate = model.generate

        def spelling(*args: Any, logits_processor: Any = (), **kwargs: Any) -> Any:
            processors = LogitsProcessorList([*logits_processor, say])
            return generate(*args, logits_processor=processors, **kwargs)

        monkeypatch.setattr(model, "generate", spelling)

    return let


@pytest.fixture
def at_update():
    """Return a context: (n, do) does something before the nth update of a training, or after."""

    @contextmanager
    def patched(nth: int, do, after: bool = False):
        from stages.training.trainer import Trainer

        update, seen = Trainer.update, []

        def watched(self, step):
            seen.append(step.number)
            if len(seen) == nth and not after:
                do()
            loss = update(self, step)
            if len(seen) == nth and after:
                do()
            return loss

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Trainer, "update", watched)
            yield

    return patched


@pytest.fixture(scope="module")
def talker(make_model, specs):
    """A tiny model that says many things, as its head is random and its own."""
    import torch

    model, processor = make_model(vision=specs.vision, audio=specs.audio)
    torch.manual_seed(0)
    model.language_model.lm_head.weight = torch.nn.Parameter(torch.randn(260, 32))
    return model, processor
