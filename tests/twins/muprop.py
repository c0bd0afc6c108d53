"""Gu et al. 2016: REINFORCE on the residual of a Taylor expansion at p, and the expansion's own gradient."""
import numpy as np

from tests.twins.loops import jacobian_times, softmax


def backward(estimator, draw, cost, dcodes=None, state=None):
    """Mean over s of (f(z) - f(p) - sum h (z - p)) (z - p), plus J(p) h; the last row is the point p."""
    S, B, D, K = draw.codes.shape
    out = np.zeros((B, D, K))
    for b in range(B):
        p = [softmax([float(v) for v in row]) for row in draw.logits[b]]
        h = [[float(v) for v in row] for row in dcodes[S - 1, b]]
        for s in range(S - 1):
            z = [[float(v) for v in row] for row in draw.codes[s, b]]
            residual = float(cost[s, b]) - float(cost[S - 1, b])
            for d in range(D):
                for k in range(K):
                    residual -= h[d][k] * (z[d][k] - p[d][k])
            for d in range(D):
                for k in range(K):
                    out[b, d, k] += residual * (z[d][k] - p[d][k]) / (S - 1)
        for d in range(D):
            for k, v in enumerate(jacobian_times(p[d], h[d])):
                out[b, d, k] += v
    return out


# options and their defaults; evaluations of the decoder at D = 3 for K = 2 and K = 4 (None: not served)
DOCUMENTED = dict(samples=1), 2, 2
