"""Device memory of a run, allocated once: parameters in one array each for values, gradients and moments; buffers."""
from __future__ import annotations

import math

import numpy as np

ALIGN = 64                                      # entries, so that every matrix starts at a multiple of 256 bytes


class Flat:
    """Arrays by name in one device array, in the order of `shapes`; the gaps between them stay zero."""

    def __init__(self, xp, shapes, dtype):
        self.shapes, self.offsets, self.size = dict(shapes), {}, 0
        for name, shape in self.shapes.items():
            self.offsets[name] = self.size
            self.size += -(-math.prod(shape) // ALIGN) * ALIGN
        self.array = xp.zeros(self.size, dtype)
        self.views = {name: self.array[o:o + math.prod(self.shapes[name])].reshape(self.shapes[name])
                      for name, o in self.offsets.items()}

    def __getitem__(self, name):
        return self.views[name]

    def load(self, arrays):
        """Take over host arrays by name."""
        for name, view in self.views.items():
            view.set(np.ascontiguousarray(arrays[name], view.dtype).reshape(view.shape))

    def save(self):
        """Host arrays by name."""
        return {name: view.get() for name, view in self.views.items()}


class Buffers:
    """Buffers by name; `rows(name, n)` is the first n rows of one, a contiguous array."""

    def __init__(self, xp):
        self.xp, self.arrays = xp, {}

    def add(self, name, shape, dtype):
        """Allocate one; shape (rows, ...)."""
        self.arrays[name] = self.xp.zeros(shape, dtype)

    def __getitem__(self, name):
        return self.arrays[name]

    def rows(self, name, n):
        """The first n rows."""
        return self.arrays[name][:n]

    @property
    def nbytes(self):
        return sum(a.nbytes for a in self.arrays.values())
