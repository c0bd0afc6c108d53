"""The threads of NumPy's BLAS: a pool that spins between products, so that no other may be at work beside it."""
from __future__ import annotations

import contextlib
import ctypes
import functools

import numpy as np

NAMES = [f"{prefix}openblas_{{}}_num_threads{suffix}" for prefix in ("scipy_", "") for suffix in ("64_", "")]


@functools.cache
def calls():
    """OpenBLAS's functions that get and set the number, of the library that NumPy is linked to; None for another."""
    with contextlib.suppress(OSError, AttributeError):
        library = ctypes.CDLL(np.linalg._umath_linalg.__file__)    # type: ignore[attr-defined]
        for name in NAMES:
            with contextlib.suppress(AttributeError):
                return getattr(library, name.format("get")), getattr(library, name.format("set"))
    return None


@contextlib.contextmanager
def threads(n):
    """Within the block BLAS has at most n threads (None: as many as before), where it is OpenBLAS."""
    before = calls()[0]() if n is not None and calls() is not None else 0
    if before <= (n or 0):
        yield
        return
    calls()[1](n)
    try:
        yield
    finally:
        calls()[1](before)
