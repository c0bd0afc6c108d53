"""The user's own arrays: .npy and .npz files, or arrays in memory, checked and split.

Pixels are uint8 (0..255; 0..1 where no value is larger), bool, or floats within 0..1; images in rows [N, P] or
[N, H, W] (a channel axis of size 1 is dropped). A .npz holds train and test, or x_train and x_test, or images, or a
single array; what has no test part is split by a fixed permutation, one sixth of the images (at least one) for test.
"""
import io
import math
import os
import pathlib
import zipfile
import zlib

import numpy as np

from npdvae.data.dataset import Dataset, fixed_order
from npdvae.files import check_inflated, opened

PAIRS = (("train", "test"), ("x_train", "x_test"))
RATIO = 1032                                    # deflate never expands by more
CHUNK = 1 << 24
MOST_HEADER = 1 << 14                           # bytes; NumPy itself refuses headers of over 10,000


def load(path):
    """Dataset of a .npy or .npz file; ValueError with one line where the file is damaged, pickled or out of range."""
    path = pathlib.Path(path)
    parts = read_npz(path) if path.suffix == ".npz" else [(read_npy_file(path), path)]
    return from_arrays(*parts, name=path.stem)


def from_arrays(train, test=None, *, name="arrays"):
    """Dataset of one or two arrays, or (array, where) pairs; without `test` a fixed sixth is held out."""
    pairs = [p if isinstance(p, tuple) else (np.asarray(p), label)
             for p, label in ((train, "train"), (test, "test")) if p is not None]
    if len(pairs) == 1:
        array, where = pairs[0]
        rows, shape = to_rows(array, where)
        if len(rows) < 2:
            raise ValueError(f"{where}: expected at least 2 images to train and to test, got shape {list(array.shape)}")
        order = fixed_order(len(rows))
        held = max(1, len(rows) // 6)
        pairs = [(rows[part].reshape(-1, *shape), where) for part in (order[held:], order[:held])]
    rows_train, rows_test, shape, levels = check(pairs)
    return Dataset(name, rows_train, rows_test, shape, levels)


def check(pairs):
    """Rows of two (array, where) pairs, the shape of an image and the number of levels; ValueError with one line."""
    (train, shape), (test, shape_test) = (to_rows(*pair) for pair in pairs)
    if shape != shape_test:
        raise ValueError(f"{pairs[1][1]}: test images are {' x '.join(map(str, shape_test))} pixels, "
                         f"training images {' x '.join(map(str, shape))}")
    if train.dtype != test.dtype:
        raise ValueError(f"{pairs[1][1]}: train is {train.dtype} and test is {test.dtype}, expected one type")
    is_bytes = train.dtype == np.uint8 and max(train.max(), test.max()) > 1
    return train, test, shape, 255 if is_bytes else 1


def to_rows(array, where):
    """Images of any accepted layout to rows [N, P], uint8 or float32, and the shape (H, W) of an image."""
    if array.ndim == 4 and 1 in (array.shape[1], array.shape[3]):
        array = array[:, 0] if array.shape[1] == 1 else array[..., 0]
    if array.ndim not in (2, 3) or 0 in array.shape:
        raise ValueError(f"{where}: expected images [N, P] or [N, H, W], none empty, got shape {list(array.shape)}")
    side = math.isqrt(array[0].size)
    shape = tuple(array.shape[1:]) if array.ndim == 3 else (side, side) if side * side == array[0].size else \
        (1, array.shape[1])
    rows = array.reshape(len(array), -1)                            # [N, P]
    if rows.dtype in (np.uint8, np.bool_):
        return np.ascontiguousarray(rows).view(np.uint8), shape
    if rows.dtype.kind != "f":
        raise ValueError(f"{where}: pixels of type {rows.dtype} are not supported, expected uint8 (0..255), bool, "
                         "or floats within 0..1")
    if not (rows.min() >= 0 and rows.max() <= 1):                   # NaN fails
        n, p = np.unravel_index(np.argmin((rows >= 0) & (rows <= 1)), rows.shape)
        raise ValueError(f"{where}: pixel {p} of image {n} is {rows[n, p]}, expected floats within 0..1 (or uint8)")
    return np.ascontiguousarray(rows, np.float32), shape


def read_npz(path):
    """The (array, where) pairs of a .npz: one, or train and test."""
    with opened(path) as stream:
        return read_zip(stream, os.fstat(stream.fileno()).st_size, path)


def read_zip(stream, size, path):
    """The same of an open file of `size` bytes."""
    try:
        with zipfile.ZipFile(stream) as archive:
            members = {i.filename.removesuffix(".npy"): i for i in archive.infolist() if i.filename.endswith(".npy")}
            found = [pair for pair in PAIRS if set(pair) <= set(members)]
            if found:
                keys: tuple[str, ...] = found[0]
            elif "images" in members:
                keys = ("images",)
            elif len(members) == 1:
                keys = tuple(members)
            else:
                raise ValueError(f"{path}: expected arrays train and test, x_train and x_test, images, or just one, "
                                 f"got {', '.join(sorted(members)[:9]) or 'none':.200}")
            check_inflated(sum(members[key].file_size for key in keys), size, path)
            return [(_member(archive, members[key], size, f"{path}: {key}"), f"{path}: {key}") for key in keys]
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, RuntimeError,
            UnicodeDecodeError) as fault:
        raise ValueError(f"{path}: damaged or unsupported .npz file ({fault})") from None


