"""A small run, and what others might make of its files: sealed content, bombs, links."""
import hashlib
import json
import os
import struct

import numpy as np

from npdvae import checkpoint, train

SMALL = ["--backend", "numpy", "--epochs", "2", "--batch-size", "500", "--hidden", "4", "--latents", "2",
         "--categories", "3", "--validation", "0.1", "--no-figures"]


def small_run(folder, *more):
    """A run folder of two epochs."""
    assert train.main([*SMALL, *more, "--out", str(folder)]) == 0
    return folder


def rewrite(path, arrays=None, drop=(), **meta):
    """Change a checkpoint's arrays (None drops one) and entries, with a digest that fits: what an attacker would do."""
    held, entries = checkpoint.load(path)
    held |= arrays or {}
    entries = {k: v for k, v in {**entries, **meta}.items() if k not in drop}
    path.write_bytes(checkpoint.encode({k: v for k, v in held.items() if v is not None}, entries))


def sealed(header: bytes, body: bytes) -> bytes:
    """A file with any header at all after the digest, which fits."""
    text = checkpoint.START + checkpoint.ZEROS + header
    return reseal(struct.pack("<Q", len(text)) + text + body)


def reseal(data: bytes) -> bytes:
    """Altered bytes with a digest that fits."""
    data = bytearray(data)
    data[checkpoint.DIGEST] = checkpoint.ZEROS
    data[checkpoint.DIGEST] = hashlib.sha256(data).hexdigest().encode()
    return bytes(data)


def settings(run, **changes):
    """Change lines of config.toml, and the same in every checkpoint: a run that was made so."""
    text = changed((run / "config.toml").read_text(), changes)
    (run / "config.toml").write_text(text)
    for path in run.glob("*.safetensors"):
        rewrite(path, config=changed(checkpoint.load(path)[1].get("config", ""), changes))
    return run


def changed(text, changes):
    kept = [line for line in text.splitlines() if line.split(" = ")[0] not in changes]
    return "\n".join([*kept, *(f"{k} = {v}" for k, v in changes.items())]) + "\n"


def npy(shape, dtype="|u1", content=b""):
    """A .npy file's bytes with any claim in its header."""
    text = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode() + content


def listing(folder):
    """Names and bytes of the files of a folder."""
    return {name: (folder / name).read_bytes() for name in os.listdir(folder) if (folder / name).is_file()}


def line(epoch, step, **more):
    """A line of metrics.jsonl."""
    numbers = {f"{s}_{n}": 1.0 for s in ("train", "test") for n in ("negative_elbo", "cost", "kl")}
    return json.dumps({"epoch": epoch, "step": step, **numbers, "seconds_per_step": 0.1, **more})


def nan_like(array):
    return np.full_like(array, np.nan)
