"""Loads the .cu files of this folder lazily and launches their kernels, arguments checked against their signatures."""
from __future__ import annotations

import functools
import math
import pathlib
import re
from typing import Any, NamedTuple

import numpy as np

from npdvae.kernels.cuda.constants import BLOCK, THREADS

FOLDER = pathlib.Path(__file__).resolve().parent
OPTIONS = ("--std=c++17",)                      # of the compiler; CuPy adds -ftz=true
OLDEST = 75                                     # compute capability times ten
MOST_ELEMENTS = 2 ** 31 - 1                     # of a grid-stride loop: common.cuh says why
MOST_BLOCKS = 2048                              # of an elementwise kernel: the rest is its grid-stride loop

SIGNATURE = re.compile(r"^KERNEL (\w+)\(([^)]*)\)", re.M)
TYPES = {"int": np.int32, "unsigned": np.uint32, "long long": np.int64, "unsigned char": np.uint8, "float": np.float32,
         "double": np.float64}


class Parameter(NamedTuple):
    """One parameter of a kernel; ctype is a key of TYPES, or "real"."""

    name: str
    ctype: str
    pointer: bool
    const: bool

    def dtype(self, real):
        return np.dtype(real if self.ctype == "real" else TYPES[self.ctype])


class Kernel(NamedTuple):
    """What the text of a .cu file says about one of its kernels."""

    name: str
    stem: str
    parameters: tuple[Parameter, ...]


def stems() -> tuple[str, ...]:
    """The .cu files, by stem."""
    return tuple(sorted(p.stem for p in FOLDER.glob("*.cu")))


def source(stem: str, dtype) -> str:
    """The text of a .cu file for one float type, its headers inlined, each once."""
    real = {"float32": "float", "float64": "double"}[np.dtype(dtype).name]
    seen: set[str] = set()

    def inlined(name):
        if name in seen:
            return ""
        seen.add(name)
        parts = [f'#line 1 "{name}"\n']
        for number, line in enumerate((FOLDER / name).read_text().splitlines(), 1):
            included = re.fullmatch(r'#include "(\w+\.cuh)"', line)
            parts.append(inlined(included[1]) + f'#line {number + 1} "{name}"\n' if included else line + "\n")
        return "".join(parts)

    return f"#define REAL {real}\n" + inlined(f"{stem}.cu")


@functools.cache
def kernels() -> dict[str, Kernel]:
    """Every kernel of every .cu file by name; names are unique over all files."""
    found: dict[str, Kernel] = {}
    for stem in stems():
        for name, parameters in SIGNATURE.findall((FOLDER / f"{stem}.cu").read_text()):
            if name in found:
                raise ValueError(f"kernel {name} is in {found[name].stem}.cu and in {stem}.cu")
            found[name] = Kernel(name, stem, tuple(map(parameter, parameters.split(","))))
    return found


def parameter(text: str) -> Parameter:
    """One parameter of a signature: `const real* __restrict__ x`."""
    pointer, words = "*" in text, text.replace("*", " ").replace("__restrict__", " ").split()
    const, ctype = words[0] == "const", " ".join(w for w in words[:-1] if w != "const")
    if ctype != "real" and ctype not in TYPES:
        raise ValueError(f"kernel parameter {text.strip()!r}: unknown type {ctype!r}")
    return Parameter(words[-1], ctype, pointer, const)


def elementwise(n: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Grid and block of a grid-stride loop over n elements, which it counts in 32 bits; ValueError where too many."""
    if n > MOST_ELEMENTS:
        raise ValueError(f"an array of {n} elements on the device, and kernels count up to {MOST_ELEMENTS}: choose a "
                         "smaller --batch-size, --samples or --hidden")
    return spread(n)


def spread(threads: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Grid and block of at least so many threads, or of as many as there may be."""
    return (max(1, min(-(-threads // THREADS), MOST_BLOCKS)),), (THREADS,)


def lanes(width: int) -> int:
    """Lanes that share one row of `width` entries: the power of two at or above it, 32 at most."""
    return min(32, 1 << max(0, width - 1).bit_length())


def row_groups(rows: int, width: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Grid and block of a grid-stride loop over rows, `lanes(width)` lanes each."""
    return spread(rows * lanes(width))


def one_block_each(rows: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Grid and block where a whole block forms the sum of a row."""
    return (max(1, min(rows, 2 ** 20)),), (THREADS,)


def strips(rows: int) -> int:
    """Strips of rows whose sums are formed apart: a function of the size alone, so that sums are reproducible."""
    return max(1, min(64, rows // 256))


def column_sums(outputs: int, R: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Grid and block of sums over rows, for each column and each of R strips of rows."""
    return (-(-outputs // BLOCK["columns"]), R), (BLOCK["columns"], BLOCK["strips"])


def code_bins(outputs: int, D: int, K: int, R: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Grid and block of sums over the rows of each code, for each column and each of R strips of rows."""
    columns, block = column_sums(outputs, R)
    return (columns[0], D * -(-K // BLOCK["bins"]), R), block


class Launcher:
    """The kernels for one float type on CuPy (or what stands in for it): compiled on first use, then kept."""

    def __init__(self, cupy, dtype):
        self.cupy, self.dtype = cupy, np.dtype(dtype)
        self.modules: dict[str, Any] = {}
        self.functions: dict[str, Any] = {}
        self.launches = 0

    def function(self, name):
        """The compiled kernel of that name."""
        if name not in self.functions:
            stem = kernels()[name].stem
            if stem not in self.modules:
                self.modules[stem] = self.cupy.RawModule(code=source(stem, self.dtype), backend="nvrtc",
                                                         options=OPTIONS)
            self.functions[name] = self.modules[stem].get_function(name)
        return self.functions[name]

    def __call__(self, name, shape, *arguments):
        """Launch a kernel on the current stream; shape is (grid, block), None stands for a null pointer."""
        grid, block = shape
        packed = self.check(kernels()[name], block, arguments)
        self.launches += 1
        self.function(name)(grid, block, packed)

    def check(self, kernel, block, arguments):
        """The arguments as the signature wants them: scalars of its exact types; TypeError where an array is not."""
        if math.prod(block) > THREADS:
            raise ValueError(f"kernel {kernel.name} is bounded to {THREADS} threads, got a block of {block}")
        if len(arguments) != len(kernel.parameters):
            raise TypeError(f"kernel {kernel.name} takes {len(kernel.parameters)} arguments, got {len(arguments)}")
        return tuple(self.convert(kernel, p, a) for p, a in zip(kernel.parameters, arguments))

    def convert(self, kernel, p, a):
        """One argument: an array of the parameter's type, or a scalar converted to it."""
        where, dtype = f"kernel {kernel.name}, parameter {p.name}", p.dtype(self.dtype)
        if not p.pointer:
            if hasattr(a, "shape") and a.shape != ():
                raise TypeError(f"{where}: expected a number, got an array of shape {a.shape}")
            if dtype.kind in "iu" and not np.iinfo(dtype).min <= int(a) <= np.iinfo(dtype).max:
                raise ValueError(f"{where}: {a} does not fit in {p.ctype}")
            return dtype.type(a)
        if a is None:
            return np.uintp(0)
        if not isinstance(a, self.cupy.ndarray):
            raise TypeError(f"{where}: expected a device array, got {type(a).__name__}")
        if a.dtype != dtype:
            raise TypeError(f"{where}: expected {dtype}, got {a.dtype}")
        if not a.flags.c_contiguous:
            raise ValueError(f"{where}: expected a contiguous array, got strides {a.strides} for shape {a.shape}")
        return a
