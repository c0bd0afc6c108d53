"""A weight gradient over more rows than the nearest caches hold: the tile `gradient` in blocks of rows.

Between blocks the sums wait in memory; the update follows the last block.
"""
import numpy as np

from npdvae.kernels.cpu.llvm import (
    WIDTH,
    constant,
    fetch_line,
    in_bytes,
    inner_loop,
    load,
    pointer,
    written,
)
from npdvae.kernels.cpu.target import GRADIENT_ROWS, PANEL, VECTORS
from npdvae.kernels.cpu.vectors import multiply


def gradient_sums_body(b, base, a, stride, dy, dy_stride, sums, n):
    four, sums = constant(4), in_bytes(b, base, sums)
    places = [[constant(4 * PANEL * r + WIDTH * v) for v in range(VECTORS)] for r in range(GRADIENT_ROWS)]
    start = [[load(b, sums, at) for at in row] for row in places]
    found = inner_loop(b, n, start, [(in_bytes(b, base, a), b.mul(stride, four)),
                                     (in_bytes(b, base, dy), b.mul(dy_stride, four))],
                       multiply(b, four, GRADIENT_ROWS, VECTORS))
    for row, values in zip(places, found):
        for at, x in zip(row, values):
            b.store(x, pointer(b, sums, at), align=4)


def gradient_sums_twin(mem, a, stride, dy, dy_stride, sums, n):
    """sums[r] += sum over i < n of A[i, r] dY[i]: sums [GRADIENT_ROWS, PANEL], A[i, r] at a + i stride + r."""
    for r in range(GRADIENT_ROWS):
        g = mem[sums + r * PANEL:sums + (r + 1) * PANEL]
        for i in range(n):
            g += np.float32(mem[a + i * stride + r]) * mem[dy + i * dy_stride:dy + i * dy_stride + PANEL]


def fetch_body(b, base, at):
    fetch_line(b, in_bytes(b, base, at), constant(0), 0, 2)


def fetch_twin(mem, at):
    """Ask for the cache line of mem[at], which will be read soon."""


gradient_sums = written(gradient_sums_body, gradient_sums_twin, apart="npdvae_gradient_sums")
fetch = written(fetch_body, fetch_twin)
