"""Liang et al. 2018; Liu et al. 2019: rows summed with their probability, and a last row that has the rest."""
import math

import numpy as np

from tests.twins.loops import code, softmax


def backward(estimator, draw, cost, dcodes=None, state=None):
    """sum_C q (f - b) (z - p) + (1 - q(C)) (f_j - b) (z_j - p); b the q-weighted mean of f over C, or 0."""
    S, B = cost.shape
    D, K = draw.logits.shape[1:]
    out = np.zeros((B, D, K))
    for b in range(B):
        p = [softmax([float(v) for v in row]) for row in draw.logits[b]]
        q = [math.prod(p[d][code(draw, s, b, d)] for d in range(D)) for s in range(S - 1)]
        baseline = 0
        if estimator.baseline == "summed" and q:
            baseline = sum(q[s] * float(cost[s, b]) for s in range(S - 1)) / sum(q)
        for s in range(S):
            weight = q[s] if s < S - 1 else 1 - math.fsum(q)
            for d in range(D):
                for k in range(K):
                    out[b, d, k] += weight * (float(cost[s, b]) - baseline) * ((k == code(draw, s, b, d)) - p[d][k])
    return out


# options and their defaults; evaluations of the decoder at D = 3 for K = 2 and K = 4 (None: not served)
DOCUMENTED = dict(k=8, baseline="summed"), 8, 8
