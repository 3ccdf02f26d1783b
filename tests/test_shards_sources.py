"""Sources keep the contract, split by identity, balance their answers and name bad input."""

import importlib.util
import io
import json
import subprocess
import tarfile
from collections import Counter
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image, ImageDraw
from typer.testing import CliRunner

from data_shards.build import OtherBuild, build
from data_shards.cli import app
from data_shards.read.entry import read_shard
from data_shards.shards.manifest import read_manifest
from data_shards.sources import SOURCES, Build, SourceError, SourceUnavailable
from data_shards.sources.base import Groups, heldout
from data_shards.sources.demo.debian import fetch_package
from data_shards.sources.demo.stamps import CATEGORIES
from data_shards.verify import verify
from omni.processing.messages import media_refs

run = CliRunner().invoke
spec = importlib.util.spec_from_file_location(
    "speech_packages", Path(__file__).with_name("speech_packages.py")
)
speech_packages = importlib.util.module_from_spec(spec)
spec.loader.exec_module(speech_packages)


def draw_stamp(path: Path, number: int) -> None:
    """A picture that looks like no other: a few random boxes on a transparent ground."""
    rng = np.random.default_rng(number)
    image = Image.new("RGBA", (500, 300), (0, 0, 0, 0))
    for _ in range(6):
        x, y = rng.integers(0, 400), rng.integers(0, 200)
        box = (x, y, x + rng.integers(20, 100), y + rng.integers(20, 100))
        ImageDraw.Draw(image).rectangle(
            [int(v) for v in box], tuple(map(int, rng.integers(0, 255, 3)))
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)


