"""Gumbel noise from given uniforms."""
import numpy as np

from npdvae.types import Array


def gumbel(u: Array) -> Array:
    """Standard Gumbel variates -log(-log u): u [...] strictly inside (0, 1) -> [...], finite at both ends."""
    return -np.log(-np.log(u))
