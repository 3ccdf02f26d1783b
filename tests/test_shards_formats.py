"""What users of peers bring is read, and every row in is a row out or a row that is named."""

import base64
import gzip
import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile
from rich.console import Console

from data_shards.build import build
from data_shards.read.entry import find_shards, read_shard
from data_shards.shards.sample import Sample
from data_shards.sources import SOURCES, Build, SourceError


class Given(NamedTuple):
    """A folder with one example of everything, and what has to come of it."""

    options: dict[str, Any]
    rows: int
    out: dict[str, list[str]]  # id -> texts and kinds of parts, in order
    unused: set[str]
    skipped: tuple[str, ...]  # words, each of another row


def texts(messages: list[dict]) -> list[str]:
    return [part.get("text", part["type"]) for m in messages for part in m["content"]]


def talk(question: Any = "Q", answer: Any = "A") -> list[dict]:
    return [{"from": "human", "value": question}, {"from": "gpt", "value": answer}]


def chat(*parts: dict) -> list[dict]:
    return [{"role": "user", "content": list(parts)}, {"role": "assistant", "content": "A"}]


def movie() -> bytes:
    import av

    out = io.BytesIO()
    with av.open(out, "w", format="mp4") as file:
        stream = file.add_stream("mpeg4", rate=5)
        stream.width = stream.height = 32
        for n in range(5):
            frame = av.VideoFrame.from_ndarray(np.full((32, 32, 3), n * 20, np.uint8))
            file.mux(stream.encode(frame))
        file.mux(stream.encode())
    return out.getvalue()


def llava(root: Path, picture: Callable, sound: Callable) -> Given:
    (root / "far").mkdir()
    (root / "own").mkdir()
    (root / "far/a.png").write_bytes(picture(1))
    (root / "own/linked").symlink_to(root / "far")
    (root / "own/a.png").write_bytes(picture(2))
    (root / "own/a.wav").write_bytes(sound(0.1))
    (root / "own/a.mp4").write_bytes(movie())
    url = "data:image/png;base64," + base64.b64encode(picture(3)).decode()
    text = {"type": "text", "text": "Q"}
    call = {"type": "function", "function": {"name": "f", "arguments": '{"x": 1}'}}
    called = '<tool_call>\n{"name": "f", "arguments": {"x": 1}}\n</tool_call>'
    returned = "<tool_response>\n7\n</tool_response>"
    pair = [{"type": "image", "index": 1}, {"type": "image", "index": 0}]
    rows = {
        "video": ({"video": "a.mp4", "conversations": talk("<video>\nQ")}, ["video", "Q", "A"]),
        "image mark": ({"video": "a.mp4", "conversations": talk("<image>\nQ")},
                       ["video", "Q", "A"]),
        "audio": ({"audio": ["a.wav"], "conversations": talk()}, ["audio", "Q", "A"]),
        "image_path": ({"image_path": "a.png", "messages": talk()}, ["image", "Q", "A"]),
        "linked": ({"image": "linked/a.png", "conversations": talk()}, ["image", "Q", "A"]),
        "medium alone": ({"audio": "a.wav", "conversations": talk("")}, ["audio", "A"]),
        "both": ({"image": "a.png", "audio": "a.wav", "conversations": talk("<audio> Q")},
                 ["image", "audio", "Q", "A"]),
        "data url": ({"image": url, "conversations": talk()}, ["image", "Q", "A"]),
        "base64": ({"image": url.partition(",")[2], "conversations": talk()}, ["image", "Q", "A"]),
        "openai": ({"image": "a.png", "messages": chat(
            {"type": "image_url", "image_url": {"url": "a.png", "detail": "low"}}, text)},
            ["image", "Q", "A"]),
        "in part": ({"messages": chat({"type": "video", "video": "a.mp4", "fps": 2}, text)},
                    ["video", "Q", "A"]),
        "index": ({"images": ["a.png", "linked/a.png"], "messages": chat(*pair, text)},
                  ["image", "image", "Q", "A"]),
        "as json": ({"conversations": json.dumps(talk())}, ["Q", "A"]),
        "system": ({"system": "S", "foo": 1, "conversations": talk()}, ["S", "Q", "A"]),
        "asked twice": ({"question": "Q", "conversations": talk()}, ["Q", "A"]),
        "tags": ({"conversations": talk("Use <video>?", "<image> or <video>")},
                 ["Use <video>?", "<image> or <video>"]),
        "code": ({"image": "a.png", "conversations": talk("<image>\n    def f():\n", "    1\n")},
                 ["image", "    def f():\n", "    1\n"]),
        "number": ({"conversations": talk("Q", 3)}, ["Q", "3"]),
        "false": ({"conversations": talk("Q", False)}, ["Q", "false"]),
        "sharegpt": ({"tools": '[{"name": "f"}]', "conversations": [
            talk()[0], {"from": "function_call", "value": '{"name": "f", "arguments": {"x": 1}}'},
            {"from": "observation", "value": "7"}, {"from": "gpt", "value": "A", "weight": 0}]},
            ['<tools>\n{"name": "f"}\n</tools>', "Q", called, returned, "A"]),
        "tool turns": ({"messages": [
            talk()[0], {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "content": "7"}, {"role": "tool", "content": "7"}, talk()[1]]},
            ["Q", called, returned, "\n", returned, "A"]),
    }  # fmt: skip
    bad = {
        "nobody": {"conversations": [{"from": "nobody", "value": "Q"}]},
        "escape": {"image": "../far/a.png", "conversations": talk()},
        "absolute": {"image": str(root / "far/a.png"), "conversations": talk()},
        "remote": {"image": "https://example.com/a.png", "conversations": talk()},
        "marks": {"image": "a.png", "conversations": talk("<image> or <image>")},
        "empty": {"conversations": talk("Q", "")},
    }
    given = [*({"id": k} | row for k, (row, _) in rows.items()),
             *({"id": k} | row for k, row in bad.items())]  # fmt: skip
    lines = "\n".join(map(json.dumps, given)).encode()
    wrong = json.dumps({"conversations": talk("QQ")}).encode().replace(b"QQ", b"\xe9")
    path = root / "own/rows.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + lines + b"\n" + wrong + b"\n[]\n")
    skipped = (
        "(id nobody): unknown speaker", "(id escape): image", "(id absolute): image", "is a URL",
        "(id marks): more", "(id empty): message 1: content must", "the row is not an object",
        f"rows.jsonl:{len(given) + 1}: byte 0xe9 is not UTF-8",
    )  # fmt: skip
    unused = {"foo", "question", "conversations[].weight", "messages[].content[].image_url.detail",
              "messages[].tool_calls[].type"}  # fmt: skip
    out = {name: found for name, (_, found) in rows.items()}
    return Given({"json": path}, len(given) + 2, out, unused, skipped)


