"""A weight gradient over more rows than the nearest caches hold: the tile `gradient` in blocks of rows.

Between blocks the sums wait in memory; the update follows the last block.
"""
import numpy as np
from llvmlite import ir
from numba import config, types
from numba.extending import intrinsic

from npdvae.kernels.cpu.target import GRADIENT_ROWS, PANEL, VECTORS
from npdvae.kernels.cpu.vectors import (
    I32,
    POINTER,
    WIDTH,
    call_apart,
    constant,
    data,
    external,
    in_bytes,
    inner_loop,
    load,
    multiply,
    pointer,
)


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


@intrinsic
def _gradient_sums(typing, mem, a, stride, dy, dy_stride, sums, n):
    def codegen(context, b, signature, arguments):
        base = data(context, b, signature.args[0], arguments[0])
        call_apart(b, "npdvae_gradient_sums", gradient_sums_body, [base, *arguments[1:]])
        return context.get_dummy_value()
    return types.void(mem, *[types.int64] * 6), codegen


def gradient_sums_twin(mem, a, stride, dy, dy_stride, sums, n):
    """sums[r] += sum over i < n of A[i, r] dY[i]: sums [GRADIENT_ROWS, PANEL], A[i, r] at a + i stride + r."""
    for r in range(GRADIENT_ROWS):
        g = mem[sums + r * PANEL:sums + (r + 1) * PANEL]
        for i in range(n):
            g += np.float32(mem[a + i * stride + r]) * mem[dy + i * dy_stride:dy + i * dy_stride + PANEL]


@intrinsic
def _fetch(typing, mem, at):
    def codegen(context, b, signature, arguments):
        place = pointer(b, in_bytes(b, data(context, b, signature.args[0], arguments[0]), arguments[1]), constant(0))
        fetch = external(b, "llvm.prefetch.p0", ir.VoidType(), [POINTER, I32, I32, I32])
        b.call(fetch, [place, *(ir.Constant(I32, x) for x in (0, 2, 1))])           # for reading, into the second cache
        return context.get_dummy_value()
    return types.void(mem, types.int64), codegen


def fetch_twin(mem, at):
    """Ask for the cache line of mem[at], which will be read soon."""


gradient_sums, fetch = (gradient_sums_twin, fetch_twin) if config.DISABLE_JIT else (_gradient_sums, _fetch)
