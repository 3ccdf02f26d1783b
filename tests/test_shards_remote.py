"""Shards behind URLs: a real S3 server, plain HTTP, and everything that can go wrong with them."""

import http.server
import io
import itertools
import json
import os
import signal
import subprocess
import sys
import tarfile
import threading
import time
from hashlib import sha256
from pathlib import Path

import fsspec
import pytest

from data_shards.index.index import Index, build_index
from data_shards.plan.plan import Plan, PlanConfig
from data_shards.read.entry import read_entry
from data_shards.read.loader import Loader
from data_shards.remote.cache import ShardCache, shard_cache
from data_shards.remote.files import RemoteError, find, is_url, local_path, shown
from data_shards.remote.origin import manifests
from data_shards.shards.sample import Sample
from data_shards.shards.shard import BadSample
from data_shards.shards.write import ShardSet
from omni.processing.messages import assistant, image, user
from omni.weights import cache_dir

SIZE = 20 * 512


def shard(seed: int) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        info = tarfile.TarInfo(f"{seed:08d}.json")
        info.size = 8000
        archive.addfile(info, io.BytesIO(bytes([seed]) * 8000))
    return out.getvalue()


class Handler(http.server.SimpleHTTPRequestHandler):
    """A plain file server whose downloads can be made to fail: `server.trouble(name) -> word`."""

    def log_message(self, *args):
        pass

    def do_GET(self):
        name = self.path.rpartition("/")[2]
        trouble = self.server.trouble(name) if name.endswith(".tar") else ""
        self.server.served.append(name)
        if not trouble:
            return super().do_GET()
        if trouble == "busy":
            return self.send_error(503)
        data = bytearray((Path(self.directory) / self.path.lstrip("/")).read_bytes())
        if trouble == "flip":
            data[700] ^= 1
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if trouble == "cut":
            return self.wfile.write(data[:3000])
        self.wfile.write(data[:600])
        if trouble == "hang":
            self.wfile.flush()
            self.server.hanging.set()
            self.server.release.wait(10)
        self.wfile.write(data[600:])


@pytest.fixture
def web(tmp_path):
    """Serve four shards with a manifest; `web.url`, `web.trouble` and `web.served`."""
    folder = tmp_path / "www" / "set"
    folder.mkdir(parents=True)
    shards = {f"train-{n:06d}.tar": shard(n) for n in range(4)}
    for name, data in shards.items():
        (folder / name).write_bytes(data)
    facts = {n: {"bytes": len(d), "sha256": sha256(d).hexdigest()} for n, d in shards.items()}
    (folder / "manifest.json").write_text(json.dumps({"shards": facts}))

    def handler(*args):
        return Handler(*args, directory=str(tmp_path / "www"))

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    server.trouble, server.served = lambda name: "", []
    server.hanging, server.release = threading.Event(), threading.Event()
    server.url = f"http://127.0.0.1:{server.server_port}/set"
    server.shards, server.folder = shards, folder
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield server
    server.release.set()
    server.shutdown()
    server.server_close()


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Do not wait between attempts."""
    monkeypatch.setattr("data_shards.remote.files.WAIT", 0.0)


@pytest.fixture
def store(tmp_path):
    return ShardCache(tmp_path / "cache", max_bytes=10 * SIZE, attempts=3)


def read(store: ShardCache, url: str) -> bytes:
    with store.open(url) as file:
        return os.pread(file.fileno(), 1 << 20, 0)


def held(store: ShardCache) -> int:
    return sum(f.stat().st_size for f in store.folder.iterdir())


def test_plain_paths_are_not_urls(store, tmp_path):
    (tmp_path / "a b.tar").write_bytes(b"x")
    assert not is_url(str(tmp_path / "a b.tar")) and not is_url("C:/x") and not is_url("a:b.tar")
    assert is_url("s3://b/x.tar") and is_url("hf://datasets/a/b/x.tar")
    assert local_path(f"file://{tmp_path}/a%20b.tar") == tmp_path / "a b.tar"
    assert read(store, str(tmp_path / "a b.tar")) == b"x"
    assert store.path(tmp_path / "a b.tar") == tmp_path / "a b.tar"
    assert not store.folder.exists()


def test_a_shard_is_fetched_once_over_http(web, store):
    url = f"{web.url}/train-000001.tar"
    assert read(store, url) == read(store, url) == web.shards["train-000001.tar"]
    again = ShardCache(store.folder, store.max_bytes)  # as a second process would
    assert again.path(url).read_bytes() == web.shards["train-000001.tar"]
    assert web.served.count("train-000001.tar") == 1
    assert (store.fetched, again.fetched) == (1, 0)


@pytest.fixture(scope="module")
def s3():
    """Run an S3 server of moto on a free port and point fsspec to it; yield the filesystem."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    options = {"key": "k", "secret": "s", "endpoint_url": f"http://{host}:{port}"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(fsspec.config.conf, "s3", options)
        fs = fsspec.filesystem("s3")
        fs.mkdir("bucket")
        yield fs
    server.stop()


