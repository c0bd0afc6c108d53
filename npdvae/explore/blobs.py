"""Arrays as text: base64 of little-endian numbers, with type and shape."""
from __future__ import annotations

import base64
from typing import Any

import numpy as np

from npdvae.types import Array

MOST_NUMBERS = 2 ** 25                          # of parameters, and of tables: a page of 180 MB for each


def room(numbers: int, what: str) -> None:
    """ValueError for more numbers than a page can hold."""
    if numbers > MOST_NUMBERS:
        raise ValueError(f"{what}: {numbers} numbers, more than the {MOST_NUMBERS} that a page can hold")


def blob(a: Array, kind: str = "f4") -> dict[str, Any]:
    """An array [...] for a page, as float32 unless said otherwise: f4, i4 or u1."""
    a = np.ascontiguousarray(a, np.dtype(kind).newbyteorder("<"))
    return {"type": kind, "shape": list(a.shape), "data": base64.b64encode(a.tobytes()).decode()}
