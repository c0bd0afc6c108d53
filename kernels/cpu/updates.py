"""Adam and RAdam in one pass over flat arrays, float32 unless said otherwise: p, m, v are overwritten, or new."""
import numpy as np

from npdvae.kernels.cpu.compiler import CONTRACT, kernel

EXACT: set[str] = set()                         # each operation rounds as written


@kernel(CONTRACT)
def adaptive(p, g, m, v, scalars):
    """m += s1 (g - m), v += s2 (g g - v), p -= s0 m / (s3 sqrt(v) + s4), with s = scalars [5] float32."""
    s0, s1, s2, s3, s4 = scalars
    for i in range(p.size):
        m[i] += s1 * (g[i] - m[i])
        v[i] += s2 * (g[i] * g[i] - v[i])
        p[i] -= s0 * m[i] / (s3 * np.sqrt(v[i]) + s4)


@kernel(EXACT)
def adam(p, g, m, v, rate, root, share1, share2, eps, new_p, new_m, new_v):
    """npdvae.ops.updates.adam to the bit, float64 [N] but for g of either type; share = 1 - beta. p, m, v stay."""
    for i in range(p.size):
        first = m[i] + share1 * (g[i] - m[i])
        second = v[i] + share2 * (g[i] * g[i] - v[i])
        new_m[i], new_v[i] = first, second
        new_p[i] = p[i] - rate * first / (np.sqrt(second) / root + eps)


@kernel(CONTRACT)
def momentum(p, g, m, lr, factor):
    """m = factor m + g, p -= lr m."""
    for i in range(p.size):
        m[i] = factor * m[i] + g[i]
        p[i] -= lr * m[i]