def imagefolder(root: Path, picture: Callable, sound: Callable) -> Given:
    (root / "far").mkdir()
    (root / "own/sub").mkdir(parents=True)
    (root / "own/linked").symlink_to(root / "far")
    (root / "own/sub/loop").symlink_to(root / "own")
    sides = {
        "own/a.png": ("own/a.txt", "\ufeffA thing.\n".encode()),
        "far/b.png": ("far/b.txt", "Caf\u00e9".encode("utf-16")),
        "own/sub/c.png": ("own/sub/c.json", b'\xef\xbb\xbf{"caption": 7, "foo": 1}'),
        "own/d.png": ("own/d.txt", "Caf\u00e9".encode("latin-1")),
        "own/e.png": ("own/lonely.txt", b"of no image"),
    }
    for n, (image, (side, data)) in enumerate(sides.items()):
        (root / image).write_bytes(picture(n))
        (root / side).write_bytes(data)
    for name in ("x.psd", "y.psd"):
        (root / "own" / name).write_bytes(b"?")
    ask = "Describe the picture briefly."
    out = {"a.png": ["image", ask, "A thing."], "linked/b.png": ["image", ask, "Caf\u00e9"],
           "sub/c.png": ["image", ask, "7"]}  # fmt: skip
    skipped = ("d.png: d.txt: byte 0xe9", "e.png: no .txt", "lonely.txt: no image")
    return Given({"data": root / "own"}, 6, out, {"foo", ".psd"}, skipped)