def read_npy_file(path):
    """The array of a .npy file."""
    with opened(path) as stream:
        return read_npy(stream, os.fstat(stream.fileno()).st_size, path)


def read_npy(stream, size, where):
    """The array of a .npy stream of `size` bytes; its header is checked against them before anything is allocated."""
    start = io.BytesIO(stream.read(MOST_HEADER))                    # a header that claims more is cut off
    try:
        version = np.lib.format.read_magic(start)
        readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        shape, fortran, dtype = readers[version](start)
    except (zipfile.BadZipFile, zlib.error, EOFError):
        raise
    except Exception as fault:                  # numpy evaluates the header as Python text: many ways to fail
        raise ValueError(f"{where}: not a .npy file, or its header is damaged ({_line(fault)})") from None
    if dtype.hasobject:
        raise ValueError(f"{where}: holds pickled Python objects, which are refused; expected numbers")
    if dtype.kind not in "fbiu" or min(shape, default=0) < 0:
        raise ValueError(f"{where}: type {dtype}, shape {list(shape)}: expected numbers, images [N, P] or [N, H, W]")
    promised, there = math.prod(shape) * dtype.itemsize, size - start.tell()
    if promised != there:
        raise ValueError(f"{where}: {'truncated' if there < promised else 'longer'} than its header says: {promised} "
                         f"bytes of pixels expected for shape {list(shape)}, got {there}")
    content = bytearray(start.read())
    while len(content) < promised and (more := stream.read(min(CHUNK, promised - len(content)))):
        content += more
    if len(content) > promised or stream.read(1) or len(content) < promised:    # to the end: a zip checks its CRC
        raise ValueError(f"{where}: {promised} bytes of pixels expected, got {len(content)}")
    return np.frombuffer(content, dtype).reshape(shape, order="F" if fortran else "C")


def _member(archive, info, size, where):
    """One array of a zip file of `size` bytes."""
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"{where}: compressed by method {info.compress_type}, expected none or deflate")
    if info.compress_size > size or info.file_size > RATIO * info.compress_size:
        raise ValueError(f"{where}: claims {info.file_size} bytes in {info.compress_size} of a file of {size}")
    with archive.open(info) as stream:
        return read_npy(stream, info.file_size, where)


def _line(fault):
    return (str(fault).splitlines() or [type(fault).__name__])[0][:100]
