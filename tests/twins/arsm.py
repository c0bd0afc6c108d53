"""Yin, Yue & Zhou 2019, theorem 2: the cost at every swap of two shares, weighted by how far shares are from 1/K."""
import itertools

import numpy as np


def backward(estimator, draw, cost, dcodes=None, state=None):
    """sum_m (1/K - w_m) (f_mk - mean_j f_mj); rows of the cost: no swap, then (0, 1), (0, 2), ..."""
    B, D, K = draw.logits.shape
    swaps = [None, *itertools.combinations(range(K), 2)]
    out = np.zeros((B, D, K))
    for b in range(B):
        f = [[0.0] * K for _ in range(K)]
        for s, pair in enumerate(swaps):
            for m, j in [(m, m) for m in range(K)] if pair is None else [pair, pair[::-1]]:
                f[m][j] = float(cost[s, b])
        for d in range(D):
            for k in range(K):
                for m in range(K):
                    out[b, d, k] += (1 / K - float(draw.kept["w"][b, d, m])) * (f[m][k] - sum(f[m]) / K)
    return out


# options and their defaults; evaluations of the decoder at D = 3 for K = 2 and K = 4 (None: not served)
DOCUMENTED = dict(), 2, 7
