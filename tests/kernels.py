"""Functions that only kernels call, called by tests."""
import functools

from npdvae.kernels.cpu.compiler import kernel


@functools.cache
def from_python(function):
    """An `inner` or `helper` function of `npdvae.kernels.cpu` as Python can call it.

    A kernel keeps its own copies of what it calls; plain njit would take the first of a name that the process has
    loaded, such as another kernel's copy, whose arguments may have been optimised away.
    """
    return kernel(False)(lambda *arguments: function(*arguments))
