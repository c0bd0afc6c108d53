"""MNIST: where its files are looked for, and a download from a server that misbehaves. Share of the suite: 1 s.

The server is on the loopback interface; the pinned sizes and hashes are replaced by those of small files.
"""
import gzip
import hashlib
import http.server
import struct
import threading
import time

import numpy as np
import pytest

from npdvae import data
from npdvae.data import download, mnist

ARRAYS = {
    "train-images-idx3-ubyte": np.random.default_rng(1).integers(0, 256, (9, 4, 4)).astype(np.uint8),
    "train-labels-idx1-ubyte": np.arange(9, dtype=np.uint8),
    "t10k-images-idx3-ubyte": np.random.default_rng(2).integers(0, 256, (5, 4, 4)).astype(np.uint8),
    "t10k-labels-idx1-ubyte": np.arange(5, dtype=np.uint8),
}
IMAGES = "train-images-idx3-ubyte"


def idx_bytes(array):
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


RAW = {name: idx_bytes(array) for name, array in ARRAYS.items()}
PACKED = {name: gzip.compress(raw, mtime=0) for name, raw in RAW.items()}


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves /<fault>/<file>.gz."""

    def do_GET(self):
        fault, name = self.path.strip("/").split("/")
        content = PACKED[name.removesuffix(".gz")]
        self.server.asked.append(self.path)
        if fault == "garbage":
            return self.wfile.write(b"what?\r\n\r\n")
        if fault == "missing":
            return self.send_error(404)
        if fault == "broken":
            return self.send_error(503)
        if fault == "other":
            content = gzip.compress(RAW[name.removesuffix(".gz")][:-1] + b"!")
        if fault == "page":
            content = b"<html>log in to the hotel's network</html>"
        if fault == "bomb":
            content = gzip.compress(RAW[name.removesuffix(".gz")] + bytes(2 ** 24), 9)
        self.send_response(200)
        if fault == "huge":
            self.send_header("Content-Length", str(2 ** 40))
        elif fault not in ("endless", "short-close"):
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        try:
            if fault == "endless":
                for _ in range(10_000):
                    self.wfile.write(bytes(2 ** 16))
            elif fault in ("truncate", "short-close"):
                self.wfile.write(content[:len(content) // 2])
            elif fault == "stall":
                self.wfile.write(content[:20])
                self.wfile.flush()
                self.server.release.wait(10)
            elif fault == "drip":
                for i in range(len(content)):
                    self.wfile.write(content[i:i + 1])
                    self.wfile.flush()
                    if self.server.release.wait(0.05):
                        break
            elif fault != "huge":
                self.wfile.write(content)
        except OSError:
            pass                                                    # the client hung up, as it should

    def log_message(self, *args):
        pass


@pytest.fixture
def server():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.asked, server.release = [], threading.Event()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    server.url = f"http://127.0.0.1:{server.server_address[1]}/"
    yield server
    server.release.set()
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(autouse=True)
def small_files(monkeypatch, tmp_path):
    monkeypatch.setattr(mnist, "FILES", {n: (len(r), hashlib.sha256(r).hexdigest()) for n, r in RAW.items()})
    monkeypatch.setattr(mnist, "MIRRORS", ("http://127.0.0.1:9/",))  # the discard port: refused at once
    monkeypatch.delenv("NPDVAE_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


def put(folder, packed=True, names=tuple(ARRAYS)):
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / (name + ".gz" * packed)).write_bytes((PACKED if packed else RAW)[name])
    return folder


def check(dataset):
    assert dataset.name == "mnist" and dataset.shape == (4, 4) and dataset.levels == 255
    np.testing.assert_array_equal(dataset.train, ARRAYS[IMAGES].reshape(9, 16))
    np.testing.assert_array_equal(dataset.test, ARRAYS["t10k-images-idx3-ubyte"].reshape(5, 16))
    np.testing.assert_array_equal(dataset.train_labels, np.arange(9))
    np.testing.assert_array_equal(dataset.test_labels, np.arange(5))


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("sub", ["", "mnist"])
def test_mnist_from_a_folder(tmp_path, packed, sub):
    put(tmp_path / "d" / sub, packed)
    check(data.load("mnist", tmp_path / "d"))
    check(data.load("mnist", str(tmp_path / "d")))


def test_mnist_from_the_environment_and_from_the_cache(tmp_path, monkeypatch):
    put(tmp_path / "cache" / "npdvae" / "mnist")
    if mnist.cache_dir() == tmp_path / "cache" / "npdvae":          # not on macOS and Windows
        check(data.load("mnist"))
    monkeypatch.setenv("NPDVAE_DATA", str(put(tmp_path / "mine")))
    check(data.load("mnist"))


def test_mnist_names_the_folder_or_file_that_is_missing(tmp_path):
    with pytest.raises(ValueError, match="data folder .*nowhere does not exist"):
        data.load("mnist", tmp_path / "nowhere")
    put(tmp_path / "d", names=tuple(ARRAYS)[:3])
    with pytest.raises(ValueError, match=r"data folder .*/d lacks t10k-labels-idx1-ubyte.gz \(or"):
        data.load("mnist", tmp_path / "d")


@pytest.mark.parametrize("content, message", [
    (PACKED[IMAGES][:-9], "truncated gzip file"),
    (PACKED[IMAGES][:-8] + bytes(8), "damaged gzip file"),
    (b"", "not an IDX file"),
    (gzip.compress(RAW[IMAGES][:-1] + b"?"), "wrong content: sha256 [0-9a-f]{16}... of the uncompressed bytes"),
    (gzip.compress(RAW["t10k-images-idx3-ubyte"]), "header promises 96 bytes, expected 160"),
    (gzip.compress(RAW[IMAGES] + b"?"), "longer than its header says: 160 bytes expected"),
])
def test_mnist_refuses_a_damaged_file_with_one_line(tmp_path, content, message):
    put(tmp_path)
    path = tmp_path / (IMAGES + ".gz")
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message) as caught:
        data.load("mnist", tmp_path)
    assert str(caught.value).startswith(str(path)) and "\n" not in str(caught.value)


def test_download_fills_the_cache_once(server, tmp_path, monkeypatch):
    monkeypatch.setattr(mnist, "MIRRORS", (server.url + "missing/", server.url + "good/"))
    monkeypatch.setenv("NPDVAE_DATA", str(tmp_path / "data"))
    check(data.load("mnist"))
    assert len(server.asked) == 8                                   # the first mirror has nothing, the second all
    assert sorted(p.name for p in (tmp_path / "data" / "mnist").iterdir()) == sorted(n + ".gz" for n in ARRAYS)
    check(data.load("mnist"))
    assert len(server.asked) == 8


def test_damaged_cache_is_downloaded_again(server, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(mnist, "MIRRORS", (server.url + "good/",))
    monkeypatch.setenv("NPDVAE_DATA", str(tmp_path))
    put(tmp_path / "mnist")
    (tmp_path / "mnist" / (IMAGES + ".gz")).write_bytes(PACKED[IMAGES][:40])
    check(data.load("mnist"))
    assert server.asked == [f"/good/{IMAGES}.gz"]
    assert "truncated gzip file: downloading it again" in capsys.readouterr().err
    check(data.load("mnist"))
    assert len(server.asked) == 1


@pytest.mark.parametrize("fault, reason", [
    ("missing", "HTTP 404 Not Found"),
    ("broken", "HTTP 503"),
    ("garbage", "garbage/.*: what"),
    ("truncate", "truncated: "),
    ("short-close", "truncated gzip file"),
    ("stall", "no answer in time"),
    ("drip", "too slow: .* bytes in 0.5 s"),
    ("other", "wrong content: sha256"),
    ("page", "not an IDX file"),
    ("bomb", "longer than its header says: 160 bytes expected"),
    ("huge", "1099511627776 bytes announced, at most 16777216 expected"),
    ("endless", "more than the 16777216 bytes expected"),
])
def test_download_refuses_a_bad_server_and_leaves_nothing_behind(server, tmp_path, fault, reason):
    limits = {"stall": {"timeout": 0.3}, "drip": {"deadline": 0.5}}.get(fault, {})
    start = time.monotonic()
    with pytest.raises(ValueError, match=reason) as caught:
        mnist.cached(IMAGES, tmp_path / "mnist", [server.url + fault + "/"], progress=False, **limits)
    message = str(caught.value)
    assert "\n" not in message and message.startswith(f"could not download {IMAGES}.gz: {server.url}{fault}/")
    assert message.endswith("Put the four MNIST files into a folder and pass it as --data-dir")
    assert not (tmp_path / "mnist").exists() or not list((tmp_path / "mnist").iterdir())
    assert time.monotonic() - start < 9                             # the stalling server would wait for 10 s


def test_download_tries_the_next_mirror_after_every_fault(server, tmp_path):
    mirrors = [server.url + fault + "/" for fault in ("missing", "truncate", "other", "good")]
    array = mnist.cached(IMAGES, tmp_path / "mnist", mirrors, progress=False)
    np.testing.assert_array_equal(array, ARRAYS[IMAGES])


def test_download_without_a_network_names_every_mirror(tmp_path):
    with pytest.raises(ValueError, match="could not download .*127.0.0.1:9/.*refused.*--data-dir"):
        mnist.cached(IMAGES, tmp_path, progress=False)


def test_atomic_write_keeps_the_old_file_when_it_fails(tmp_path, monkeypatch):
    download.write_atomic(tmp_path / "f", b"old")
    monkeypatch.setattr(download.os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="No space left"):
        download.write_atomic(tmp_path / "f", b"new")
    assert [p.name for p in tmp_path.iterdir()] == ["f"] and (tmp_path / "f").read_bytes() == b"old"