def webdataset(root: Path, picture: Callable, sound: Callable) -> Given:
    def tar(name: str, members: dict[str, bytes]) -> None:
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w") as archive:
            for member, data in members.items():
                info = tarfile.TarInfo(member)
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
        data = out.getvalue()
        (root / name).write_bytes(gzip.compress(data) if name.endswith("gz") else data)

    tar("d-08.tar.gz", {"a.png": picture(1), "a.txt": b"    code\n", "a.npy": b"?"})
    tar("d-09.tar.gz", {"b.wav": sound(0.1), "b.json": b'{"text": "B", "foo": [1]}',
                        "b.cls": b"3"})  # fmt: skip
    tar("d-10.tar.gz", {"c.png": picture(2), "c.txt": b"\xe9", "d.png": picture(3),
                        "d.json": json.dumps({"conversations": talk("<image>Q")}).encode(),
                        "README": b"?", "._e.png": b"?"})  # fmt: skip
    out = {"a": ["image", "Describe the picture briefly.", "    code"],
           "b": ["audio", "Write down what you hear.", "B"], "d": ["image", "Q", "A"]}  # fmt: skip
    skipped = ("d-10.tar.gz:c: byte 0xe9", "README: it is no KEY.PART")
    unused = {"npy", "cls", "foo", "._* of macOS"}
    return Given({"data": f"{root}/d-{{08..10}}.tar.gz"}, 5, out, unused, skipped)


def kaldi(root: Path, picture: Callable, sound: Callable) -> Given:
    wave = np.stack([np.full(16_000, 0.5), np.full(16_000, -0.25)], axis=1)
    soundfile.write(root / "two.wav", wave, 16_000)
    soundfile.write(root / "one.wav", wave[:, 0], 16_000)
    tables = {
        "wav.scp": "\ufefftwo two.wav\none one.wav\nmute one.wav\none two.wav\nnamed two.wav\n",
        "segments": "left two 0 0.5 0\nright two 0 0.5 1\nmixed two 0 0.5\nthird two 0 0.5 2\n"
                    "b named 0 0.5\nsilent two 0 0.5 0\nodd two 0 0.5 0 0\n",
        "reco2file_and_channel": "named file B\n",
        "text": "\ufeffleft L\nright R\nmixed M\nthird T\nb B\none \xe9\n",
        "utt2lang": "left en\n", "feats.scp": "?",
    }  # fmt: skip
    for name, text in tables.items():
        data = text.encode()
        (root / name).write_bytes(data.replace(b"\xc3\xa9", b"\xe9") if name == "text" else data)
    heard = {"left": "L", "right": "R", "mixed": "M", "b": "B"}
    out = {name: ["audio", "Write down what you hear.", text] for name, text in heard.items()}
    skipped = ("has 2 channels, none is 2", "text:6: byte 0xe9", "segments: silent: text has no",
               "wav.scp: mute: text has no", "segments:7: a segment is",
               "wav.scp:4: an earlier line")  # fmt: skip
    unused = {"utt2lang", "feats.scp", "separate channels, which are mixed into one; name one as "
              "the fifth word of a segment"}  # fmt: skip
    return Given({"data": root}, 10, out, unused, skipped)


def hf(root: Path, picture: Callable, sound: Callable) -> Given:
    cell = {"bytes": picture(1), "path": "1.png"}
    answers = [{"answer": a, "answer_id": n} for n, a in enumerate(("3", "2", "2"))]
    nothing = dict.fromkeys(("picture_of", "speech", "question", "answers", "answer", "kind", "foo",
                             "messages", "system"))  # fmt: skip
    rows = [
        {"picture_of": cell, "question": "Q", "answers": answers},
        {"speech": {"bytes": sound(0.1), "path": None}, "answer": "heard"},
        {"picture_of": cell, "kind": 1, "foo": "x"},
        {"picture_of": cell, "kind": -1},
        {"question": "Q", "answer": "A", "messages": json.dumps(talk("Q2")), "system": "S"},
        {"question": "Q"},
    ]
    rows = [nothing | row | {"id": str(n)} for n, row in enumerate(rows)]
    features = {"picture_of": {"_type": "Image"},
                "kind": {"_type": "ClassLabel", "names": ["cat", "dog"]}}  # fmt: skip
    columns = {"kind": "label"}
    table = pa.Table.from_pylist(rows)
    table = table.rename_columns([columns.get(name, name) for name in table.column_names])
    features["label"] = features.pop("kind")
    said = {"huggingface": json.dumps({"info": {"features": features}})}
    pq.write_table(table.replace_schema_metadata(said), root / "a.parquet")
    (root / "README.md").write_text("?")
    out = {"0": ["image", "Q", "2"], "1": ["audio", "Write down what you hear.", "heard"],
           "2": ["image", "What kind of thing is this?", "dog"], "4": ["S", "Q2", "A"]}  # fmt: skip
    skipped = ("a.parquet:3: no text", "a.parquet:5: no text")
    unused = {"answers (all but the most frequent)", "answers[].answer_id", "foo", "question",
              "answer", ".md"}  # fmt: skip
    return Given({"data": root}, 6, out, unused, skipped)


