"""Chances of the first draws without replacement given the set that was drawn, float32."""
import numpy as np

from npdvae.kernels.cpu.compiler import CONTRACT, helper, kernel
from npdvae.kernels.cpu.elementary import exp_minus, log1p_unit
from npdvae.kernels.cpu.outside_codes import LOG_ZERO, exp_or_zero, log_sum_exp

f4 = np.float32


@helper
def shares(x, out):
    """exp(x) over its sum: x [k], which is overwritten, into out [k]."""
    top, total = x[0], f4(0)
    for i in range(x.size):
        top = max(top, x[i])
    for i in range(x.size):
        x[i] = exp_or_zero(x[i] - top)
        total += x[i]
    for i in range(x.size):
        out[i] = x[i] / total


@kernel(CONTRACT)
def chances(log_q, log_rest, first, second, left):
    """Chances of the first draws given the set: log_q [k, B], log_rest [B] -> [k, B], [k, k, B], [k, B]."""
    k, B = log_q.shape
    whole = (1 << k) - 1
    mass, h, x = np.empty(whole, f4), np.empty(whole, f4), np.empty(k, f4)
    for b in range(B):
        mass[0], h[0] = log_rest[b], f4(0)
        for A in range(1, whole):
            n = 0
            for i in range(k):
                if A >> i & 1:
                    if n == 0:
                        low, high = mass[A ^ (1 << i)], log_q[i, b]
                        low, high = min(low, high), max(low, high)
                        mass[A] = high + log1p_unit(exp_minus(high - low))
                    x[n] = log_q[i, b] + h[A ^ (1 << i)]
                    n += 1
            h[A] = log_sum_exp(x[:n]) - mass[A]
        for i in range(k):
            x[i] = log_q[i, b] + h[whole ^ (1 << i)]
        shares(x, first[:, b])
        for i in range(k):
            for j in range(k):
                x[j] = LOG_ZERO if i == j else log_q[j, b] + h[whole ^ (1 << i) ^ (1 << j)]
            shares(x, second[i, :, b])
            left[i, b] = exp_or_zero(mass[whole ^ (1 << i)])