def test_s3(web, store, s3):
    for name, data in web.shards.items():
        s3.pipe(f"bucket/set/{name}", data)
    urls = [f"s3://bucket/set/{name}" for name in web.shards]
    # without a manifest: by listing, checked by size and version
    assert find("s3://bucket/set") == find("s3://bucket/set/train-*.tar") == urls
    assert [read(store, url) for url in urls] == list(web.shards.values())
    s3.pipe("bucket/set/train-000000.tar", shard(9))  # rebuilt: the copy is not used
    s3.invalidate_cache()
    assert read(ShardCache(store.folder, store.max_bytes), urls[0]) == shard(9)
    with pytest.raises(RemoteError, match=r"s3://bucket/set/none.tar: there is no such file"):
        store.open("s3://bucket/set/none.tar")


@pytest.fixture(scope="module")
def indexed(s3, tmp_path_factory, make_picture):
    """Write nine samples in three shards, index them, and copy all to S3; return the folder."""
    folder = tmp_path_factory.mktemp("indexed") / "set"

    def samples():
        for n in range(9):
            talk = [user(image("img0.png"), str(n)), assistant("x")]
            meta = {"source": "x", "license": "Apache-2.0", "schema": 1}
            yield Sample(talk, {"img0.png": make_picture(n)}, meta)

    with ShardSet(folder, shard_samples=4) as shards:
        for sample in samples():
            shards.add(sample)
        shards.commit({})
    build_index(folder)
    s3.put(str(folder), "bucket/indexed", recursive=True)
    return folder


def content(loader: Loader, steps: int) -> list:
    return [
        (
            batch.documents.keys,
            batch.tensors["input_ids"].tolist(),
            batch.tensors["pixel_values"].sum(),
        )
        for batch, _ in itertools.islice(loader, steps)
    ]


@pytest.mark.parametrize("window", [None, 1])
def test_a_plan_reads_from_s3_what_it_reads_from_the_disk(s3, indexed, omni_pair, window):
    _, processor = omni_pair
    loaders = []
    for where in (indexed, "s3://bucket/indexed"):
        index = Index.open(where)
        config = PlanConfig({"a": 1.0}, max_samples=3, shuffle_shards=window)
        plan = Plan({"a": index}, config, {"a": index.lengths(processor)})
        loaders.append(Loader(plan, processor, timeout=5.0))
    assert loaders[0].state_dict() == loaders[1].state_dict()
    here, there = (content(loader, 7) for loader in loaders)
    assert here == there
    # the shards of the next windows are fetched before their turn
    first = Loader(loaders[1].plan, processor, workers=0)
    asked = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ShardCache, "prefetch", lambda self, urls: asked.append(urls))
        next(iter(first))
    order = [key.partition(":")[0] for batch in here[:3] for key in batch[0]]
    names = [url.rpartition("/")[2] for url in asked[0]]
    assert len(asked[0]) == (2 if window else 3)
    if window:
        assert names == list(dict.fromkeys(order))[:2]


def test_an_outage_ends_a_run_and_quarantines_nothing(s3, indexed, omni_pair, tmp_path):
    _, processor = omni_pair
    s3.put(str(indexed), "bucket/fleeting", recursive=True)
    index = Index.open("s3://bucket/fleeting")
    config = PlanConfig({"a": 1.0}, max_samples=2)
    plan = Plan({"a": index}, config, {"a": index.lengths(processor)})
    for path in (cache_dir() / "shards").glob("*-train-*.tar"):
        path.unlink()
    s3.rm("bucket/fleeting/train-000001.tar")
    s3.invalidate_cache()
    loader = Loader(plan, processor, quarantine=tmp_path / "quarantine.jsonl", timeout=5.0)
    with pytest.raises(RemoteError, match=r"fleeting/train-000001\.tar: there is no such file"):
        content(loader, 6)
    assert not (tmp_path / "quarantine.jsonl").exists()


def test_a_checkpoint_remembers_remote_data_as_it_does_local(s3, indexed):
    here, there = manifests(indexed), manifests(["s3://bucket/indexed"])
    assert here == there and len(here) == 1
    assert manifests([indexed, "s3://bucket/indexed/train-000000.tar"]) == here


