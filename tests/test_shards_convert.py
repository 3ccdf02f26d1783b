"""Converters name what is bad by file and row, and lose nothing that is intact."""

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile

from data_shards.build import build
from data_shards.read.entry import find_shards, read_shard
from data_shards.shards.sample import Sample, SampleError, parse
from data_shards.sources import SOURCES, Build, SourceError, SourceUnavailable
from omni.processing.messages import assistant, image, media_refs, user


def convert(name: str, **options) -> tuple[dict[str, Sample], str]:
    """Return (samples by the name in their meta, what was skipped)."""
    note = Build()
    samples = {s.meta["id"]: s for s in SOURCES[name](**options).generate(note)}
    return samples, "\n".join(note.skipped)


def texts(sample: Sample) -> list[str]:
    return [part.get("text", part["type"]) for m in sample.messages for part in m["content"]]


def test_imagefolder_reads_captions_beside_images(tmp_path, make_picture, make_sound):
    (tmp_path / "sub").mkdir()
    for name in ("a.png", "sub/b.jpg", "c.png", "d.png", "e.png"):
        (tmp_path / name).write_bytes(make_picture(len(name)))
    (tmp_path / "broken.png").write_bytes(b"\x89PNG")
    (tmp_path / "f\udcff.png").write_bytes(make_picture(7))  # a name in no known encoding
    (tmp_path / "s.wav").write_bytes(make_sound(0.1))
    for name in ("a.txt", "broken.txt", "f\udcff.txt", "s.txt"):
        (tmp_path / name).write_text("A thing.\n")
    turns = [{"role": "user", "content": "Q <image>?"}, {"role": "assistant", "content": "A."}]
    (tmp_path / "sub/b.json").write_text(json.dumps({"messages": turns}))
    (tmp_path / "c.json").write_text("{")
    (tmp_path / "d.json").write_text(json.dumps({"width": 3}))
    found, skipped = convert("imagefolder", data=tmp_path)
    assert set(found) == {"a.png", "sub/b.jpg", "f?.png", "s.wav"}
    assert texts(found["a.png"]) == ["image", "Describe the picture briefly.", "A thing."]
    assert texts(found["sub/b.jpg"]) == ["Q", "image", "?", "A."]
    assert texts(found["s.wav"])[:2] == ["audio", "Write down what you hear."]
    for words in (
        "broken.png: image 'broken.png': not a readable image", "c.png: c.json: not readable json",
        "d.png: no text under", "e.png: no .txt or .json",
    ):  # fmt: skip
        assert words in skipped
    assert len(skipped.splitlines()) == 4
    build(SOURCES["imagefolder"](data=tmp_path), tmp_path / "out")


def test_imagefolder_reads_metadata(tmp_path, make_picture):
    for n in range(3):
        (tmp_path / f"{n}.png").write_bytes(make_picture(n))
    rows = [
        {"file_name": "0.png", "text": "Zero.", "q": "Which?"},
        {"file_name": ["1.png", "2.png"], "text": ["Both.", "Two."], "q": None},
        {"file_name": "../up.png", "text": "x"},
        {"file_name": "no\0.png", "text": "x"},
        {"file_name": "0.exe", "text": "x"},
        {"text": "x"},
    ]
    lines = "\n".join([*map(json.dumps, rows), "{", "7"])
    (tmp_path / "metadata.jsonl").write_text(lines)
    found, skipped = convert("imagefolder", data=tmp_path, question="q")
    assert texts(found["0.png"]) == ["image", "Which?", "Zero."]
    assert texts(found["1.png"]) == ["image", "image", "Describe the picture briefly.", "Both."]
    for number, words in (
        (3, "lies outside"), (4, "no name of a file"), (5, "its suffix"), (6, "names no file"),
        (7, "not readable json"), (8, "not an object"),
    ):  # fmt: skip
        line = next(s for s in skipped.splitlines() if s.startswith(f"metadata.jsonl:{number}: "))
        assert words in line
    (tmp_path / "metadata.jsonl").unlink()
    (tmp_path / "metadata.csv").write_text('file_name,caption\n0.png,"Zero, nil."\n9.png,x\n')
    found, skipped = convert("imagefolder", data=tmp_path)
    assert texts(found["0.png"])[-1] == "Zero, nil."
    named = [f"{n}.png: no row of a metadata file names it" for n in (1, 2)]
    assert skipped.splitlines() == [*named, f"metadata.csv:3: image '9.png' is not in {tmp_path}"]


