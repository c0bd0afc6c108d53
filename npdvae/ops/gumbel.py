"""Gumbel noise from given uniforms."""
import numpy as np


def gumbel(u):
    """Standard Gumbel variates -log(-log u): u [...] strictly inside (0, 1) -> [...], finite at both ends."""
    return -np.log(-np.log(u))