def test_samples_of_an_indexed_set_in_s3_are_those_of_the_disk(s3, indexed):
    here, there = Index.open(indexed), Index.open("s3://bucket/indexed")
    assert here.hash == there.hash
    for row in range(9):
        assert read_entry(here.entry(row)) == read_entry(there.entry(row))
    # an outage is no damage: it must not quarantine what is intact
    shard_cache().path(there.shards[0]).unlink()
    s3.rm("bucket/indexed/train-000000.tar")
    with pytest.raises(RemoteError, match=r"indexed/train-000000\.tar: there is no such file"):
        read_entry(there.entry(0))
    # a spoilt copy is fetched again; what is spoilt at its source is a bad sample
    spoil(shard_cache().path(there.shards[1]), here.entry(4))
    assert read_entry(there.entry(4)) == read_entry(here.entry(4))
    local = shard_cache().path(there.shards[1])
    spoil(local, here.entry(5))
    with pytest.raises(BadSample, match=r"img0\.png differs from its checksum"):
        read_entry(there.entry(5))


def spoil(path: Path, entry) -> None:
    with path.open("r+b") as file:
        file.seek(entry.parts[1].offset + 20)
        file.write(b"spoilt")


def test_shards_are_found_by_manifest_braces_and_wildcards(web):
    urls = [f"{web.url}/train-{n:06d}.tar" for n in range(4)]
    assert find(web.url) == find(f"{web.url}/") == urls
    assert find(f"{web.url}/train-00000{{1..2}}.tar") == urls[1:3]
    assert find(f"{web.url}/*-00000[23].tar") == urls[2:]
    with pytest.raises(RemoteError, match="no shard matches"):
        find(f"{web.url}/heldout-*.tar")


def test_a_corrupt_download_is_fetched_again_and_never_kept(web, store):
    url = f"{web.url}/train-000000.tar"
    spoilt = iter(["flip", "cut"])
    web.trouble = lambda name: next(spoilt, "")
    assert read(store, url) == web.shards["train-000000.tar"]
    assert web.served.count("train-000000.tar") == 3
    web.trouble = lambda name: "flip"
    with pytest.raises(RemoteError, match=r"train-000001.tar: .* sha256 .* \(3 attempts\)"):
        store.open(f"{web.url}/train-000001.tar")
    assert held(store) == SIZE  # nothing of it stays


def test_a_copy_that_was_damaged_on_disk_is_replaced(web, store):
    url = f"{web.url}/train-000000.tar"
    store.path(url).write_bytes(b"short")
    assert read(store, url) == web.shards["train-000000.tar"]
    store.path(url).write_bytes(b"x" * SIZE)  # what only a checksum of the reader can find
    assert store.mend(url)
    assert read(store, url) == web.shards["train-000000.tar"]
    assert not store.mend(url)  # a shard that is damaged at its source is not fetched for ever


def test_the_least_recently_used_goes_first(web, tmp_path, caplog):
    store = ShardCache(tmp_path / "cache", max_bytes=2 * SIZE)
    urls = [f"{web.url}/{name}" for name in web.shards]
    first = store.open(urls[0])
    for n in (1, 0, 2):  # 1 is the oldest when 2 comes
        read(store, urls[n])
        time.sleep(0.01)
    assert held(store) == 2 * SIZE
    assert store.path(urls[0]) and web.served.count("train-000000.tar") == 1
    read(store, urls[1])
    assert web.served.count("train-000001.tar") == 2
    assert "fetched again" in caplog.text
    read(store, urls[3])
    assert (
        os.pread(first.fileno(), SIZE, 0) == web.shards["train-000000.tar"]
    )  # evicted, still open


def test_a_cache_smaller_than_one_shard_says_so(web, tmp_path):
    store = ShardCache(tmp_path / "cache", max_bytes=SIZE - 1)
    with pytest.raises(RemoteError, match=r"10,240 bytes do not fit into a cache of 10,239"):
        store.open(f"{web.url}/train-000000.tar")


def test_an_unreachable_host_is_named(store):
    with pytest.raises(
        RemoteError, match=r"^http://127.0.0.1:9/set/train-000000.tar: .*3 attempts"
    ):
        store.open("http://user:secret@127.0.0.1:9/set/train-000000.tar?sig=abc")
    assert shown("http://user:secret@h:9/a.tar?sig=abc") == "http://h:9/a.tar"
    with pytest.raises(RemoteError, match=r"nosuch://x/y.tar: .*nosuch"):
        store.open("nosuch://x/y.tar")


def test_a_busy_server_is_asked_again(web, store):
    busy = iter(["busy", "busy"])
    web.trouble = lambda name: next(busy, "")
    assert read(store, f"{web.url}/train-000000.tar") == web.shards["train-000000.tar"]