@pytest.fixture(scope="module")
def stamps_root(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("stamps")
    for i, folder in enumerate(CATEGORIES):
        for n in range(8):
            draw_stamp(root / folder / "sub" / f"thing{n}.png", i * 100 + n)
            (root / folder / "sub" / f"thing{n}.txt").write_text(
                f"A “{folder}” thing {n}.  Do you like it?\nes.utf8=Una cosa.\n", encoding="utf-8"
            )
    folder = root / "animals" / "sub"
    with Image.open(folder / "thing0.png") as image:
        image.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(folder / "another.png")
    (folder / "another.txt").write_text("Another thing.")
    draw_stamp(folder / "silent.png", 999)  # without a caption
    (folder / "broken.png").write_bytes(b"\x89PNG nothing")
    (folder / "broken.txt").write_text("A broken thing.")
    wave = np.sin(np.arange(22_050) / 20)
    soundfile.write(folder / "thing1_desc.ogg", wave, 22_050, format="OGG")
    soundfile.write(folder / "thing1_desc_es.ogg", wave, 22_050, format="OGG")
    soundfile.write(folder / "silent_desc.ogg", wave, 22_050, format="OGG")
    return root


@pytest.fixture(scope="module")
def llava_file(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("llava")
    for n in range(6):
        draw_stamp(folder / f"{n}.png", n)
    turns = [{"from": "human", "value": "<image>\nWhat?"}, {"from": "gpt", "value": "A thing."}]
    rows = [{"id": f"r{n}", "image": f"{n % 6}.png", "conversations": turns} for n in range(12)]
    plain = [{"from": "human", "value": "Hi."}, {"from": "gpt", "value": "Hello."}]
    rows.append(
        {
            "id": "pair",
            "image": ["0.png", "1.png"],
            "conversations": [
                {"from": "system", "value": "Be brief."},
                {"from": "human", "value": "<image> or <image>?"},
                {"from": "gpt", "value": "Both."},
            ],
        }
    )
    rows.append({"id": "text", "conversations": plain})
    rows.append({"id": "unmarked", "image": "2.png", "conversations": plain})
    (folder / "rows.json").write_text(json.dumps(rows))
    return folder / "rows.json"


@pytest.fixture(scope="module")
def shapes_folder(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("made") / "shapes"
    build(SOURCES["shapes"](count=64), out)
    return out


@pytest.fixture(scope="module")
def recordings_root(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("recordings")
    speech_packages.write_recordings(root, {"digits/1": "one", "hello-world": "Hello world."})
    return root


@pytest.fixture(scope="module")
def voice():
    """The real voice, but each sentence is spoken only once for all tests of this file."""
    hibari = pytest.importorskip("hibari", reason="the extra 'speech' is not installed")
    speak, spoken = hibari.Hibari.__call__, {}

    def once(self, text, speed=1.0, seed=None):
        if (text, speed, seed) not in spoken:
            spoken[text, speed, seed] = speak(self, text, speed=speed, seed=seed)
        return spoken[text, speed, seed]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hibari.Hibari, "__call__", once)
        yield


def pack(path: Path, members: dict[str, bytes]) -> None:
    with tarfile.open(path, "w") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))


def imagefolder(root: Path, pictures: list[bytes], sounds: list[bytes]) -> dict:
    for n, data in enumerate(pictures):
        (root / f"{n}.png").write_bytes(data)
        if n % 2:
            (root / f"{n}.txt").write_text(f"Thing {n}.\n")
        else:
            (root / f"{n}.json").write_text(json.dumps({"caption": f"Thing {n}."}))
    return {"data": root}


def kaldi(root: Path, pictures: list[bytes], sounds: list[bytes]) -> dict:
    for n, data in enumerate(sounds):
        folder = root / str(n % 4) / "7"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{n % 4}-7-{n:04d}.wav").write_bytes(data)
        with (folder / f"{n % 4}-7.trans.txt").open("a") as file:
            file.write(f"{n % 4}-7-{n:04d} WORDS {n}\n")
    return {"data": root}


def hf(root: Path, pictures: list[bytes], sounds: list[bytes]) -> dict:
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns: dict[str, list] = {"caption": [f"{n}." for n in range(8)]}
    for name, files in {"image": pictures, "audio": sounds}.items():  # as datasets stores them
        columns[name] = [{"bytes": data, "path": None} for data in files]
    pq.write_table(pa.table(columns), root / "train.parquet", row_group_size=3)
    return {"data": root, "question": "What?"}


def webdataset(root: Path, pictures: list[bytes], sounds: list[bytes]) -> dict:
    members = {}
    for n, (picture, sound) in enumerate(zip(pictures, sounds, strict=True)):
        members |= {f"a/{n:03d}.png": picture, f"a/{n:03d}.txt": f"Thing {n}.".encode()}
        row = json.dumps({"text": f"Words {n}."}).encode()
        members |= {f"b/{n:03d}.wav": sound, f"b/{n:03d}.json": row}
    pack(root / "00000.tar", members)
    return {"data": str(root)}


def preference(root: Path, pictures: list[bytes], sounds: list[bytes]) -> dict:
    rows = []
    for n, data in enumerate(pictures):
        (root / f"{n}.png").write_bytes(data)
        pair = {"chosen": f"Thing {n}.", "rejected": "Nothing."}
        rows.append({"prompt": "<image>What?", "image": f"{n}.png", **pair})
    (root / "pairs.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return {"json": root / "pairs.jsonl"}


def critique(root: Path, pictures: list[bytes], sounds: list[bytes]) -> dict:
    rows = []
    for n, data in enumerate(pictures):
        (root / f"{n}.png").write_bytes(data)
        judged = {"answer": f"Thing {n}.", "critique": "Conclusion: right"}
        rows.append({"query": "<image>What?", "image": f"{n}.png", **judged})
    (root / "critiques.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return {"json": root / "critiques.jsonl"}


def guard(root: Path, pictures: list[bytes], sounds: list[bytes]) -> dict:
    rows = []
    answers = "Answers: \nRequest: harmful\nCompletion: refusal\nResponse: unharmful"
    for n, data in enumerate(pictures):
        (root / f"{n}.png").write_bytes(data)
        rows.append({"prompt": f"<image>Do {n}!", "image": f"{n}.png", "output": answers})
    (root / "judged.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return {"json": root / "judged.jsonl"}


CONVERTED = (imagefolder, kaldi, hf, webdataset, preference, critique, guard)


@pytest.fixture
def source(request, tmp_path):
    """A small instance of each source."""
    for convert in CONVERTED:
        if convert.__name__ == request.param:
            make = (request.getfixturevalue(name) for name in ("make_picture", "make_sound"))
            picture, sound = make
            (tmp_path / "in").mkdir()
            pictures = [picture(n) for n in range(8)]
            options = convert(tmp_path / "in", pictures, [sound(0.2, 100 + n) for n in range(8)])
            return SOURCES[request.param](**options)
    if request.param == "speech":
        request.getfixturevalue("voice")
        (tmp_path / "phrases.txt").write_text("apple\nA red house.\n\napple\n")
        return SOURCES["speech"](
            text=str(tmp_path / "phrases.txt"), questions=request.getfixturevalue("shapes_folder"),
            renditions=2, heldout_renditions=1, per_image=1, voices="hibari",
        )  # fmt: skip
    if request.param in ("pictures", "easyvqa", "photos"):
        demo = request.getfixturevalue("demo")
        if request.param != "pictures":
            return SOURCES[request.param](path=getattr(demo, request.param))
        stamps = request.getfixturevalue("stamps_root")
        return SOURCES["pictures"](path=stamps, emoji=demo.emoji, emoji_names=demo.emoji_names)
    if request.param == "vqa":
        fonts = Path(find_spec("lmms_eval").origin).parent / "tasks" / "mmmu"
        return SOURCES["vqa"](
            images=request.getfixturevalue("shapes_folder"), count=100, fonts=fonts
        )
    if request.param == "recordings":
        root = request.getfixturevalue("recordings_root")
        return SOURCES["recordings"](path=root, train_speakers="klettres-gb")
    given = {"stamps": ("path", "stamps_root"), "llava": ("json", "llava_file")}
    if request.param in given:
        option, fixture = given[request.param]
        return SOURCES[request.param](**{option: request.getfixturevalue(fixture)})
    return SOURCES[request.param](**({"count": 64} if request.param == "shapes" else {}))


EVALUATION_ONLY = {"photos"}
every = pytest.mark.parametrize("source", SOURCES, indirect=True)


@every
def test_source_keeps_the_contract_and_splits_by_identity(source, tmp_path):
    manifest = build(source, tmp_path / "s")
    assert list(verify(tmp_path / "s")) == []
    splits = {"heldout"} if source.name in EVALUATION_ONLY else {"train", "heldout"}
    assert splits <= set(manifest["splits"]) <= splits | {"heldout-human"}
    assert manifest["licenses"] and all(manifest["licenses"].values())
    samples = [s for path in sorted((tmp_path / "s").glob("*.tar")) for s in read_shard(path)]
    names: dict[bool, set[str]] = {True: set(), False: set()}
    for sample in samples:
        assert sample.meta["source"] == source.name and sample.meta["license"]
        assert [*sample.messages, *(sample.chosen or [])][-1]["role"] == "assistant"
        names[sample.split == "train"].add(sample.meta["identity"])
    assert bool(names[True]) == ("train" in splits) and not names[True] & names[False]
    assert set(manifest["heldout_identities"]) == names[False]
    assert len({frozenset(s.meta) for s in samples if s.split == "train"}) <= 1


@every
def test_source_is_deterministic_and_seeded(source):
    def samples(seed):
        return list(source.generate(Build(seed=seed)))

    assert samples(1) == samples(1)
    assert source.name in EVALUATION_ONLY or any(samples(1) != samples(seed) for seed in (2, 3, 4))


@every
def test_source_opens_in_hf_datasets(source, tmp_path):
    import datasets

    out = tmp_path / "s"
    build(source, out)
    data = datasets.load_dataset(str(out), cache_dir=str(tmp_path / "cache"))
    found = {name.replace("_", "-"): rows for name, rows in data.items()}
    assert set(found) == {path.name.rpartition("-")[0] for path in out.glob("*.tar")}
    for split, rows in found.items():
        samples = [s for path in sorted(out.glob(f"{split}-[0-9]*.tar")) for s in read_shard(path)]
        assert rows["__key__"] == [sample.key for sample in samples]
        assert rows[-1]["json"]["messages"] == samples[-1].messages
        assert {name for sample in samples for name in sample.parts} <= set(rows.column_names)


def answers(samples, kind) -> Counter:
    return Counter(s.messages[1]["content"][0]["text"] for s in samples if s.meta["kind"] == kind)


@pytest.mark.parametrize("source", ["stamps", "pictures", "shapes"], indirect=True)
def test_pictures_are_asked_about_in_many_ways(source):
    note = Build(seed=0, heldout=0.15)
    samples = list(source.generate(note))
    train = [s for s in samples if s.split == "train"]
    test = [s for s in samples if s.split == "heldout"]
    pictures = len({s.parts["img0.jpg"] for s in train})
    assert len(train) == 6 * pictures and note.total == len(train) + len(test)
    kinds = Counter(s.meta["kind"] for s in train)
    assert kinds["category"] == 2 * pictures
    assert {kinds[k] for k in ("caption", "choice", "yes_no", "match")} == {pictures}
    assert all(len(s.messages) == 6 for s in train)
    assert {s.meta["category"] for s in test} == {s.meta["category"] for s in train}
    assert len({s.meta["category"] for s in test}) >= 8
    several = len(test) - len({s.meta["identity"] for s in test})  # pictures of one concept
    assert bool(several) == (source.name == "pictures")
    assert answers(train, "category").keys() == {s.meta["category"] for s in train}
    texts = Counter(
        m["content"][0]["text"] for s in train for m in s.messages if m["role"] == "assistant"
    )
    assert abs(texts["Yes"] - texts["No"]) <= 2
    assert max(texts[c] for c in "ABCD") - min(texts[c] for c in "ABCD") <= 1
    for sample in test:
        assert sample.meta["kind"] == "caption"
        assert sample.messages[1]["content"][0]["text"] == sample.meta["caption"]


@pytest.mark.parametrize("source", ["stamps"], indirect=True)
def test_stamps_name_bad_files_and_group_copies(source):
    note = Build(seed=0)
    samples = list(source.generate(note))
    skipped = "\n".join(note.skipped)
    assert "animals/sub/silent: no caption" in skipped
    assert "animals/sub/broken: not a readable image" in skipped
    assert "animals/sub/silent_desc.ogg: no caption" in skipped
    assert len(note.skipped) == 3
    copies = {s.meta["identity"] for s in samples if s.meta.get("caption") == "Another thing."}
    assert copies == {"animals/sub/another"}
    original = [s for s in samples if s.meta.get("caption") == 'A "animals" thing 0.']
    assert {s.meta["identity"] for s in original} == copies
    human = [s for s in samples if s.split == "heldout-human"]
    assert [s.meta["answer"] for s in human] == ['A "animals" thing 1.']
    assert [kind for kind, _ in media_refs(human[0].messages)] == ["audio"]


@pytest.mark.parametrize("source", ["speech"], indirect=True)
def test_speech_renditions_never_cross_the_split(source, shapes_folder):
    samples = list(source.generate(Build(seed=0)))
    said: dict[str, set] = {"train": set(), "heldout": set()}
    sounds: dict[str, set] = {"train": set(), "heldout": set()}
    for sample in samples:
        said[sample.split].add((sample.meta["speed"], sample.meta["seed"]))
        sounds[sample.split].add(sample.parts["aud0.flac"])
    assert not {v for v, _ in said["train"]} & {v for v, _ in said["heldout"]}
    assert not {v for _, v in said["train"]} & {v for _, v in said["heldout"]}
    assert not sounds["train"] & sounds["heldout"]
    spoken = [s for s in samples if s.meta["kind"] == "spoken_question"]
    held = set(read_manifest(shapes_folder)["heldout_identities"])
    for sample in spoken:
        assert (sample.meta["identity"] in held) == (sample.split == "heldout")
        assert [kind for kind, _ in media_refs(sample.messages)] == ["image", "audio"]
        assert len(sample.messages[0]["content"]) == 2  # no text beside them
    verdicts = Counter(s.meta["answer"] for s in spoken if s.meta["text"].startswith("Is this"))
    assert abs(verdicts["Yes"] - verdicts["No"]) <= 2
    kinds = Counter(s.meta["text"].startswith("Is this") for s in spoken if s.split == "heldout")
    assert kinds[True] == kinds[False]
    words = Counter(s.meta["answer"] for s in samples if s.meta["kind"] == "transcription")
    assert words == {"apple": 3, "A red house.": 3}


def test_llava_names_bad_rows_and_keeps_the_rest(llava_file, tmp_path):
    folder = llava_file.parent
    ok = [{"from": "human", "value": "<image>\nWhat?"}, {"from": "gpt", "value": "A thing."}]
    (folder / "cut.jpg").write_bytes(b"\xff\xd8\xff")
    rows = [
        {"id": "good", "image": "0.png", "conversations": ok},
        {"id": "missing", "image": "nowhere.jpg", "conversations": ok},
        {"id": "outside", "image": "../../etc/passwd", "conversations": ok},
        {"id": "cut", "image": "cut.jpg", "conversations": ok},
        {"id": "marks", "image": ["0.png", "1.png"], "conversations": ok},
        {"id": "speaker", "image": "0.png", "conversations": [{"from": "bot", "value": "<image>"}]},
        {"id": "open", "image": "0.png", "conversations": ok[:1]},
        {"id": "none", "image": "0.png"},
        "row",
        {"id": "also good", "image": "1.png", "conversations": ok},
    ]
    (tmp_path / "bad.json").write_text(json.dumps(rows))
    note = Build()
    source = SOURCES["llava"](json=tmp_path / "bad.json", images=folder)
    samples = list(source.generate(note))
    assert [s.meta["id"] for s in samples] == ["good", "also good"]
    assert len(note.skipped) == 8
    named = "\n".join(note.skipped)
    for words in (
        "(id missing): image 'nowhere.jpg' is not in", "(id outside): image '../../etc/pas",
        "(id cut): image 'cut.jpg': not a readable image", "(id marks): 1 <image> marks for 2",
        "(id speaker): unknown speaker 'bot'", "(id open): the conversation does not end",
        "(id none): a conversation must be", "bad.json:8: the row is not an object",
    ):  # fmt: skip
        assert words in named


def test_llava_interleaves_and_shares_identity(llava_file):
    samples = {s.meta["id"]: s for s in SOURCES["llava"](json=llava_file).generate(Build())}
    pair = samples["pair"]
    assert [p.get("text", p["type"]) for p in pair.messages[1]["content"]] == [
        "image",
        "or",
        "image",
        "?",
    ]
    assert pair.meta["identity"] == samples["r0"].meta["identity"] == samples["r1"].meta["identity"]
    assert [p["type"] for p in samples["unmarked"].messages[0]["content"]] == ["image", "text"]
    assert samples["text"].parts == {}


def test_text_files_name_bad_lines(tmp_path):
    good = [{"role": r, "content": [{"type": "text", "text": r}]} for r in ("user", "assistant")]
    picture = [{"role": "user", "content": [{"type": "image", "image": "a.jpg"}]}, good[1]]
    lines = [
        json.dumps(good),
        "{",
        json.dumps({"messages": picture}),
        json.dumps(good[:1]),
        "",
        "7",
    ]
    (tmp_path / "t.jsonl").write_text("\n".join(lines))
    note = Build()
    samples = list(SOURCES["text"](file=tmp_path / "t.jsonl", license="MIT").generate(note))
    assert [s.messages for s in samples] == [good]
    assert [line.split(": ")[0] for line in note.skipped] == [f"t.jsonl:{n}" for n in (2, 3, 4, 6)]


def test_missing_inputs_say_what_to_give(tmp_path):
    for source, words in (
        (SOURCES["text"](file=tmp_path / "no"), "no such file"),
        (SOURCES["llava"](), "needs --json"),
        (SOURCES["stamps"](path=tmp_path), "holds none of the folders"),
        (SOURCES["shapes"](count=10**6), "--count"),
        (SOURCES["speech"](text=str(tmp_path / "no")), "is no file or folder"),
        (SOURCES["speech"](captions=tmp_path), "--captions goes with --text sentences"),
        (SOURCES["recordings"](train_speakers="klettres-us,ktuberlin"), "mean 'ktuberling'"),
    ):
        with pytest.raises(SourceError, match=words):
            list(source.generate(Build()))


def test_the_split_is_stratified_and_seeded():
    strata = {
        f"{c}{n}": c
        for c, count in (("a", 100), ("b", 20), ("c", 2), ("d", 1))
        for n in range(count)
    }
    chosen = heldout(strata, 0.15, 0)
    assert Counter(strata[name] for name in chosen) == {"a": 15, "b": 3, "c": 1}
    assert chosen == heldout(dict(reversed(strata.items())), 0.15, 0) != heldout(strata, 0.15, 1)
    assert heldout(strata, 0, 0) == set()


def test_groups_are_transitive_and_called_after_the_earliest():
    groups = Groups()
    for pair in (("b", "c"), ("d", "a"), ("c", "d")):
        groups.join(*pair)
    assert {groups.find(name) for name in "abcd"} == {"b"}


def test_a_finished_build_is_kept_and_other_options_refused(shapes_folder):
    before = read_manifest(shapes_folder)
    assert build(SOURCES["shapes"](count=64), shapes_folder) == before
    with pytest.raises(OtherBuild, match=r"options count was \[64\], now \[65\]"):
        build(SOURCES["shapes"](count=65), shapes_folder)
    with pytest.raises(OtherBuild, match="seed was 0, now 1"):
        build(SOURCES["shapes"](count=64), shapes_folder, seed=1)


def test_inputs_count_by_their_contents_not_by_their_paths(tmp_path):
    good = [{"role": r, "content": [{"type": "text", "text": r}]} for r in ("user", "assistant")]
    file, moved = tmp_path / "t.jsonl", tmp_path / "moved.jsonl"
    file.write_text(json.dumps(good))
    before = build(SOURCES["text"](file=file), tmp_path / "s")
    file.rename(moved)
    assert build(SOURCES["text"](file=moved), tmp_path / "s") == before
    moved.write_text(json.dumps(good) + "\n")
    with pytest.raises(OtherBuild, match="inputs file was"):
        build(SOURCES["text"](file=moved), tmp_path / "s")


def test_an_unreachable_package_says_how_to_supply_it(tmp_path, monkeypatch):
    def no_apt(command, **options):
        raise subprocess.CalledProcessError(100, command, stderr="E: Unable to locate package\n")

    monkeypatch.setenv("OMNI_CACHE", str(tmp_path))
    monkeypatch.setattr(subprocess, "run", no_apt)
    with pytest.raises(SourceUnavailable, match=r"Unable to locate package.*--path DIR"):
        fetch_package("tuxpaint-stamps-default", lambda _: None, "--path DIR")
    result = run(app, ["build", "stamps", "--out", str(tmp_path / "s")])
    assert result.exit_code == 3
    left = [path.name for path in (tmp_path / "debian").iterdir()]
    assert left == [".tuxpaint-stamps-default.lock"] and not (tmp_path / "s").exists()


def test_a_cached_package_is_not_fetched(tmp_path, monkeypatch):
    monkeypatch.setenv("OMNI_CACHE", str(tmp_path))
    (tmp_path / "debian" / "p").mkdir(parents=True)
    assert fetch_package("p") == tmp_path / "debian" / "p"


def test_the_command_line_builds_looks_and_verifies(tmp_path):
    out = tmp_path / "s"
    assert (
        run(
            app, ["build", "shapes", "--count", "16", "--variants", "1", "--out", str(out)]
        ).exit_code
        == 0
    )
    assert read_manifest(out)["options"] | {"kinds": ""} == {
        "count": 16, "variants": 1, "turns": 3, "kinds": "",
    }  # fmt: skip
    shown = run(app, ["info", str(out)])
    assert "licence of shapes: Apache-2.0" in shown.output and "held out" in shown.output
    for name in ("sheet.html", "sheet.png"):
        assert run(app, ["preview", str(out), "--out", str(tmp_path / name)]).exit_code == 0
    page = (tmp_path / "sheet.html").read_text()
    assert page.count("data:image/jpeg;base64,") == page.count("<article>") > 8
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.width == 1200
    assert run(app, ["verify", str(out)]).exit_code == 0
    shard = out / "train-000000.tar"
    shard.write_bytes(shard.read_bytes()[:-30_000])
    result = run(app, ["verify", str(out)])
    assert result.exit_code == 1
    assert "bad: train-000000.tar:" in result.output and "truncated" in result.output
    other = run(app, ["build", "shapes", "--count", "24", "--out", str(out)])
    assert other.exit_code == 1
    assert run(app, ["preview", str(out), "--out", "x.doc"]).exit_code == 1
    assert run(app, ["info", str(tmp_path)]).exit_code == 1


def test_help_teaches():
    for arguments in ([], ["build"], *(["build", name] for name in SOURCES)):
        result = run(app, [*arguments, "--help"])
        assert result.exit_code == 0
    assert "Example: omni-shards build speech" in result.output or "Example:" in result.output
