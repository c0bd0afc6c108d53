"""Kernels as plain Python (NUMBA_DISABLE_JIT=1): room that is not written yet is poison, so that reading it is seen."""
import functools
import os

import numpy as np

PLAIN = os.environ.get("NUMBA_DISABLE_JIT") == "1"
POISON = {"f": np.nan, "i": 1 << 30, "b": True}     # by kind of number; as an index it is beyond every array here


def poison():
    """From here on np.empty gives arrays of POISON, where kernels run as plain Python."""
    if PLAIN and not hasattr(np.empty, "__wrapped__"):
        np.empty = poisoned(np.empty)


def poisoned(empty):
    """np.empty whose arrays are filled."""
    @functools.wraps(empty)
    def filled(*arguments, **options):
        room = empty(*arguments, **options)
        if room.dtype.kind in POISON and room.dtype.itemsize >= 4 or room.dtype.kind == "b":
            room.fill(POISON[room.dtype.kind])
        return room
    return filled