CHILD = """
import sys
from data_shards.remote.cache import ShardCache
ShardCache(sys.argv[1], int(sys.argv[2])).open(sys.argv[3])
"""


def test_a_killed_download_leaves_nothing_that_is_read_or_counted(web, tmp_path):
    store = ShardCache(tmp_path / "cache", max_bytes=SIZE)
    web.trouble = lambda name: "hang"
    args = [str(store.folder), str(SIZE), f"{web.url}/train-000000.tar"]
    child = subprocess.Popen([sys.executable, "-c", CHILD, *args], env={**os.environ})
    assert web.hanging.wait(20)
    child.send_signal(signal.SIGKILL)
    child.wait()
    partial = list(store.folder.glob("*.partial"))
    assert [p.stat().st_size for p in partial] == [SIZE]
    web.trouble = lambda name: ""
    assert read(store, f"{web.url}/train-000001.tar") == web.shards["train-000001.tar"]
    assert not list(store.folder.glob("*.partial"))  # its room was needed
    assert read(store, f"{web.url}/train-000000.tar") == web.shards["train-000000.tar"]


MANY = """
import contextlib, fcntl, hashlib, json, os, sys, threading
from data_shards.remote.cache import ShardCache
folder, size, urls, seed = sys.argv[1], int(sys.argv[2]), json.loads(sys.argv[3]), int(sys.argv[4])
store, got, most = ShardCache(folder, size, attempts=1), set(), 0

def work(seed):
    global most
    for n in range(6):
        url = urls[(n * (seed + 1) + seed) % len(urls)]
        with store.open(url) as file:
            got.add((url, hashlib.sha256(os.pread(file.fileno(), 1 << 20, 0)).hexdigest()))
        with open(f"{folder}/.lock") as gate:  # or what is evicted is counted with what follows it
            fcntl.flock(gate, fcntl.LOCK_EX)
            sizes = {}  # by inode: a partial file may be renamed while we look
            for entry in os.scandir(folder):
                with contextlib.suppress(FileNotFoundError):
                    found = os.stat(entry.path)
                    sizes[found.st_ino] = found.st_size
        most = max(most, sum(sizes.values()))

threads = [threading.Thread(target=work, args=(2 * seed + n,)) for n in range(2)]
[t.start() for t in threads]
[t.join() for t in threads]
print(json.dumps([sorted(got), most]))
"""


@pytest.mark.parametrize("room", [1, 4])
def test_processes_and_threads_share_a_cache_within_its_bound(web, tmp_path, room):
    urls = [f"{web.url}/{name}" for name in web.shards]
    args = [sys.executable, "-c", MANY, str(tmp_path / "cache"), str(room * SIZE), json.dumps(urls)]
    workers = [subprocess.Popen([*args, str(n)], stdout=subprocess.PIPE) for n in range(2)]
    results = [json.loads(worker.communicate(timeout=60)[0]) for worker in workers]
    right = sorted([f"{web.url}/{n}", sha256(d).hexdigest()] for n, d in web.shards.items())
    for got, most in results:
        assert got and all(pair in right for pair in got)
        assert most <= room * SIZE
    if room == 4:  # it holds all: each was fetched once, by whoever came first
        assert all(web.served.count(name) == 1 for name in web.shards)


def test_prefetch_fills_half_of_the_cache_in_order(web, tmp_path, monkeypatch):
    urls = [f"{web.url}/{name}" for name in reversed(web.shards)]
    known, third = ShardCache.size, threading.Event()

    def slow(self, url):  # the second size would come after the third: its room is still second
        if url == urls[2]:
            third.set()
        if url == urls[1] and third.wait(0.5):
            time.sleep(0.1)
        return known(self, url)

    monkeypatch.setattr(ShardCache, "size", slow)
    store = ShardCache(tmp_path / "cache", max_bytes=4 * SIZE)
    store.prefetch([*urls, *urls, tmp_path / "local.tar"])
    deadline = time.monotonic() + 5
    while store.fetched < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.05)
    tars = [name for name in web.served if name.endswith(".tar")]
    assert sorted(tars) == ["train-000002.tar", "train-000003.tar"]
    web.trouble = lambda name: "busy"
    assert read(store, urls[0]) == web.shards["train-000003.tar"]  # no request is needed


def test_prefetch_leaves_errors_to_the_reader(store, web):
    store.prefetch([f"{web.url}/none.tar"])
    with pytest.raises(RemoteError, match=r"none\.tar"):
        store.open(f"{web.url}/none.tar")
