"""Where the CUDA tests run: the emulator behind the stand-in for CuPy, and, with pytest -m gpu, a real device."""
from __future__ import annotations

import contextlib

import pytest

from npdvae.backends import BackendError
from tests.cuda import cupy_stand_in, emulator

PLACES = ["emulator", pytest.param("gpu", marks=pytest.mark.gpu)]


@contextlib.contextmanager
def place(name):
    """The cupy module of a place; a skip with its reason where it cannot be had."""
    if name == "gpu":
        from npdvae.backends import cuda_device as device
        try:
            yield device.find().cupy
        except BackendError as error:
            pytest.skip(f"needs a GPU: {error}")
        return
    if reason := emulator.available():
        pytest.skip(reason)
    with cupy_stand_in.installed() as module:
        yield module
