"""Numba kernels by the names of the formulas of npdvae.estimators.parts that they stand for."""
from __future__ import annotations

import numpy as np

from npdvae.backends import numba_code_sets, numba_noise

FORMULAS = {function.__name__: function for function in (*numba_noise.KERNELS, *numba_code_sets.KERNELS)}


def kernel(name, arguments):
    """The kernel of a formula for arrays that are all float32 (or integers, or bits) and not empty; else None."""
    arrays = [a for a in arguments if isinstance(a, np.ndarray)]
    fits = all(a.dtype == np.float32 or a.dtype.kind in "iub" for a in arrays) and all(a.size for a in arrays)
    return FORMULAS.get(name) if fits else None
