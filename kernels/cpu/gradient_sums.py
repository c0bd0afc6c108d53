"""A weight gradient over more rows than the nearest caches hold: the tile `gradient` in blocks of rows.

Between blocks the sums wait in memory; the update follows the last block.
"""
import numpy as np
from numba import config, types
from numba.extending import intrinsic

from npdvae.kernels.cpu.target import GRADIENT_ROWS, PANEL, VECTORS
from npdvae.kernels.cpu.vectors import WIDTH, call_apart, constant, data, in_bytes, inner_loop, load, multiply, pointer


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


gradient_sums = gradient_sums_twin if config.DISABLE_JIT else _gradient_sums
