"""Numba kernels by the names of the formulas under `npdvae.ops.kernelled` that they stand for."""
from __future__ import annotations

from npdvae.backends import numba_code_sets, numba_hard_codes, numba_noise, numba_relaxed
from npdvae.backends.numba_arrays import fits

MODULES = numba_hard_codes, numba_relaxed, numba_noise, numba_code_sets
FORMULAS = {function.__name__: function for module in MODULES for function in module.KERNELS}


def kernel(name, arguments):
    """The kernel of a formula for arrays that are all float32 (or integers, or bits) and not empty; else None."""
    return FORMULAS.get(name) if fits(arguments, "iub") else None
