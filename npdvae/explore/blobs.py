"""Arrays as text: base64 of little-endian numbers, with type and shape."""
from __future__ import annotations

import base64
from typing import Any

import numpy as np

from npdvae.types import Array


def blob(a: Array, kind: str = "f4") -> dict[str, Any]:
    """An array [...] for a page, as float32 unless said otherwise: f4, i4 or u1."""
    a = np.ascontiguousarray(a, np.dtype(kind).newbyteorder("<"))
    return {"type": kind, "shape": list(a.shape), "data": base64.b64encode(a.tobytes()).decode()}