@pytest.fixture
def recordings(tmp_path) -> Path:
    """One recording of 4 s whose pitch rises each second, and one of 400 s."""
    for name, seconds in (("r1", 4), ("long", 400)):
        t = np.arange(seconds * 8000) / 8000
        wave = 0.5 * np.sin(2 * np.pi * 200 * (1 + t.astype(int) % 8) * t)
        soundfile.write(tmp_path / f"{name}.wav", wave, 8000)
    return tmp_path


def test_kaldi_cuts_segments_and_runs_no_command(recordings):
    lines = {
        "wav.scp": ["r1 r1.wav", f"long {recordings}/long.wav", f"pipe touch {recordings}/ran |",
                    "gone gone.wav"],
        "segments": ["u1 r1 1.0 2.0", "u2 long 390 392", "late r1 5 6", "back r1 2 1",
                     "odd r1 x"],
        "text": ["u1 one", "u2\ttwo words ", "r1 all of it", "late x", "back x", "pipe x",
                 "gone x", "nobody x", "odd x", "long x", "whole x", "r1x"],
        "utt2spk": ["u1 anna", "u2 anna", "r1 bert"],
    }  # fmt: skip
    for name, rows in lines.items():
        (recordings / name).write_text("\n".join(rows) + "\n")
    found, skipped = convert("kaldi", data=recordings)
    assert set(found) == {"u1", "u2", "r1"}
    wave, rate = soundfile.read(io.BytesIO(found["u1"].parts["aud0.flac"]))
    assert (len(wave), rate) == (8000, 8000)
    assert np.abs(np.fft.rfft(wave)).argmax() == 400
    assert found["r1"].parts["aud0.wav"] == (recordings / "r1.wav").read_bytes()
    assert texts(found["u2"]) == ["audio", "Write down what you hear.", "two words"]
    assert found["u1"].meta["identity"] == found["u2"].meta["identity"] == "speaker anna"
    assert not (recordings / "ran").exists()
    for words in (
        "segments:5: a segment is", "text:4: r1.wav ends before", "text:5: 2.0 to 1.0 s is no",
        "text:6: 'touch", "text:7: recording 'gone.wav' is not there",
        "text:8: wav.scp has no recording 'nobody'", "text:9: wav.scp has no recording 'odd'",
        "text:10: audio 'long.wav': 400 s of audio", "text:11: wav.scp has no recording 'whole'",
        "text:12: wav.scp has no recording 'r1x'",
    ):  # fmt: skip
        assert words in skipped
    assert len(skipped.splitlines()) == 10


def test_librispeech_holds_out_speakers(tmp_path, make_sound):
    for speaker in ("19", "26"):
        folder = tmp_path / "dev" / speaker / "198"
        folder.mkdir(parents=True)
        wave, rate = soundfile.read(io.BytesIO(make_sound(0.2, int(speaker) * 10)))
        names = [f"{speaker}-198-{n:04d}" for n in range(3)]
        for name in names[:2]:
            soundfile.write(folder / f"{name}.flac", wave, rate)
        rows = "\n".join(f"{name} NORTH OF" for name in names)
        (folder / f"{speaker}-198.trans.txt").write_text(rows)
    note = Build(heldout=0.5)
    samples = list(SOURCES["kaldi"](data=tmp_path).generate(note))
    splits = {(s.meta["identity"], s.split) for s in samples}
    assert len(samples) == 4 and len(splits) == 2 == len({split for _, split in splits})
    assert [line.split(": ")[0] for line in note.skipped] == [
        "19-198.trans.txt:3", "26-198.trans.txt:3",
    ]  # fmt: skip


def tar(path: Path, members: list[tuple[str, bytes]]) -> None:
    with tarfile.open(path, "w") as archive:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))


