"""Functions that only kernels call, called by tests."""
import functools

from numba import njit


@functools.cache
def from_python(function):
    """An `inner` or `helper` function of `npdvae.kernels.cpu` as Python can call it."""
    return njit(lambda *arguments: function(*arguments))
