"""The IDX format of MNIST: two zero bytes, a type, the number of axes, big-endian sizes, then the values."""
import gzip
import math
import os
import zlib
from typing import Any

import numpy as np

from npdvae.files import check_inflated, opened

MOST_AXES = 8
TYPES: dict[int, np.dtype[Any]] = {0x08: np.dtype(np.uint8), 0x0D: np.dtype(">f4"), 0x0E: np.dtype(">f8")}
RATIO = 1032                                    # deflate never expands by more
CHUNK = 1 << 24


def read(path):
    """Array of an IDX file, gzip-compressed or not, as its header says; ValueError with one line where it does not."""
    with opened(path) as stream:
        return parse(unpack(stream, os.fstat(stream.fileno()).st_size, path), path)


def parse(content, where):
    """The array in the bytes of a whole IDX file; no copy. Raises ValueError that starts with `where`."""
    dtype, shape, start = header(content[:4 + 4 * 255], len(content), where)
    if len(shape) > MOST_AXES:
        raise ValueError(f"{where}: {len(shape)} axes, expected at most {MOST_AXES}")
    return np.frombuffer(content, dtype, math.prod(shape), start).reshape(shape)


def unpack(stream, size, where, expected=None):
    """The uncompressed bytes of an IDX file of `size` bytes, its header checked before anything is allocated.

    expected: the uncompressed size where it is known. At most that, or what the header promises, is ever read.
    """
    packed = stream.read(2) == b"\x1f\x8b"
    stream.seek(0)
    try:
        source = gzip.GzipFile(fileobj=stream) if packed else stream
        content = bytearray(source.read(4 + 4 * 255))
        if packed:
            dtype, shape, start = header(content, None, where)
            promised = start + math.prod(shape) * dtype.itemsize
            if promised > RATIO * size:
                raise ValueError(f"{where}: header promises {promised} bytes, more than {size} bytes can hold")
            if promised != expected:
                check_inflated(promised, size, where)
        else:
            promised = size
            header(content, size, where)
        if expected is not None and promised != expected:
            raise ValueError(f"{where}: header promises {promised} bytes, expected {expected}")
        while len(content) <= promised and (more := source.read(min(CHUNK, promised + 1 - len(content)))):
            content += more
    except (EOFError, zlib.error, gzip.BadGzipFile) as fault:
        what = "truncated gzip file" if isinstance(fault, EOFError) else f"damaged gzip file ({fault})"
        raise ValueError(f"{where}: {what}") from None
    if len(content) != promised:
        how = "truncated" if len(content) < promised else "longer"
        raise ValueError(f"{where}: {how} than its header says: {promised} bytes expected, got {len(content)}"
                         f"{'' if len(content) < promised else ' or more'}")
    return content


def header(content, size, where):
    """Type, shape and length of the header at the start of `content`; checked against `size` where that is known."""
    if len(content) < 4 or content[0] or content[1] or not content[3]:
        raise ValueError(f"{where}: not an IDX file (starts with {bytes(content[:4]).hex(' ') or 'nothing'})")
    if content[2] not in TYPES:
        raise ValueError(f"{where}: IDX type 0x{content[2]:02x} is not supported, expected uint8 (0x08), "
                         "float32 (0x0d) or float64 (0x0e)")
    start = 4 + 4 * content[3]
    if len(content) < start:
        raise ValueError(f"{where}: truncated within its header: {start} bytes expected, got {len(content)}")
    shape = tuple(int(n) for n in np.frombuffer(bytes(content[4:start]), ">u4"))
    dtype = TYPES[content[2]]
    promised = start + math.prod(shape) * dtype.itemsize
    if size is not None and size != promised:
        raise ValueError(f"{where}: {'truncated' if size < promised else 'longer'} than its header says: "
                         f"{promised} bytes expected for shape {list(shape)}, got {size}")
    return dtype, shape, start
