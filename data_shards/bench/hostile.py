"""Shards with every kind of damage, and what must be said of each."""

import io
import json
import os
import tarfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import soundfile
from PIL import Image

from omni.processing.messages import assistant, audio, image, user

from ..index.index import Index
from ..shards.sample import MAX_JSON_BYTES, MAX_PARTS, Sample
from ..shards.shard import scan_shard
from .data import META, RATE, picture, samples, sound

Files = list[tuple[str, bytes | str]]  # name and content; text is where a link points to


class Planted(NamedTuple):
    """Something bad: where it is reported, and what the reason must say."""

    case: str
    shard: str
    key: str
    reason: str


class Hostile:
    """A folder of shards; `intact` are the samples that must be read, by "shard:key"."""

    def __init__(self, folder: Path):
        self.folder, self.rng = folder, np.random.default_rng(0)
        self.intact: dict[str, Sample] = {}
        self.bad: list[Planted] = []
        folder.mkdir(parents=True)
        self._good = samples(10_000, media=("image", "audio"))
        for make in (self._parts, self._json, self._names, self._headers, self._cut, self._rot):
            make()
        for name, content, reason in (
            ("empty shard", bytes(10_240), "holds no sample"),
            ("zero-byte file", b"", "the file is empty"),
            ("web page", b"<html>404</html>" * 99, "no tar header"),
        ):
            self.shard = f"train-{name.replace(' ', '-')}.tar"
            (folder / self.shard).write_bytes(content)
            self._expect(name, "", reason)

    def _expect(self, case: str, key: str, reason: str) -> None:
        self.bad.append(Planted(case, self.shard, key, reason))

    def _intact(self, key: str = "") -> Files:
        """Return the files of another sample that must be delivered."""
        key = key or f"good{len(self.intact):05d}"
        sample = self.intact[f"{self.shard}:{key}"] = next(self._good)
        return _files(key, sample.parts, sample.to_json())

    def _write(self, name: str, cases: list[Files]) -> Path:
        """Write a shard in which intact samples stand around each case."""
        files = self._intact()
        for case in cases:
            files += case + self._intact()
        path = self.folder / name
        with tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as archive:
            for file, content in files:
                info = tarfile.TarInfo(file)
                if isinstance(content, str):
                    info.type, info.linkname = tarfile.SYMTYPE, content
                    archive.addfile(info)
                else:
                    info.size = len(content)
                    archive.addfile(info, io.BytesIO(content))
        return path

    def _parts(self) -> None:
        """Media that nobody can decode, or should, and parts that are not there."""
        self.shard, cases = "train-parts.tar", []
        jpg, wav = picture(self.rng), sound(self.rng)
        bomb, nan, empty = io.BytesIO(), io.BytesIO(), io.BytesIO()
        Image.new("1", (7_200, 7_200)).save(bomb, "PNG")  # 51.8 million pixels in 8 kB
        soundfile.write(nan, np.full(800, np.nan, np.float32), RATE, "FLOAT", format="WAV")
        soundfile.write(empty, np.zeros(0, np.int16), RATE, format="WAV")
        for case, name, content, reason in (
            ("bad jpg", "img0.jpg", jpg[: len(jpg) // 2], "not a readable image"),
            ("jpg that is a page", "img0.jpg", b"<html>404</html>", "not a readable image"),
            ("empty jpg", "img0.jpg", b"", "img0.jpg"),
            ("pixel bomb", "img0.png", bomb.getvalue(), "pixels"),
            ("junk wav", "aud0.wav", self.rng.bytes(4000), "not readable audio"),
            ("cut wav", "aud0.wav", wav[:30], "aud0.wav"),
            ("wav of NaN", "aud0.wav", nan.getvalue(), "NaN"),
            ("wav of nothing", "aud0.wav", empty.getvalue(), "empty"),
        ):
            key = case.replace(" ", "-")
            cases.append(_files(key, {name: content}))
            self._expect(case, key, reason)
        for case, files, reason in (
            ("missing part", _files("no-part", {"img0.jpg": jpg})[:1], "'img0.jpg'"),
            ("missing json", _files("no-json", {"img0.jpg": jpg})[1:], "no .json part"),
            ("a part twice", [*_files("twice", {"img0.jpg": jpg}), ("twice.img0.jpg", jpg)],
             "the same name"),
            ("too many parts", _files("many", {f"img{n}.jpg": b"" for n in range(MAX_PARTS + 1)}),
             "the limit is"),
        ):  # fmt: skip
            cases.append(files)
            self._expect(case, files[0][0].partition(".")[0], reason)
        self._write(self.shard, cases)

    def _json(self) -> None:
        """Json that is none, or takes all memory or stack to read."""
        self.shard, cases = "train-json.tar", []
        role = json.dumps({"messages": [{"role": "ass1stant", "content": []}]}).encode()
        for case, content, reason in (
            ("json bomb, deep", b"[" * 1_000_000, "not readable json"),
            ("json bomb, deep objects", b'{"messages":' * 200_000, "not readable json"),
            ("json bomb, large", b'{"messages": "' + b"x" * MAX_JSON_BYTES + b'"}', "the limit"),
            ("json bomb, digits", b'{"messages": ' + b"9" * 1_000_000 + b"}", "not readable json"),
            ("json cut short", b'{"messages": [', "not readable json"),
            ("json in no encoding", b'{"messages": "\xff\xfe"}', "not readable json"),
            ("json of a list", b"[1, 2]", "must be an object"),
            ("json of nothing", b"", "not readable json"),
            ("unknown role", role, "unknown role 'ass1stant'"),
        ):
            key = case.replace(" ", "-").replace(",", "")
            cases.append(_files(key, {}, content))
            self._expect(case, key, reason)
        self._write(self.shard, cases)

    def _names(self) -> None:
        """Names that lead out of a folder, come twice, or are none."""
        self.shard, jpg = "train-names.tar", picture(self.rng)
        first, second = self._intact("double"), _files("double", {"img0.jpg": jpg})
        passwd = _files("passwd", {"/etc/passwd": b""})[:1]
        link = [*_files("link", {"img0.jpg": b""})[:1], ("link.img0.jpg", "/etc/passwd")]
        # a name is only a name: these samples are intact, and nothing may be written where they say
        up, root = self._intact("../../escaped"), self._intact(f"{self.folder.parent}/escaped/x")
        self._write(self.shard, [first, second, passwd, link, up, root, [(".json", b"{}")]])
        self._expect("duplicate key", "double", "duplicate key")
        self._expect("reference to a file of the system", "passwd", "'/etc/passwd'")
        self._expect("link to a file of the system", "link", "'img0.jpg'")
        self._expect("name without a key", "", "no KEY.PART name")

    def _headers(self) -> None:
        """Headers of a json, of a picture, and of a sample that has nothing else."""
        self.shard, jpg = "train-headers.tar", picture(self.rng)
        keys = {"h-json": "h-json.json", "h-jpg": "h-jpg.img0.jpg", "h-all": "h-all.json"}
        cases = [_files(key, {} if key == "h-all" else {"img0.jpg": jpg}) for key in keys]
        path = self._write(self.shard, cases)
        with tarfile.open(path) as archive:
            places = {member.name: member.offset for member in archive}
        data = bytearray(path.read_bytes())
        for name in keys.values():
            data[places[name] : places[name] + 512] = self.rng.bytes(512)
        path.write_bytes(data)
        self._expect("bad header of a json", "h-json", "no .json part")
        self._expect("bad header of a picture", "h-jpg", "'img0.jpg'")
        self._expect("bad header of a whole sample", "", "no tar header")

    def _cut(self) -> None:
        """A shard of which the end is missing, in the middle of a picture."""
        self.shard = "train-cut.tar"
        path = self._write(self.shard, [self._intact() for _ in range(5)])
        *_, last = scan_shard(path)[0]
        del self.intact[f"{self.shard}:{last.key}"]
        with path.open("rb+") as file:
            file.truncate(last.offset + last.span - 100)
        self._expect("truncated tar", last.key, "truncated")

    def _rot(self) -> None:
        """A byte that changed after the shard was indexed, with neither size nor time."""
        self.shard = "train-rot.tar"
        path = self._write(self.shard, [_files("rot", {"img0.jpg": picture(self.rng)})])
        Index.open(path)
        entry = next(entry for entry in scan_shard(path)[0] if entry.key == "rot")
        data, stat = bytearray(path.read_bytes()), path.stat()
        data[entry.parts[1].offset + 200] ^= 1
        path.write_bytes(data)
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
        self._expect("rot", "rot", "differs from its checksum")


def _files(key: str, parts: dict[str, bytes], told: bytes | None = None) -> Files:
    """Return the files of a sample: its json, which shows all parts if it is not given, first."""
    shown: list[Any] = [audio(n) if n.startswith("aud") else image(n) for n in parts]
    sample = Sample([user(*shown, "?"), assistant("x")], parts, META.copy(), key)
    content = sample.to_json() if told is None else told
    return [(f"{key}.json", content), *((f"{key}.{name}", data) for name, data in parts.items())]