def test_foreign_tars_of_any_part_names(tmp_path, make_picture, make_sound):
    picture, sound = make_picture(1), make_sound(0.1)
    turns = [{"from": "human", "value": "A <audio> b"}, {"from": "gpt", "value": "c"}]
    tar(
        tmp_path / "0.tar",
        [
            ("./x.y/a.JPG", picture), ("./x.y/a.txt", b"A."), ("./x.y/a.json", b'{"width": 1}'),
            ("b.mp3", sound), ("b.json", json.dumps({"conversations": turns}).encode()),
            ("c.img0.png", picture), ("c.img1.png", make_picture(2)), ("c.caption", b"C."),
            ("d.json", b'{"question": "Q", "answer": "A"}'),
            ("._a.jpg", b"macOS"),
            ("e.png", picture), ("e.txt", b"one"), ("e.png", make_picture(3)), ("e.txt", b"two"),
            ("f.png", picture),
            ("g.png", b"junk"), ("g.txt", b"G"),
            ("h.png", picture), ("h.json", b"{"),
            ("i.png", picture), ("i.cls", b"3"),
        ],
    )  # fmt: skip
    note = Build()
    samples = list(SOURCES["webdataset"](data=str(tmp_path)).generate(note))
    assert [(s.meta["id"], texts(s)[-1]) for s in samples] == [
        ("./x.y/a", "A."), ("b", "c"), ("c", "C."), ("d", "A"), ("e", "one"), ("e", "two"),
    ]  # fmt: skip
    assert texts(samples[1]) == ["A", "audio", "b", "c"] and set(samples[1].parts) == {"aud0.wav"}
    assert [ref for _, ref in media_refs(samples[2].messages)] == ["img0.png", "img1.png"]
    assert samples[0].meta["identity"] == samples[2].meta["identity"]  # the same picture
    assert [line.split(": ")[0] for line in note.skipped] == [f"0.tar:{key}" for key in "fghi"]