def preference(root: Path, picture: Callable, sound: Callable) -> Given:
    (root / "a.png").write_bytes(picture(1))

    def ends(a):
        return [*talk("<image>\nQ")[:1], {"from": "gpt", "value": a}]

    plain = {"chosen": "A", "rejected": "B"}
    rows = {
        "repeated": {"prompt": "Q", "image": "a.png", "chosen": ends("A"), "rejected": ends("B")},
        "plain": {"prompt": "Q", "image_path": "a.png", "system": "S", "score": 1} | plain,
        "numbers": {"prompt": "Q", "chosen": 1, "rejected": 2},
        "other": {"prompt": "P", "image": "a.png", "chosen": ends("A"), "rejected": ends("B")},
        "same": {"prompt": "Q", "chosen": "A", "rejected": "A"},
    }
    given = [{"id": name} | row for name, row in rows.items()]
    (root / "rows.json").write_text(json.dumps({"data": given, "info": "x"}), encoding="utf-16")
    out = {"repeated": ["image", "Q", "A", "B"], "plain": ["S", "image", "Q", "A", "B"],
           "numbers": ["Q", "1", "2"]}  # fmt: skip
    skipped = ("(id other): the answers begin with another question", "(id same): 'chosen'")
    return Given({"json": root / "rows.json"}, 5, out, {"score", "info"}, skipped)


def critique(root: Path, picture: Callable, sound: Callable) -> Given:
    (root / "a.png").write_bytes(picture(1))
    published = {"instruction": "I", "input": "Question:\nQ\n\nSolution:\nS", "output": "C"}
    rows = {
        "plain": {"query": "Q", "answer": "S", "critique": "C", "score": 1},
        "published": published,
        "shown": {"question": "Q", "response": 4, "critique": "C", "image": "a.png"},
        "half": {"query": "Q", "answer": "S"},
        "blank": {"query": " ", "answer": "S", "critique": "C"},
    }
    given = [{"id": name} | row for name, row in rows.items()]
    (root / "rows.json").write_text(json.dumps(given))
    out = {"plain": ["Question:\nQ\n\nSolution:\nS", "C"],
           "published": ["I\n\nQuestion:\nQ\n\nSolution:\nS", "C"],
           "shown": ["image", "Question:\nQ\n\nSolution:\n4", "C"]}  # fmt: skip
    skipped = ("no text under critique, output", "no text under query, question, prompt")
    return Given({"json": root / "rows.json"}, 5, out, {"score"}, skipped)


def guard(root: Path, picture: Callable, sound: Callable) -> Given:
    (root / "a.png").write_bytes(picture(1))
    ends = "Request: harmful\nCompletion: refusal\nResponse: unharmful"
    record = {"instruction": "I", "input": "Human user:\nQ\n\nAI assistant:\nS\n\n"}
    rows = {
        "published": record | {"output": ends, "prompt_harm_label": "Harmful", "score": 1},
        "shown": record | {"output": f"R\n{ends}", "image": "a.png"},
        "half": record | {"output": "Request: harmful\nCompletion: refusal"},
        "twice": record | {"output": f"{ends}\nResponse: harmful"},
        "other": record | {"output": ends, "response_harm_label": "harmful"},
        "none": {"output": ends},
    }
    given = [{"id": name} | row for name, row in rows.items()]
    (root / "rows.json").write_text(json.dumps(given))
    asked = "I\n\nHuman user:\nQ\n\nAI assistant:\nS\n\n"
    out = {"published": [asked, ends], "shown": ["image", asked, f"R\n{ends}"]}
    skipped = ("(id half): its output ends without one verdict of Response",
               "(id twice): its output ends without one verdict of Response",
               "(id other): its output says Response: unharmful, and response_harm_label says "
               "harmful", "(id none): there is no text under prompt")  # fmt: skip
    return Given({"json": root / "rows.json"}, 6, out, {"score"}, skipped)


