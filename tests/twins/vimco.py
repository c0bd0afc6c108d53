"""Mnih & Rezende 2016: the learning signal of each sample is the bound less the bound without it."""
import math

import numpy as np

from tests.twins.loops import code, softmax


def backward(estimator, draw, cost, dcodes=None, state=None):
    """Sum over s of (-L + L_-s + w_s / sum w) (z - p), in plain weights w = p(x, z) / q(z)."""
    S, B = cost.shape
    D, K = draw.logits.shape[1:]
    out = np.zeros((B, D, K))
    for b in range(B):
        p = [softmax([float(v) for v in row]) for row in draw.logits[b]]
        w = [math.exp(-float(cost[s, b])) / math.prod(p[d][code(draw, s, b, d)] for d in range(D)) for s in range(S)]
        for s in range(S):
            others = [w[t] for t in range(S) if t != s]
            geometric = math.prod(v ** (1 / len(others)) for v in others)
            bound, without = math.log(sum(w) / S), math.log((sum(others) + geometric) / S)
            for d in range(D):
                for k in range(K):
                    score = (k == code(draw, s, b, d)) - p[d][k]
                    out[b, d, k] += (without - bound + w[s] / sum(w)) * score
    return out


# options and their defaults; evaluations of the decoder at D = 3 for K = 2 and K = 4 (None: not served)
DOCUMENTED = dict(samples=4), 4, 4
