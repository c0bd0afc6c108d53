"""Gregor et al. 2014: f(z) - f(c) is replaced by <f'(z), z - c>, row by row."""
import numpy as np

from tests.twins.loops import code, softmax


def backward(estimator, draw, cost, dcodes=None, state=None):
    """Mean over s of (sum_j g_j (z_j - c_j)) (z - p)."""
    S, B, D, K = dcodes.shape
    out = np.zeros((B, D, K))
    for b in range(B):
        for d in range(D):
            p = softmax([float(v) for v in draw.logits[b, d]])
            c = p if estimator.centre == "probabilities" else [1 / K] * K
            for s in range(S):
                z = code(draw, s, b, d)
                along = sum(float(dcodes[s, b, d, j]) * ((j == z) - c[j]) for j in range(K))
                for k in range(K):
                    out[b, d, k] += along * ((k == z) - p[k]) / S
    return out


# options and their defaults; evaluations of the decoder at D = 3 for K = 2 and K = 4 (None: not served)
DOCUMENTED = dict(samples=1, centre="uniform"), 1, 1