EVERYTHING = {f.__name__: f for f in (llava, imagefolder, webdataset, kaldi, hf, preference,
                                      critique, guard)}  # fmt: skip


def test_a_request_and_a_response_are_asked_as_published(tmp_path):
    ends = "Request: harmful\nCompletion: refusal\nResponse: unharmful"
    rows = [{"prompt": "Q", "response": "S", "output": ends}, {"prompt": "P", "output": ends}]
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    made = SOURCES["guard"](**{"json": tmp_path / "rows.json"}).generate(Build(heldout=0))
    asked = [sample.messages[0]["content"][0]["text"] for sample in made]
    assert asked[0].endswith("Human user:\nQ\n\nAI assistant:\nS\n\n")
    assert asked[1].endswith("Human user:\nP\n\nAI assistant:\nNone\n\n")


def test_a_critique_alone_has_labels(tmp_path, make_picture, make_sound, omni_pair):
    _, processor = omni_pair
    given = critique(tmp_path, make_picture, make_sound)
    for sample in SOURCES["critique"](**given.options).generate(Build(heldout=0)):
        encoded = processor.encode(sample.conversation())
        learnt = encoded.labels[encoded.labels != -100]
        assert processor.tokenizer.decode(learnt) == f"C{processor.end_of_turn}"


def test_counts_of_a_preference_are_in_its_meta(tmp_path):
    row = {"prompt": "Q", "chosen": "A", "rejected": "B", "k_correct": 1, "k_incorrect": 3}
    (tmp_path / "rows.json").write_text(json.dumps([row]))
    [sample] = SOURCES["preference"](json=tmp_path / "rows.json").generate(build := Build())
    assert (sample.meta["k_correct"], sample.meta["k_incorrect"]) == (1, 3)
    assert not build.left


@pytest.mark.parametrize("name", EVERYTHING)
def test_every_row_is_used_or_named(name, tmp_path, make_picture, make_sound):
    (tmp_path / "in").mkdir()
    given = EVERYTHING[name](tmp_path / "in", make_picture, make_sound)
    printed = io.StringIO()
    manifest = build(SOURCES[name](**given.options), tmp_path / "out", heldout=0,
                     console=Console(file=printed, width=200))  # fmt: skip
    samples = [s for path in find_shards(tmp_path / "out") for s in read_shard(path)]
    found = {s.meta["id"]: texts([*s.messages, *(s.chosen or []), *(s.rejected or [])])
             for s in samples}  # fmt: skip
    assert found == given.out
    skipped = manifest["skipped"]["first"]
    assert len(samples) + len(skipped) == given.rows
    for words in given.skipped:
        assert sum(words in line for line in skipped) == 1, (words, skipped)
    unused = {item["name"]: item["count"] for item in manifest["facts"]["unused"]}
    assert set(unused) == given.unused
    for what in unused:
        assert f"{what!r}, which {name} does not use" in printed.getvalue()


def samples_of(name: str, build: Build, **options: Any) -> dict[str, Sample]:
    return {s.meta["id"]: s for s in SOURCES[name](**options).generate(build)}


def test_a_channel_of_a_segment_is_that_channel(tmp_path, make_picture, make_sound):
    kaldi(tmp_path, make_picture, make_sound)
    found = samples_of("kaldi", Build(), data=tmp_path)
    means = {
        k: soundfile.read(io.BytesIO(s.parts["aud0.flac"]))[0].mean() for k, s in found.items()
    }
    assert means == pytest.approx(
        {"left": 0.5, "right": -0.25, "mixed": 0.125, "b": -0.25}, abs=1e-3
    )


def test_parts_with_an_index_show_that_image(tmp_path, make_picture, make_sound):
    given = llava(tmp_path, make_picture, make_sound)
    found = samples_of("llava", Build(), **given.options)
    first = [p["image"] for p in found["index"].messages[0]["content"] if p["type"] == "image"]
    assert first == ["img1.png", "img0.png"]
    assert found["in part"].messages[0]["content"][0]["fps"] == 2
    assert len(found["openai"].parts) == 1


