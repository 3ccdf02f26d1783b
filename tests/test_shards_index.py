"""The index finds every intact sample, knows its cost without decoding, and stays current."""

import http.server
import io
import os
import shutil
import tarfile
import threading
from functools import partial

import numpy as np
import pytest
import soundfile
from PIL import Image
from typer.testing import CliRunner

from data_shards.index import sidecar
from data_shards.index.index import Index, build_index
from data_shards.read.entry import read_entry, read_shard
from data_shards.remote.files import RemoteError
from data_shards.shards.sample import Sample
from data_shards.shards.shard import BadSample, scan_shard
from data_shards.shards.tar import BLOCK, scan
from data_shards.shards.write import ShardSet, write_shards
from data_shards.verify import verify
from omni.media.decode import MediaError, load_audio, load_image
from omni.media.facts import facts_of
from omni.media.resample import resampled
from omni.processing.messages import assistant, audio, image, user

META = {"source": "t", "license": "MIT", "schema": 1}


def picture(seed: int = 0, size=(20, 12), form="JPEG", **options) -> bytes:
    out = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 255, (*size[::-1], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(out, form, **options)
    return out.getvalue()


def sound(seconds: float, rate=16_000, form="WAV", channels=1, **options) -> bytes:
    out = io.BytesIO()
    wave = 0.1 * np.sin(np.arange(round(seconds * rate)) / 7)
    soundfile.write(out, np.stack([wave] * channels, 1), rate, format=form, **options)
    return out.getvalue()


def make(n: int, split: str = "train", text: str = "") -> Sample:
    ask = [image("img0.jpg"), *([audio("aud0.wav")] if n % 3 == 0 else []), f"question {n} {text}"]
    parts = {"img0.jpg": picture(n)} | ({"aud0.wav": sound(0.1 + n / 50)} if n % 3 == 0 else {})
    return Sample([user(*ask), assistant(f"answer {n}")], parts, dict(META), split=split)


@pytest.fixture
def folder(tmp_path):
    """Hold three train shards of four samples, and a held-out one."""
    with ShardSet(tmp_path / "s", shard_samples=4) as shards:
        for n in range(12):
            shards.add(make(n))
        shards.add(make(12, "heldout"))
        shards.commit({})
    return tmp_path / "s"


@pytest.fixture
def scans(monkeypatch):
    """Count which shards are scanned."""
    names = []
    real = sidecar.scan_rows

    def scan_rows(path):
        names.append(path.name)
        return real(path)

    monkeypatch.setattr(sidecar, "scan_rows", scan_rows)
    return names


def everything(index: Index) -> list[Sample]:
    return [read_entry(index.entry(row)) for row in range(len(index))]


def test_every_sample_is_one_span_with_checksums(folder):
    index = Index.open(folder)
    written = [s for path in sorted(folder.glob("train-*.tar")) for s in read_shard(path)]
    assert everything(index) == written
    assert [index.key(row) for row in range(12)] == [s.key for s in written]
    assert index.starts.tolist() == [0, 4, 8, 12]
    assert index.samples["shard"].tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert all(isinstance(t.base, np.memmap) for t in (index.samples, index.parts))
    entry = index.entry(3)
    with open(entry.shard, "rb") as file:
        span = os.pread(file.fileno(), entry.span, entry.offset)
    assert span.endswith(written[3].parts[entry.parts[-1].name])
    assert span[: len(entry.key)].decode() == entry.key


def test_a_changed_byte_is_a_bad_sample(folder):
    entry = Index.open(folder).entry(5)
    with open(entry.shard, "r+b") as file:
        file.seek(entry.parts[1].offset + 30)
        file.write(b"?!")
    with pytest.raises(BadSample, match=r"img0.jpg differs from its checksum"):
        read_entry(entry)


def test_facts_and_characters(folder):
    index = Index.open(folder)
    row, part = index.facts()
    kinds = part["kind"].tolist()
    assert (kinds.count(1), kinds.count(2)) == (12, 4)
    assert row[part["kind"] == 2].tolist() == [0, 3, 6, 9]
    images = part[part["kind"] == 1]
    assert np.unique(images[["width", "height"]]).tolist() == [(20, 12)]
    assert part["count"][part["kind"] == 2].tolist() == [1600, 2560, 3520, 4480]
    assert index.samples["chars"][0] == len("question 0 ") + len("answer 0")
    later = index.facts(4, 8)
    assert later.row.tolist() == [4, 5, 6, 6, 7]


def test_an_index_that_is_current_is_kept_and_a_changed_shard_scanned_alone(folder, scans):
    before = Index.open(folder)
    assert sorted(scans) == [f"train-00000{n}.tar" for n in range(3)]
    stamp = (folder / ".data_shards" / "index.json").stat().st_mtime_ns
    scans.clear()
    assert Index.open(folder).hash == before.hash and not scans
    assert (folder / ".data_shards" / "index.json").stat().st_mtime_ns == stamp
    write_shards([make(n, text="more") for n in range(5)], folder.parent / "other")
    shutil.copy(folder.parent / "other" / "train-000000.tar", folder / "train-000001.tar")
    after = Index.open(folder)
    assert scans == ["train-000001.tar"] and after.hash != before.hash
    assert len(after) == 13 and len(everything(after)) == 13
    assert [read_entry(before.entry(row)).key for row in range(4)]  # old tables stay readable


def test_a_copy_with_other_times_is_not_scanned_again(folder, scans, tmp_path):
    before = Index.open(folder)
    shutil.copytree(folder, tmp_path / "copy", copy_function=shutil.copyfile)
    scans.clear()
    after = Index.open(tmp_path / "copy")
    assert not scans and after.hash == before.hash
    last = after.entry(3)
    with open(last.shard, "r+b") as file:  # the end of the last sample is looked at
        file.seek(last.parts[-1].offset)
        file.write(b"????")
    Index.open(tmp_path / "copy")
    assert scans == ["train-000000.tar"]
    build_index(tmp_path / "copy", check=True)
    assert len(scans) == 5  # all four, whatever their size and time


def test_the_hash_is_of_the_samples(folder, tmp_path):
    ours = Index.open(folder)
    shutil.copytree(folder, tmp_path / "copy", ignore=shutil.ignore_patterns(".data_shards"))
    assert Index.open(tmp_path / "copy").hash == ours.hash
    assert Index.open(folder / "train-000000.tar").hash != ours.hash
    build_index(folder)  # held-out shards join the tables
    assert Index.open(folder).hash == ours.hash


def test_pieces_of_folders_are_joined(folder, tmp_path):
    write_shards([make(n, text="b") for n in range(3)], tmp_path / "t")
    build_index(folder)
    some = [folder / "train-000002.tar", folder / "heldout-000000.tar", tmp_path / "t"]
    index = Index.open(some)
    expected = [folder / "heldout-000000.tar", folder / "train-000002.tar",
                tmp_path / "t" / "train-000000.tar"]  # fmt: skip
    wanted = sorted([s.parts for path in expected for s in read_shard(path)], key=str)
    assert sorted([s.parts for s in everything(index)], key=str) == wanted
    assert [index.shards[n] for n in index.samples["shard"]] == [
        index.entry(row).shard for row in range(len(index))
    ]
    assert np.bincount(index.samples["shard"]).tolist() == np.diff(index.starts).tolist()


def test_a_killed_scan_goes_on_where_it_was(folder, scans, monkeypatch):
    real = sidecar.scan_rows

    def killed(path):
        if path.name == "train-000001.tar":
            raise KeyboardInterrupt
        return real(path)

    monkeypatch.setattr(sidecar, "scan_rows", killed)
    with pytest.raises(KeyboardInterrupt):
        build_index(folder)
    assert not (folder / ".data_shards" / "index.json").exists()
    monkeypatch.setattr(sidecar, "scan_rows", real)
    scans.clear()
    build_index(folder)
    assert sorted(scans) == ["train-000001.tar", "train-000002.tar"]
    assert sorted(path.suffix for path in (folder / ".data_shards").iterdir()) == [
        "", ".json", ".lock",
    ]  # fmt: skip


def test_jobs_change_nothing(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "copy")
    build_index(folder)
    build_index(tmp_path / "copy", jobs=2)
    tables = [sorted(p for p in (f / ".data_shards").rglob("*.npy")) for f in
              (folder, tmp_path / "copy")]  # fmt: skip
    assert [p.read_bytes() for p in tables[0]] == [p.read_bytes() for p in tables[1]]
    assert len(tables[0]) == 3


def test_a_folder_that_cannot_be_written_is_indexed_in_the_cache(
    folder, scans, monkeypatch, omni_pair
):
    monkeypatch.setattr(os, "access", lambda path, mode: folder not in (path, *path.parents))
    index = Index.open(folder)
    index.lengths(omni_pair[1])
    assert len(everything(index)) == 12 and not (folder / ".data_shards").exists()
    scans.clear()
    Index.open(folder)
    assert not scans


def test_a_damaged_index_is_made_again(folder):
    before = Index.open(folder)
    table = next((folder / ".data_shards").rglob("samples.npy"))
    table.write_bytes(table.read_bytes()[:200])
    assert Index.open(folder).hash == before.hash
    (folder / ".data_shards" / "index.json").write_text('{"schema":')
    assert len(everything(Index.open(folder))) == 12


def test_token_counts_are_kept_by_tokenizer_and_shard(folder, make_model, specs, monkeypatch):
    _, processor = make_model(vision=specs.vision, audio=specs.audio)
    counted = []
    real = type(processor).text_length
    monkeypatch.setattr(
        type(processor), "text_length", lambda *args: counted.append(1) or real(*args)
    )
    lengths = Index.open(folder).lengths(processor)
    assert len(counted) == 12
    encoded = [len(processor.encode(s.conversation())) for s in everything(Index.open(folder))]
    counted.clear()
    assert Index.open(folder).lengths(processor).tokens.tolist() == encoded == [*lengths.tokens]
    assert not counted
    write_shards([make(n, text="more") for n in range(2)], folder.parent / "other")
    shutil.copy(folder.parent / "other" / "train-000000.tar", folder / "train-000001.tar")
    assert len(Index.open(folder).text_tokens(processor)) == 10 and len(counted) == 2
    processor.chat_template = "x" + processor.chat_template
    Index.open(folder).text_tokens(processor)
    assert len(counted) == 2 + 10


def test_what_cannot_be_encoded_has_no_tokens(make_model, specs, tmp_path):
    _, processor = make_model(vision=specs.vision)
    samples = [make(1), make(3), make(4, text="<|vision|>")]  # the second has audio
    write_shards(samples, tmp_path / "s")
    lengths = Index.open(tmp_path / "s").lengths(processor)
    assert (lengths.tokens > 0).tolist() == [True, False, True]  # a placeholder in words is words
    assert lengths.tokens[2] == len(processor.encode(samples[2].conversation()))
    assert lengths.patches.tolist() == [9, 0, 9] and not lengths.frames.any()


def test_offsets_are_those_of_tarfile(folder):
    build_index(folder)
    for path in folder.glob("*.tar"):
        with tarfile.open(path) as archive:
            found = [m.offset for m in archive if m.name.endswith(".json")] + [archive.offset]
        assert np.fromfile(f"{path}.idx", "<u8").tolist() == found


def test_media_that_nobody_can_read_are_bad_at_once(tmp_path):
    samples = [make(n) for n in range(4)]
    samples[1].parts["img0.jpg"] = b"not an image"
    samples[3].parts["aud0.wav"] = sound(0)
    write_shards(samples, tmp_path / "s")
    index = Index.open(tmp_path / "s")
    assert [index.key(row) for row in range(len(index))] == ["00000000", "00000002"]
    assert [str(bad).partition(" at ")[0] for bad in index.bad] == [
        "train-000000.tar:00000001", "train-000000.tar:00000003",
    ]  # fmt: skip
    assert [bad.reason[:15] for bad in index.bad] == ["img0.jpg: not a", "aud0.wav: the a"]
    shutil.copytree(tmp_path / "s", tmp_path / "t", ignore=shutil.ignore_patterns(".data_shards"))
    write_shards(samples[1:2], tmp_path / "t")
    with pytest.raises(BadSample, match="not a readable image"):
        Index.open(tmp_path / "t")


EXIF = Image.Exif()
EXIF[0x0112] = 6  # shown turned by a quarter
IMAGES = {
    "jpeg": picture(size=(31, 17)),
    "progressive": picture(size=(31, 17), progressive=True),
    "turned jpeg": picture(size=(31, 17), exif=EXIF),
    "icc": picture(size=(31, 17), icc_profile=b"p" * 70_000),
    "png": picture(size=(31, 17), form="PNG"),
    "turned png": picture(size=(31, 17), form="PNG", exif=EXIF),
    "webp": picture(size=(31, 17), form="WEBP"),
    "gif": picture(size=(31, 17), form="GIF"),
}
SOUNDS = {
    "wav": sound(0.3),
    "stereo": sound(0.3, 44_100, channels=2),
    "float": sound(0.2, 22_050, subtype="FLOAT"),
    "24 bits": sound(0.2, 48_000, subtype="PCM_24"),
    "cut wav": sound(0.3)[:-100],
    "mu-law": sound(0.2, 8_000, subtype="ULAW"),
    "odd rate": sound(0.2, 44_101),
    "flac": sound(0.3, 11_025, form="FLAC"),
    "ogg": sound(0.3, 32_000, form="OGG"),
    "mp3": sound(0.3, 24_000, form="MP3"),
}


@pytest.mark.parametrize("name", IMAGES)
def test_image_facts_are_those_of_the_decoder(name):
    facts = facts_of("image", IMAGES[name])
    assert (facts.width, facts.height) == load_image(IMAGES[name]).size


@pytest.mark.parametrize("name", SOUNDS)
def test_audio_facts_are_those_of_the_decoder(name):
    facts = facts_of("audio", SOUNDS[name])
    counts, rates = np.array([facts.count], "u4"), np.array([facts.rate], "f4")
    assert resampled(counts, rates, 16_000) == [len(load_audio(SOUNDS[name]))]


@pytest.mark.parametrize("data", [b"", b"\xff\xd8\xff\xe0\0\0" * 3, b"\x89PNG\r\n\x1a\n", b"RIFF"])
def test_junk_has_no_facts(data):
    for kind in ("image", "audio", "video"):
        with pytest.raises(MediaError):
            facts_of(kind, data)


def archive(form, count: int = 30) -> bytes:
    """Make a tar with long names, folders, links and empty files among plain ones."""
    out, rng = io.BytesIO(), np.random.default_rng(0)
    with tarfile.open(fileobj=out, mode="w", format=form) as tar:
        for n in range(count):
            folder = tarfile.TarInfo(f"d{n}")
            folder.type = tarfile.DIRTYPE
            tar.addfile(folder)
            for name, size in ((f"d{n}/{n}.json", n), (f"{'é' * (n * 4 % 60)}/{n}.img0.jpg", 512)):
                info = tarfile.TarInfo(name)
                info.size, info.mtime = size, n + 0.5 * (n % 2)  # pax keeps fractions
                tar.addfile(info, io.BytesIO(rng.bytes(size)))
            link = tarfile.TarInfo(f"link{n}")
            link.type, link.linkname, link.size = tarfile.SYMTYPE, "x", 0
            tar.addfile(link)
    return out.getvalue()


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_headers_are_read_as_tarfile_reads_them(form):
    data = archive(form)
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        wanted = [(m.name, m.offset, m.offset_data, m.size) for m in tar if m.isfile()]
    found = scan(np.frombuffer(data, np.uint8))
    columns = (found.names, found.starts, found.data, found.sizes)
    assert [*zip(*columns, strict=True)] == wanted
    assert not found.damage


def test_whatever_blocks_are_lost_all_other_samples_are_found(tmp_path):
    rng = np.random.default_rng(0)
    write_shards([make(n) for n in range(40)], tmp_path / "s")
    path = tmp_path / "s" / "train-000000.tar"
    whole, clean = path.read_bytes(), scan_shard(path)[0]
    for trial in range(60):
        data = bytearray(whole)
        hit = rng.integers(0, clean[-1].offset // BLOCK, 1 + trial % 6)
        for block in hit.tolist():
            data[block * BLOCK : (block + 1) * BLOCK] = (b"\0", b"\xa5", b"7")[trial % 3] * BLOCK
        path.write_bytes(data)
        entries, bad = scan_shard(path)
        intact = [
            e.key for e in clean
            if not any(e.offset <= b * BLOCK < e.offset + e.span for b in hit.tolist())
        ]  # fmt: skip
        assert set(intact) <= {e.key for e in entries}
        lost = {e.key for e in clean} - {e.key for e in entries}
        assert len(bad) >= bool(lost)


def test_damage_in_shards_is_counted_and_the_rest_indexed(folder):
    whole = scan_shard(folder / "train-000000.tar")[0]
    with open(folder / "train-000000.tar", "r+b") as file:
        file.seek(whole[1].parts[0].offset - BLOCK)
        file.write(b"\xa5" * BLOCK)
    (folder / "train-000001.tar").write_bytes(b"")
    index = Index.open(folder)
    assert len(everything(index)) == 7
    assert {bad.shard for bad in index.bad} == {"train-000000.tar", "train-000001.tar"}
    build_index(folder)
    assert not (folder / "train-000000.tar.idx").exists()
    assert (folder / "train-000002.tar.idx").exists()


def test_commands_index_info_and_verify(folder):
    from data_shards.cli import app

    run = CliRunner().invoke
    made = run(app, ["index", str(folder), "--jobs", "1"])
    assert made.exit_code == 0 and "13 samples in 4 shards, 0 bad" in made.stdout
    told = run(app, ["info", str(folder)])
    assert "image: 13 files" in told.stdout and "median 20x12 pixels" in told.stdout
    assert list(verify(folder)) == []
    (folder / "manifest.json").unlink()
    assert "no manifest" in run(app, ["info", str(folder)]).stdout
    entry = Index.open(folder).entry(1)
    when = os.stat(entry.shard)
    with open(entry.shard, "r+b") as file:
        file.seek(entry.parts[1].offset + entry.parts[1].size - 20)
        file.write(b"?")  # still an image: only the checksum shows it
    os.utime(entry.shard, ns=(when.st_atime_ns, when.st_mtime_ns))
    checked = run(app, ["verify", str(folder)])
    assert checked.exit_code == 1
    assert "train-000000.tar:00000001 at byte" in checked.stdout and "checksum" in checked.stdout


def test_a_folder_without_shards_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"holds no \.tar file"):
        build_index(tmp_path)


@pytest.fixture
def served(folder):
    """Hold the URL of the folder on a web server of its own, and what was asked for."""
    asked = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

        def do_GET(self):
            asked.append(self.path.rpartition("/")[2])
            super().do_GET()

    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), partial(Handler, directory=str(folder.parent))
    )
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/s", asked
    server.shutdown()
    server.server_close()


