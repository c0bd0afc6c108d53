"""Normal noise from given uniforms (Box and Muller 1958)."""
import math

import numpy as np

from npdvae.types import Array


def normal(u: Array) -> Array:
    """Standard normal variates sqrt(-2 log u0) cos(2 pi u1): u [..., 2] strictly inside (0, 1) -> [...]."""
    return np.sqrt(-2 * np.log(u[..., 0])) * np.cos(2 * math.pi * u[..., 1])