@pytest.mark.parametrize("name", ["../far/a.png", "ROOT/far/a.png", "file://ROOT/far/a.png"])
def test_other_folders_are_allowed_by_name(name, tmp_path, make_picture):
    for folder in ("own", "far", "third"):
        (tmp_path / folder).mkdir()
    (tmp_path / "far/a.png").write_bytes(make_picture(1))
    row = {"id": "x", "image": name.replace("ROOT", str(tmp_path)), "conversations": talk()}
    path = tmp_path / "own/rows.json"
    path.write_text(json.dumps([row]))
    note = Build()
    assert not samples_of("llava", note, json=path, allow=str(tmp_path / "third"))
    assert "lies outside" in note.skipped[0] and "--allow" in note.skipped[0]
    allow = f"{tmp_path / 'third'}:{tmp_path / 'far'}"
    assert samples_of("llava", Build(), json=path, allow=allow)["x"].parts
    with pytest.raises(SourceError, match="--allow /nowhere: no such folder"):
        samples_of("llava", Build(), json=path, allow="/nowhere")


@pytest.mark.parametrize("names", [("train/0.png", "test/0.png"), ("all/0.png", "all/1.png")])
def test_folders_of_splits_or_of_everything_are_no_classes(names, tmp_path, make_picture):
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(make_picture(1))
    note = Build()
    assert not samples_of("imagefolder", note, data=tmp_path)
    assert [line.split(": ")[1] for line in note.skipped] == [
        "no .txt or .json with its name beside it"
    ] * 2


def test_folders_of_classes(tmp_path, make_picture):
    (tmp_path / "stray.png").write_bytes(make_picture(1))
    for name in ("train/dog/0.png", "train/dog/1.png", "train/cat/0.png"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(make_picture(len(name)))
    note = Build()
    found = samples_of("imagefolder", note, data=tmp_path)
    assert note.skipped == ["stray.png: no .txt or .json with its name beside it"]
    assert {name: texts(s.messages) for name, s in found.items()} == {
        f"train/{thing}.png": ["image", "What kind of thing is this?", thing.partition("/")[0]]
        for thing in ("dog/0", "dog/1", "cat/0")
    }
    asked = samples_of("imagefolder", Build(), data=tmp_path, question="Which?")
    assert {texts(s.messages)[1] for s in asked.values()} == {"Which?"}


@pytest.mark.parametrize("kind", ["csv", "tsv", "parquet", "semicolons"])
def test_metadata_tables(kind, tmp_path, make_picture):
    (tmp_path / "sub").mkdir()
    for n in range(2):
        (tmp_path / f"sub/{n}.png").write_bytes(make_picture(n))
    rows = [{"file_name": f"{n}.png", "text": f"A, {n}", "foo": "x"} for n in range(2)]
    if kind == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / "sub/metadata.parquet")
    else:
        mark = {"csv": ",", "tsv": "\t", "semicolons": ";"}[kind]
        cells = [["file_name", "text", "foo"], *(list(row.values()) for row in rows)]
        quoted = [mark.join(f'"{c}"' if mark in c else c for c in line) for line in cells]
        suffix = "tsv" if kind == "tsv" else "csv"
        (tmp_path / f"sub/metadata.{suffix}").write_text("\r\n".join(quoted), encoding="utf-8-sig")
    note = Build()
    found = samples_of("imagefolder", note, data=tmp_path)
    assert {k: texts(s.messages)[-1] for k, s in found.items()} == {
        "sub/0.png": "A, 0", "sub/1.png": "A, 1",
    }  # fmt: skip
    assert not note.skipped and note.left == {("row", "foo"): 2}


def test_common_voice_and_lj_speech(tmp_path, make_sound):
    for folder in ("cv/clips", "lj/wavs"):
        (tmp_path / folder).mkdir(parents=True)
    for n in range(3):
        (tmp_path / f"cv/clips/{n}.wav").write_bytes(make_sound(0.1, 300 + n))
        (tmp_path / f"lj/wavs/LJ{n}.wav").write_bytes(make_sound(0.1, 300 + n))
    table = 'client_id\tpath\tsentence\tage\nann\t0.wav\t"Hi" she said\t\nann\t../1.wav\tx\t9\n'
    (tmp_path / "cv/train.tsv").write_text(table)
    (tmp_path / "cv/dev.tsv").write_text("client_id\tpath\tsentence\nbob\t2.wav\tDev\n")
    (tmp_path / "lj/metadata.csv").write_text('LJ0|No "3"|No three\nLJ1|One\nLJ9|None\nodd\n')
    note = Build()
    found = samples_of("kaldi", note, data=tmp_path / "cv")
    assert {k: texts(s.messages)[-1] for k, s in found.items()} == {"0": '"Hi" she said'}
    assert found["0"].meta["identity"] == "speaker ann"
    for words in ("train.tsv:3: recording", "dev.tsv: train.tsv is read", "clips/1.wav: no trans",
                  "clips/2.wav: no trans"):  # fmt: skip
        assert sum(words in line for line in note.skipped) == 1
    assert list(samples_of("kaldi", Build(), data=tmp_path / "cv/dev.tsv")) == ["2"]
    note = Build()
    found = samples_of("kaldi", note, data=tmp_path / "lj")
    spoken = {"LJ0": "No three", "LJ1": "One"}
    assert {k: texts(s.messages)[-1] for k, s in found.items()} == spoken
    for words in ("metadata.csv:3: ", "metadata.csv:4: a line is", "wavs/LJ2.wav: no trans"):
        assert sum(words in line for line in note.skipped) == 1
    assert len(note.left) == 1