def test_a_remote_index_is_fetched_without_the_shards(folder, served, omni_pair, tmp_path):
    url, asked = served
    with pytest.raises(RemoteError, match="no index beside the shards; run `omni-shards index`"):
        Index.open(url)
    build_index(folder)
    here = Index.open(folder)
    lengths = here.lengths(omni_pair[1])
    asked.clear()
    there = Index.open(url)
    assert (there.hash, len(there), there.shards[0]) == (here.hash, 12, f"{url}/train-000000.tar")
    assert there.lengths(omni_pair[1]).tokens.tolist() == lengths.tokens.tolist()
    assert there.entry(5).parts == here.entry(5).parts
    assert {name.partition("-")[0] for name in asked if name.endswith(".npy")} == {
        "samples.npy", "parts.npy", "keys.npy", "tokens",
    }  # fmt: skip
    asked.clear()
    assert len(Index.open([f"{url}/train-000001.tar"])) == 4
    assert not [name for name in asked if name.endswith((".npy", ".tar"))]


def test_token_counts_of_remote_shards_can_be_made_here(folder, served, omni_pair):
    build_index(folder)
    counts = Index.open(served[0]).text_tokens(omni_pair[1])
    assert counts.tolist() == Index.open(folder).text_tokens(omni_pair[1]).tolist()
