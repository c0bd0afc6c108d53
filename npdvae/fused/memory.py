"""Where everything lies: one float32 and one int32 array, parts of them by offset; weights in panels."""
from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from npdvae.kernels.cpu.target import GRADIENT_ROWS, PANEL, PICK_PANEL, ROWS

SIDE = 16                                       # examples whose posteriors are computed side by side
LINE = 16                                       # 4-byte numbers of a cache line


def up(n, multiple):
    """The next multiple of `multiple` from n on."""
    return -(-n // multiple) * multiple


class Region:
    """Offsets handed out one after another, each at the start of a cache line."""

    def __init__(self):
        self.size = 0

    def take(self, n):
        """Offset of n new entries."""
        offset, self.size = self.size, self.size + up(max(n, 1), LINE)
        return offset

    def array(self, dtype):
        """The zeroed array that all offsets point into, aligned to a cache line."""
        raw = np.zeros(self.size + LINE, dtype)
        skip = -raw.ctypes.data // raw.itemsize % LINE
        return raw[skip:skip + self.size]


class Matrix(NamedTuple):
    """Rows [rows, ld] at an offset; columns beyond its width are zero padding."""

    offset: int
    ld: int


def view(mem, m, rows, width):
    """The entries of a Matrix, or of its first rows: [rows, width]."""
    return mem[m.offset:m.offset + rows * m.ld].reshape(rows, m.ld)[:, :width]


def matrix(region, rows, width):
    """A new Matrix of whole tiles of rows, and of whole groups of SIDE; the odd line in `ld` keeps rows out of each
    other's cache sets."""
    ld = up(max(up(width, PICK_PANEL), up(width, GRADIENT_ROWS)), LINE) + LINE
    return Matrix(region.take(max(up(rows, ROWS), up(rows, SIDE)) * ld), ld)


@dataclass(frozen=True)
class Lists:
    """Numbers picked by each row [rows, ld_index], and rows that picked each number [numbers, ld_rows]; with counts."""

    index: int
    ld_index: int
    count: int
    rows: int
    ld_rows: int
    rows_count: int


def lists(integers, rows, longest, numbers):
    """New Lists of up to `longest` picks in each row, of as many numbers."""
    return Lists(integers.take(rows * longest), longest, integers.take(rows),
                 integers.take(numbers * rows), rows, integers.take(numbers))


class Layer(NamedTuple):
    """Weight [inputs, outputs] in panels [outputs / panel, rows, panel], and bias, at their offsets."""

    name: str
    inputs: int
    outputs: int
    panel: int
    rows: int                                   # of a panel: inputs padded to whole tiles
    weight: int
    bias: int

    @property
    def panels(self):
        return -(-self.outputs // self.panel)

    @property
    def size(self):
        return self.panels * self.rows * self.panel

    def put(self, mem, base, weight, bias):
        """Store weight [I, O] and bias [O] (or their moments) at `base`."""
        if weight.shape != (self.inputs, self.outputs) or bias.shape != (self.outputs,):
            raise ValueError(f"{self.name}: weight {list(weight.shape)} and bias {list(bias.shape)} do not fit "
                             f"{self.inputs} inputs and {self.outputs} outputs")
        at, full = base + self.weight, self.outputs // self.panel    # whole panels
        panels, wide = mem[at:at + self.size].reshape(self.panels, self.rows, self.panel), full * self.panel
        panels[:, self.inputs:] = 0
        panels[:full, :self.inputs] = weight[:, :wide].reshape(self.inputs, full, self.panel).transpose(1, 0, 2)
        if full < self.panels:
            panels[full, :, self.outputs - wide:] = 0
            panels[full, :self.inputs, :self.outputs - wide] = weight[:, wide:]
        mem[base + self.bias:base + self.bias + self.outputs] = bias

    def get(self, mem, base):
        """Weight [I, O] and bias [O] (or their moments) from `base`."""
        at = base + self.weight
        panels = mem[at:at + self.size].reshape(self.panels, self.rows, self.panel)
        wide = panels.transpose(1, 0, 2).reshape(self.rows, -1)
        return (np.ascontiguousarray(wide[:self.inputs, :self.outputs]),
                mem[base + self.bias:base + self.bias + self.outputs].copy())


def layers(region, name, sizes, picks):
    """New Layers of an MLP in the region of parameters; `picks` where the first one's inputs are lists of ones."""
    return [layer(region, f"{name}.{i}", n, m, picks and i == 0) for i, (n, m) in enumerate(zip(sizes[:-1], sizes[1:]))]


def layer(region, name, inputs, outputs, picks):
    """A new Layer in the region of parameters; `picks` where its inputs are lists of ones."""
    panel = PICK_PANEL if picks else PANEL
    rows, wide = max(up(inputs, PANEL), up(inputs, GRADIENT_ROWS)), up(outputs, panel)
    return Layer(name, inputs, outputs, panel, rows, region.take(rows * wide), region.take(wide))