def test_videos_are_kept_as_they_are(tmp_path):
    import av

    out = io.BytesIO()
    with av.open(out, "w", format="mp4") as file:
        stream = file.add_stream("mpeg4", rate=5)
        stream.width = stream.height = 32
        for n in range(10):
            frame = av.VideoFrame.from_ndarray(np.full((32, 32, 3), n * 20, np.uint8))
            file.mux(stream.encode(frame))
        file.mux(stream.encode())
    movie = out.getvalue()
    cut = movie[: len(movie) // 2]
    tar(tmp_path / "v.tar", [("a.mp4", movie), ("a.txt", b"A."), ("b.mp4", cut), ("b.txt", b"B.")])
    found, skipped = convert("webdataset", data=str(tmp_path / "v.tar"))
    assert texts(found["a"]) == ["video", "Describe the video briefly.", "A."]
    assert found["a"].parts == {"vid0.mp4": movie}
    assert skipped.startswith("v.tar:b: video 'mp4': ")


def test_foreign_tars_are_read_through_damage(tmp_path, make_picture):
    members = [
        (f"{n:03d}.{part}", data)
        for n in range(20)
        for part, data in (("png", make_picture(n)), ("txt", f"{n}.".encode()))
    ]
    tar(tmp_path / "bad.tar", members)
    tar(tmp_path / "cut.tar", members)
    data = bytearray((tmp_path / "bad.tar").read_bytes())
    at = data.index(b"005.png")
    data[at : at + 512] = b"\xa5" * 512
    (tmp_path / "bad.tar").write_bytes(data)
    cut = (tmp_path / "cut.tar").read_bytes()
    (tmp_path / "cut.tar").write_bytes(cut[: cut.index(b"010.txt")])
    (tmp_path / "zip.tar").write_bytes(b"\x1f\x8b123")
    (tmp_path / "zero.tar").write_bytes(b"")
    note = Build()
    samples = list(SOURCES["webdataset"](data=str(tmp_path)).generate(note))
    assert [texts(s)[-1] for s in samples] == [
        *(f"{n}." for n in range(20) if n != 5), *(f"{n}." for n in range(10)),
    ]  # fmt: skip
    named = "\n".join(note.skipped)
    for words in (
        f"bad.tar: byte {at}", "bad.tar:005: ", "cut.tar: byte", "cut.tar:010: ",
        "zip.tar: its compression is damaged", "zero.tar: byte 0: the file is empty",
    ):  # fmt: skip
        assert words in named


def test_parquet_columns_are_mapped(tmp_path, make_picture, make_sound):
    cell = {"bytes": make_picture(1), "path": None}
    turns = [{"user": "U", "assistant": "A"}, {"user": "V", "assistant": "B"}]
    (tmp_path / "in").mkdir()
    pq.write_table(
        pa.table({"images": [[cell, cell]], "texts": [turns]}), tmp_path / "in/a.parquet"
    )
    columns = {
        "pic": [make_picture(n) for n in range(3)] + [None, b"junk", make_picture(9)],
        "q": ["What?", None, "<image>\nWhere?", "How?", "x", "x"],
        "label": ["zero", "one", "two", "three", "four", ""],
        "who": ["x", "y", "x", "z", "z", "z"],
    }
    pq.write_table(pa.table(columns), tmp_path / "in/b.parquet", row_group_size=2)
    samples, note = [], Build()
    source = SOURCES["hf"](
        data=tmp_path / "in",
        pattern="b*",
        image="pic",
        question="q",
        answer="label",
        identity="who",
    )
    samples = list(source.generate(note))
    assert [texts(s) for s in samples] == [
        ["image", "What?", "zero"], ["image", "Describe the picture briefly.", "one"],
        ["image", "Where?", "two"], ["How?", "three"],
    ]  # fmt: skip
    assert [s.meta["identity"] for s in samples] == ["who x", "who y", "who x", "who z"]
    assert [line.split(": ")[0] for line in note.skipped] == ["b.parquet:4", "b.parquet:5"]
    (cauldron,) = SOURCES["hf"](data=tmp_path / "in/a.parquet").generate(Build())
    assert texts(cauldron) == ["image", "image", "U", "A", "V", "B"]
    with pytest.raises(SourceError, match="--identity 'nobody': the columns are"):
        list(SOURCES["hf"](data=tmp_path / "in", identity="nobody").generate(Build()))


def test_damaged_parquet_costs_the_rows_it_hit(tmp_path):
    rows = {"question": [f"Q{n}" * 50 for n in range(30)], "answer": [f"A{n}" for n in range(30)]}
    pq.write_table(pa.table(rows), tmp_path / "a.parquet", row_group_size=10, compression="gzip")
    (tmp_path / "b.parquet").write_bytes(b"PAR1 no")
    chunk = pq.ParquetFile(tmp_path / "a.parquet").metadata.row_group(1).column(0)
    data = bytearray((tmp_path / "a.parquet").read_bytes())
    start = chunk.dictionary_page_offset or chunk.data_page_offset
    data[start : start + chunk.total_compressed_size] = b"\xff" * chunk.total_compressed_size
    (tmp_path / "a.parquet").write_bytes(data)
    note = Build()
    samples = list(SOURCES["hf"](data=tmp_path).generate(note))
    assert [texts(s)[-1] for s in samples] == [f"A{n}" for n in (*range(10), *range(20, 30))]
    assert "a.parquet:10 to 19: row group 1 is not readable" in note.skipped[0]
    assert "b.parquet: not readable parquet" in note.skipped[1]


def test_hub_datasets_are_fetched_as_parquet(tmp_path, monkeypatch):
    import huggingface_hub

    pq.write_table(pa.table({"question": ["Q"], "answer": ["A"]}), tmp_path / "t.parquet")
    asked = {}

    def snapshot_download(repo, **options):
        asked.update(options, repo=repo)
        if repo == "o/none":
            raise OSError("no network")
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    source = SOURCES["hf"](hub="o/n", revision="r", pattern="t*")
    assert len(list(source.generate(Build()))) == 1
    assert asked["repo"] == "o/n" and asked["revision"] == "r"
    assert asked["allow_patterns"] == "t*.parquet" and asked["repo_type"] == "dataset"
    with pytest.raises(SourceUnavailable, match=r"o/none could not be fetched.*--data FOLDER"):
        list(SOURCES["hf"](hub="o/none").generate(Build()))


def test_preferences_of_every_form(tmp_path, make_picture):
    for n in range(2):
        (tmp_path / f"{n}.png").write_bytes(make_picture(n))
    ask = [{"from": "human", "value": "<image>Q"}]
    chat = [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"}]
    other = [chat[0], {"role": "assistant", "content": "B"}]
    good, bad = {"from": "gpt", "value": "A"}, {"from": "gpt", "value": "B"}
    pair = {"chosen": "A", "rejected": "B"}
    rows = [
        {"id": "trl", "prompt": "Q", **pair},
        {"id": "rlhf-v", "question": "Q", "image": "0.png", **pair},
        {"id": "factory", "conversations": ask, "images": ["1.png"], "chosen": good,
         "rejected": bad},
        {"id": "implicit", "chosen": chat, "rejected": other},
        {"id": "same", "prompt": "Q", "chosen": "A", "rejected": "A"},
        {"id": "half", "prompt": "Q", "chosen": "A"},
        {"id": "apart", "chosen": chat[1:], "rejected": other},
        {"id": "lost", "prompt": "Q", "image": "9.png", **pair},
        {"id": "open", "prompt": chat, **pair},
        {"id": "\ud800", "prompt": "Q", "chosen": "\ud800", "rejected": "B"},
    ]  # fmt: skip
    (tmp_path / "p.jsonl").write_text("\n".join(map(json.dumps, rows)))
    out = tmp_path / "out"
    manifest = build(SOURCES["preference"](json=tmp_path / "p.jsonl"), out, heldout=0)
    found = {s.meta["id"]: s for path in find_shards(out) for s in read_shard(path)}
    assert set(found) == {"trl", "rlhf-v", "factory", "implicit"}
    for sample in found.values():
        assert (sample.chosen, sample.rejected) == ([assistant("A")], [assistant("B")])
        assert texts(sample) == ["image"] * len(sample.parts) + ["Q"]
    skipped = manifest["skipped"]["first"]
    assert [line.split(":")[1].split(" ")[0] for line in skipped] == [str(n) for n in range(5, 11)]
    for line, words in zip(skipped, (
        "are the same", "'rejected' must be", "no prompt", "is not in", "does not end with a quest",
        "surrogate",
    ), strict=True):  # fmt: skip
        assert words in line


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"rejected": None}, "'rejected' must be a list"),
        ({"chosen": []}, "'chosen' must be a list"),
        ({"chosen": [user("no answer")]}, "does not end with an assistant message"),
        ({"rejected": [assistant("A")]}, "are the same"),
        ({"rejected": [user(image("img1.jpg")), assistant("B")]}, "img1.jpg"),
    ],
)
def test_reading_refuses_broken_preferences(change, reason):
    row = {"messages": [user("Q")], "chosen": [assistant("A")], "rejected": [assistant("B")]}
    parse("k", {"json": json.dumps(row).encode()})
    with pytest.raises((SampleError, ValueError), match=reason):
        parse("k", {"json": json.dumps(row | change).encode()})


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("imagefolder", {}, "needs --data FOLDER"),
        ("imagefolder", {"data": Path("/proc/self/fdinfo")}, "no file or folder of"),
        ("kaldi", {"data": Path("/proc/self/fdinfo")}, "neither wav.scp nor"),
        ("webdataset", {"data": "/nowhere/*.tar"}, "no tar file there"),
        ("hf", {}, "either --data FILE or FOLDER, or --hub"),
        ("preference", {"json": Path("/nowhere.jsonl")}, "no such file"),
        ("critique", {}, "needs --json FILE"),
        ("guard", {}, "needs --json FILE"),
    ],
)
def test_missing_inputs_say_what_to_give(name, options, words):
    with pytest.raises(SourceError, match=words):
        list(SOURCES[name](**options).generate(Build()))


def test_a_build_without_a_usable_row_leaves_nothing(tmp_path):
    (tmp_path / "p.jsonl").write_text('{"prompt": "Q"}\n')
    with pytest.raises(SourceError, match=r"no usable row; p.jsonl:1: 'chosen' must be"):
        build(SOURCES["preference"](json=tmp_path / "p.jsonl"), tmp_path / "out")
    assert not (tmp_path / "out").exists() and not (tmp_path / ".out.building").exists()
