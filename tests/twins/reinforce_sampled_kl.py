"""Thickstun's notes, eq. 9 with the sign of a cost; or the entropy of eq. 7 in closed form."""
import math

import numpy as np

from tests.twins.loops import code, softmax
from tests.twins.reinforce import coefficients, score_mean


def backward(estimator, draw, cost, dcodes=None, state=None):
    """Mean over s of (f + log q + 1 - baseline) (z - p); or (f - baseline) (z - p) plus p (log p + H)."""
    S, B = cost.shape
    D, K = draw.logits.shape[1:]
    p = [[softmax([float(v) for v in row]) for row in example] for example in draw.logits]
    signal = np.array(cost, float)
    if estimator.entropy == "sampled":
        for s in range(S):
            for b in range(B):
                signal[s, b] += sum(math.log(p[b][d][code(draw, s, b, d)]) for d in range(D)) + 1
    out = score_mean(draw, coefficients(estimator.baseline, signal, draw.kept["context"], state))
    if estimator.entropy == "analytic":
        for b in range(B):
            for d in range(D):
                H = -sum(v * math.log(v) for v in p[b][d])
                for k in range(K):
                    out[b, d, k] += p[b][d][k] * (math.log(p[b][d][k]) + H)
    return out


# options and their defaults; evaluations of the decoder at D = 3 for K = 2 and K = 4 (None: not served)
DOCUMENTED = (dict(baseline="running_mean", samples=1, baseline_value=None, decay=None,
                   hidden=None, normalise=None, entropy="sampled"), 1, 1)
