"""The n most probable codes of a product of categoricals, float32, latent by latent."""
import numpy as np

from npdvae.kernels.cpu.compiler import CONTRACT, helper, kernel

f4 = np.float32


@helper
def insert(value, index, values, order, n):
    """Put a value into the n smallest so far, ascending, behind its equals: the new n, at most their length."""
    if n == len(values):
        if not value < values[n - 1]:
            return n
        n -= 1
    i = n
    while i > 0 and value < values[i - 1]:
        values[i], order[i] = values[i - 1], order[i - 1]
        i -= 1
    values[i], order[i] = value, index
    return n + 1


@helper
def trace_back(orders, n, K, b, codes):
    """Codes [.., B, D] of example b from choices [D, n] made latent by latent, prefix * K + category."""
    D = len(orders)
    for i in range(n):
        choice = orders[D - 1, i]
        for d in range(D - 1, 0, -1):
            codes[i, b, d] = choice % K
            choice = orders[d - 1, choice // K]
        codes[i, b, 0] = choice


@kernel(CONTRACT)
def most_probable(log_p, codes, log_q):
    """The n best codes of log_p [B, D, K], best first: codes int64 [n, B, D], log_q [n, B]."""
    B, D, K = log_p.shape
    count = len(codes)
    cost, order = np.empty((2, count), f4), np.empty((D, count), np.int64)
    for b in range(B):
        n, cost[1, 0] = 1, f4(0)
        for d in range(D):
            before, after, grown = cost[(d + 1) % 2], cost[d % 2], 0
            for i in range(n):
                for k in range(K):
                    grown = insert(before[i] - log_p[b, d, k], i * K + k, after, order[d], grown)
            n = grown
        trace_back(order, n, K, b, codes)
        for i in range(n):
            log_q[i, b] = -cost[(D - 1) % 2, i]