def test_a_pattern_that_lacks_a_tar_is_refused(tmp_path):
    with tarfile.open(tmp_path / "d-0.tar", "w"):
        pass
    with pytest.raises(SourceError, match=r"d-1\.tar"):
        samples_of("webdataset", Build(), data=f"{tmp_path}/d-{{0..1}}.tar")


def test_a_compressed_tar_is_read_up_to_its_damage(tmp_path, make_picture):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for n in range(20):
            data = np.random.default_rng(n).bytes(4000) if n % 2 else b"A"
            info = tarfile.TarInfo(f"{n:02}.{'txt' if n % 2 == 0 else 'bin'}")
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    data = gzip.compress(out.getvalue())
    (tmp_path / "a.tgz").write_bytes(data[: len(data) // 2])
    note = Build()
    found = samples_of("webdataset", note, data=str(tmp_path), question="Q")
    assert list(found) == ["00", "02", "04", "06", "08"]
    assert any("its compression is damaged after" in line for line in note.skipped)


def test_names_are_printed_as_they_are(tmp_path, make_picture):
    (tmp_path / "in").mkdir()
    for name in (":smile:", "[bold]"):
        (tmp_path / "in" / f"{name}.png").write_bytes(make_picture(1))
    (tmp_path / "in/a.png").write_bytes(make_picture(2))
    (tmp_path / "in/a.txt").write_text("A.")
    printed = io.StringIO()
    source: Any = SOURCES["imagefolder"]
    build(source(data=tmp_path / "in"), tmp_path / "out", console=Console(file=printed, width=200))
    assert "skipped :smile:.png" in printed.getvalue() and "[bold].png" in printed.getvalue()


@pytest.mark.parametrize(
    ("encoding", "bad"),
    [
        ("utf-8-sig", []),
        ("utf-16", []),
        ("utf-32", []),
        ("latin-1", ["t.jsonl:1: byte 0xe9 is not UTF-8; save the file as UTF-8"]),
    ],
)
def test_text_sources_are_decoded_or_named(encoding, bad, tmp_path):
    lines = [{"messages": [{"role": r, "content": [{"type": "text", "text": f"{word} {r}"}]}
                           for r in ("user", "assistant")], "foo": 1}
             for word in ("caf\u00e9", "tea")]  # fmt: skip
    data = "\n".join(json.dumps(line, ensure_ascii=False) for line in lines)
    (tmp_path / "t.jsonl").write_bytes(data.encode(encoding))
    note = Build()
    source: Any = SOURCES["text"]
    found = list(source(file=tmp_path / "t.jsonl").generate(note))
    assert note.left == {("row", "foo"): len(found)}
    assert {texts(s.messages)[0] for s in found} == {"tea user"} | (
        set() if bad else {"caf\u00e9 user"}
    )
    assert note.skipped == bad


def test_damage_within_a_wide_encoding_costs_the_lines_it_hit(tmp_path):
    rows = [json.dumps({"id": n, "conversations": talk(f"Q{n}")}) for n in range(3)]
    data = bytearray("\n".join(rows).encode("utf-32"))
    at = 4 * (len(rows[0]) + 12)
    data[at : at + 4] = b"\xff" * 4
    (tmp_path / "r.jsonl").write_bytes(data)
    note = Build()
    assert list(samples_of("llava", note, json=tmp_path / "r.jsonl")) == ["0", "2"]
    assert [line.split(",")[0] for line in note.skipped] == ["r.jsonl:2: the text is damaged"]
