"""Kool et al. 2019: each sample's baseline is the mean of the other samples' costs."""
import numpy as np

from tests.twins.loops import code, softmax


def backward(estimator, draw, cost, dcodes=None, state=None):
    """Mean over s of (f_s - mean of the others) (z_s - p)."""
    B, D, K = draw.logits.shape
    S = len(cost)
    out = np.zeros((B, D, K))
    for b in range(B):
        for s in range(S):
            others = [float(cost[t, b]) for t in range(S) if t != s]
            advantage = float(cost[s, b]) - sum(others) / len(others)
            for d in range(D):
                p = softmax([float(v) for v in draw.logits[b, d]])
                for k in range(K):
                    out[b, d, k] += advantage * ((k == code(draw, s, b, d)) - p[k]) / S
    return out


# options and their defaults; evaluations of the decoder at D = 3 for K = 2 and K = 4 (None: not served)
DOCUMENTED = dict(samples=4), 4, 4
