"""What a set of codes leaves outside, by the tree of their prefixes, and draws from there, float32."""
import numpy as np

from npdvae.kernels.cpu.categorical import invert
from npdvae.kernels.cpu.compiler import SUMS, helper, kernel
from npdvae.kernels.cpu.elementary import exp_minus, log

f4 = np.float32
LOG_ZERO = f4(-1e30)


@helper
def exp_or_zero(x):
    """e**x for x <= 0, 0 below -87: no denormal number, which would take a hundred times as long."""
    y = exp_minus(-x)
    return y if x > f4(-87) else f4(0)


@helper
def log_sum_exp(x):
    """Of x [K], which is overwritten."""
    top = x[0]
    for k in range(x.size):
        top = max(top, x[k])
    for k in range(x.size):
        x[k] = exp_or_zero(x[k] - top)
    total = f4(0)
    for k in range(x.size):
        total += x[k]
    return top + log(total)


@kernel(SUMS)
def log_outside(log_p, codes, tables, total):
    """log of the probability outside codes int64 [n, B, D]: total [B], and the tables [D, n, B, K] below prefixes."""
    B, D, K = log_p.shape
    n = len(codes)
    common, outside, top, here = np.empty((n, n), np.int64), np.empty(n, f4), np.empty(n, f4), np.empty((n, K), f4)
    for b in range(B):
        for i in range(n):
            for j in range(n):
                d = 0
                while d < D and codes[i, b, d] == codes[j, b, d]:
                    d += 1
                common[i, j] = d
            outside[i] = LOG_ZERO
        for d in range(D - 1, -1, -1):
            for i in range(n):
                table = tables[d, i, b]
                for k in range(K):
                    table[k] = f4(0)
                for j in range(n):
                    if common[i, j] >= d:
                        table[codes[j, b, d]] = outside[j]
                top[i] = f4(-np.inf)
                for k in range(K):
                    here[i, k] = log_p[b, d, k] + table[k]
                    top[i] = max(top[i], here[i, k])
                for k in range(K):
                    here[i, k] -= top[i]
            x = here.ravel()
            for j in range(x.size):
                x[j] = exp_or_zero(x[j])
            for i in range(n):
                rest = f4(0)
                for k in range(K):
                    rest += here[i, k]
                outside[i] = top[i] + log(rest)
        total[b] = outside[0]


@kernel(SUMS)
def draw_outside(log_p, codes, tables, u, drawn):
    """A code outside the set, from the tables and uniforms [B, D]: drawn int64 [B, D]."""
    B, D, K = log_p.shape
    on, p = np.empty(tables.shape[1], np.bool_), np.empty(K, f4)
    for b in range(B):
        on[:] = True
        for d in range(D):
            for k in range(K):
                least = f4(0)
                for i in range(on.size):
                    if on[i]:
                        least = min(least, tables[d, i, b, k])
                p[k] = log_p[b, d, k] + least
            total = log_sum_exp(p.copy())
            for k in range(K):
                p[k] = exp_or_zero(min(p[k] - total, f4(0)))
            drawn[b, d] = invert(p, u[b, d])
            for i in range(len(codes)):
                on[i] = on[i] and codes[i, b, d] == drawn[b, d]
