"""Bits smoothed by powers (f2 of `smoothing_functions`) and the gradient at their logits, float32."""
import numpy as np

from npdvae.kernels.cpu.compiler import CONTRACT, SUMS, kernel
from npdvae.kernels.cpu.elementary import exp, log

f4 = np.float32


@kernel(CONTRACT)
def power_rows(p, u, beta, rows, slope):
    """Rows (1 - zeta, zeta) [S N, 2] and dzeta / da [S N] of bits of probability p [N] at uniforms u [S N]."""
    N = p.size
    for start in range(0, u.size, N):
        some, row, out = u[start:start + N], rows[start:start + N].ravel(), slope[start:start + N]
        for i in range(N):
            one = some[i] < p[i]
            power = exp(beta * log(some[i] / p[i]))                 # read for ones alone
            row[2 * i] = power if one else f4(1)
            row[2 * i + 1] = f4(1) - power if one else f4(0)
            out[i] = beta * (f4(1) - p[i]) * power if one else f4(0)


@kernel(SUMS)
def bits_backward(dcodes, slope, dlogits):
    """(-da, da), da the mean over s of (g_1 - g_0) slope: dcodes [S N, 2], slope [S N] -> [N, 2]."""
    N, S = len(dlogits), f4(slope.size // len(dlogits))
    for n in range(N):
        da = f4(0)
        for at in range(n, slope.size, N):
            da += (dcodes[at, 1] - dcodes[at, 0]) * slope[at]
        dlogits[n, 0], dlogits[n, 1] = -da / S, da / S
