"""The backends: one op table each, loaded by name."""
from __future__ import annotations

import importlib

from npdvae.ops.table import Ops

__all__ = ["NAMES", "BackendError", "Ops", "load"]
NAMES = ("numpy", "numba", "cupy")


class BackendError(RuntimeError):
    """A backend that cannot be used here; the message says why and what to install."""


def load(name: str) -> Ops:
    """The op table of a backend: "numpy", "numba" or "cupy".

    Raises ValueError for an unknown name and BackendError where the backend cannot run.
    """
    if name not in NAMES:
        raise ValueError(f"unknown backend {name!r}: expected one of {', '.join(NAMES)}")
    return importlib.import_module(f"npdvae.backends.{name}_backend").table()
