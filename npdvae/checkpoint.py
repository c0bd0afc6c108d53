"""Checkpoints: safetensors files that survive a crash at any instant, and refuse to load when a bit has changed.

A file is written under a temporary name, fsynced, renamed, and its folder fsynced, so a name that exists is
complete. Its metadata begin with the sha256 of the whole file (those 64 digits taken as zeros).
"""
from __future__ import annotations

import hashlib
import json
import pathlib
import re
from typing import NamedTuple

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as parse

from npdvae import memory
from npdvae.files import read, write_durably

KEEP = 3
TYPES = {"float64": "F64", "int64": "I64", "uint64": "U64", "float32": "F32", "int32": "I32", "uint32": "U32",
         "float16": "F16", "int16": "I16", "uint16": "U16", "int8": "I8", "uint8": "U8", "bool": "BOOL"}
NAME = re.compile(r"checkpoint-(\d{8,})\.safetensors")
START = b'{"__metadata__":{"sha256":"'                              # follows the 8 bytes of the header's length
DIGEST = slice(8 + len(START), 8 + len(START) + 64)
ZEROS = b"0" * 64


class CheckpointError(ValueError):
    """A checkpoint that is damaged, or is none; the message names the file and the fault."""


class Found(NamedTuple):
    """The newest good checkpoint of a folder; `refused` says, one line each, which newer ones were not and why."""

    path: pathlib.Path
    arrays: dict[str, np.ndarray]
    meta: dict[str, str]
    refused: list[str]


def save(path, arrays, meta, keep=KEEP):
    """Write arrays and meta (strings) to `path`; to a folder, as checkpoint-<step>.safetensors of meta["step"].

    In a folder the newest `keep` up to this step stay, older ones go; keep = 0: all stay. Returns the path written.
    Nothing is half-written: OSError (one line) leaves the earlier files as they were.
    """
    path = pathlib.Path(path)
    in_folder = path.suffix != ".safetensors"
    folder = path if in_folder else path.parent
    target = folder / f"checkpoint-{int(meta['step']):08d}.safetensors" if in_folder else path
    data = encode(arrays, meta)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for stale in folder.glob("*.safetensors.*.tmp"):            # of a writer that was killed
            stale.unlink(missing_ok=True)
        write_durably(target, data)
        if in_folder and keep:
            for old in [p for p in listing(folder) if step_of(p) <= step_of(target)][keep:]:
                old.unlink(missing_ok=True)
    except OSError as error:
        raise OSError(error.errno, f"cannot save checkpoint {target}: {error.strerror or error}") from error
    return target


def load(path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Read one checkpoint: arrays by name and meta. Raises CheckpointError where anything differs from what was saved.

    OSError where the file cannot be read.
    """
    try:
        return decode(read(path, memory.free() // 3))               # the bytes, as parsed, and the arrays' own copies
    except ValueError as error:
        raise CheckpointError(f"checkpoint {path} refused: {error}") from None


def latest(folder, check=lambda path, arrays, meta: None):
    """The newest checkpoint of a folder that is good, as Found. Raises CheckpointError where there is none.

    `check` raises CheckpointError where the content is not what the caller needs.
    """
    refused: list[str] = []
    for path in (paths := listing(folder)):
        try:
            arrays, meta = load(path)
            check(path, arrays, meta)
            return Found(path, arrays, meta, refused)
        except (CheckpointError, OSError) as error:
            refused.append(str(error))
    if listing(folder) != paths:                # a running training has replaced them meanwhile
        return latest(folder, check)
    raise CheckpointError("; ".join([f"no usable checkpoint in {folder}", *refused]))


def listing(folder):
    """Checkpoints of a folder by step, newest first (best.safetensors is not one of them)."""
    return sorted((p for p in pathlib.Path(folder).glob("checkpoint-*") if NAME.fullmatch(p.name)),
                  key=step_of, reverse=True)


def step_of(path):
    """The step in a checkpoint's file name."""
    return int(NAME.sub(r"\1", path.name))


def encode(arrays, meta):
    """The bytes of a checkpoint, a function of its content alone (the order of the dicts does not matter)."""
    arrays = {name: np.asarray(a) for name, a in arrays.items()}
    for name, a in arrays.items():
        if a.dtype.name not in TYPES:
            raise ValueError(f"array {name!r} of a checkpoint has type {a.dtype}, expected one of {', '.join(TYPES)}")
    for key, value in meta.items():
        if not isinstance(value, str) or key == "sha256":
            raise ValueError(f"entry {key!r} of a checkpoint's metadata must be a string and not be called sha256")
    header = {"__metadata__": {"sha256": ZEROS.decode(), **dict(sorted(meta.items()))}}
    body, end = [], 0
    for name, a in sorted(arrays.items(), key=lambda item: (-item[1].itemsize, item[0])):   # keeps data aligned
        body.append(a.astype(a.dtype.newbyteorder("<"), copy=False).tobytes())
        header[name] = {"dtype": TYPES[a.dtype.name], "shape": list(a.shape), "data_offsets": [end, end + a.nbytes]}
        end += a.nbytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    data = bytearray(b"".join([len(text).to_bytes(8, "little"), text, *body]))
    data[DIGEST] = hashlib.sha256(data).hexdigest().encode()
    return bytes(data)


def decode(data):
    """The arrays and meta of `encode`; CheckpointError at any difference, down to one bit."""
    if len(data) < DIGEST.stop or data[8:DIGEST.start] != START:
        raise CheckpointError("not a checkpoint of this program, or cut off in its header")
    digest = hashlib.sha256(data[:DIGEST.start])
    digest.update(ZEROS)
    digest.update(memoryview(data)[DIGEST.stop:])
    if digest.hexdigest().encode() != data[DIGEST]:
        raise CheckpointError(f"its {len(data)} bytes do not match their sha256: truncated or altered")
    try:
        arrays = {name: a.copy() for name, a in parse(data).items()}
        meta = json.loads(data[8:8 + int.from_bytes(data[:8], "little")])["__metadata__"]
    except (SafetensorError, ValueError, KeyError, TypeError, RecursionError) as error:     # a digest that fits, over
        raise CheckpointError(f"malformed safetensors: {type(error).__name__} {error}") from error  # content that not
    del meta["sha256"]
    return arrays, meta
