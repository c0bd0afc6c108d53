"""Data files of every format, bytes altered; and bombs of under 10 MB, measured."""
from __future__ import annotations

import gzip
import io
import random
import struct
import zipfile

import numpy as np

from npdvae import data
from tests import hostile
from tests.campaign.base import MOST_MB, MOST_SECONDS, Tally, child, mutate

MB = 2 ** 20


def originals():
    """A small good file of each format, by the name that it needs."""
    images = np.random.default_rng(0).integers(0, 256, (7, 4, 3)).astype(np.uint8)
    npy, npz, packed = io.BytesIO(), io.BytesIO(), io.BytesIO()
    np.save(npy, images / 255)
    np.savez(npz, train=images, test=images[:2])
    np.savez_compressed(packed, images=images)
    idx = b"\0\0\x08\x03" + struct.pack(">3I", 7, 4, 3) + images.tobytes()
    return {"a.npy": npy.getvalue(), "a.npz": npz.getvalue(), "b.npz": packed.getvalue(),
            "train-images-idx3-ubyte": idx, "train-images-idx3-ubyte.gz": gzip.compress(idx, mtime=0)}


def mutated(place, name, content, tries, seed) -> Tally:
    """Altered files, read in this process."""
    tally = Tally(f"data files, bytes altered: {name}")
    idx = "ubyte" in name
    if idx:
        (place / "t10k-images-idx3-ubyte").write_bytes(originals()["train-images-idx3-ubyte"])
    for case in range(tries):
        spoilt = mutate(random.Random(f"{seed} {name} {case}"), content)
        (place / name).write_bytes(spoilt)
        fault = None
        try:
            dataset = data.load(place if idx else place / name)
            refused = False
            if not (dataset.train.nbytes < 2 ** 24 and np.isfinite(dataset.train).all()):
                fault = "accepted what the file cannot hold"
        except ValueError as error:
            refused = True
            fault = None if "\n" not in str(error) and (name in str(error) or "images" in str(error)) else str(error)
        except Exception as error:
            refused, fault = False, f"{type(error).__name__}: {error}"
        tally.add(f"--only data --seed {seed}, {name} case {case}", fault, refused)
    (place / name).unlink()
    return tally


def bombs(place, large) -> Tally:
    """Files of under 10 MB that promise much; `large` ones are made too."""
    tally = Tally("data files under 10 MB that promise gigabytes: seconds and megabytes to refuse them")
    size = 640 if large else 128
    for name, make in BOMBS.items():
        path = place / f"{name}.npz"
        make(path, size)
        assert path.stat().st_size < 10 * MB
        o = child(refuses, path)
        fault = None if o.code == 2 and o.seconds <= MOST_SECONDS and o.megabytes <= MOST_MB else \
            f"code {o.code}, {o.seconds:.1f} s, {o.megabytes:.0f} MB: {o.err[-200:]}"
        tally.add(f"--only data, bomb {name}", fault, o.code == 2)
        path.unlink()
    return tally


def refuses(path):
    """Exit code 2 where a file is refused."""
    try:
        data.load(path)
    except ValueError:
        return 2
    return 0


def zipped(path, start, megabytes, method=zipfile.ZIP_DEFLATED):
    """A .npz of one array of zeros behind any header."""
    with zipfile.ZipFile(path, "w", method, compresslevel=1) as archive, \
            archive.open("images.npy", "w", force_zip64=True) as member:
        member.write(start)
        for _ in range(megabytes):
            member.write(bytes(MB))


def many(path, megabytes):
    """A zip of very many empty members."""
    with zipfile.ZipFile(path, "w") as archive:
        for i in range(90_000):
            archive.writestr(str(i), b"")


BOMBS = {
    "honest": lambda path, m: zipped(path, hostile.npy((m, 1024, 1024)), m),
    "header": lambda path, m: zipped(path, b"\x93NUMPY\x02\x00" + struct.pack("<I", m * MB), m),
    "lzma": lambda path, m: zipped(path, hostile.npy((m, 1024, 1024)), m // 10, zipfile.ZIP_LZMA),
    "bzip2": lambda path, m: zipped(path, hostile.npy((m, 1024, 1024)), m // 10, zipfile.ZIP_BZIP2),
    "within the limit, then out of range": lambda path, m: zipped(
        path, hostile.npy((90, 512, 1024), "<f2", b"\xff" * 64), 90),
    "many members": many,
}


def attacks(place, share, seed):
    """2,000 files a format, by their share."""
    for name, content in originals().items():
        yield mutated(place, name, content, max(20, round(2_000 * share)), seed)
    yield bombs(place, share >= 1)
