"""Shekhovtsov 2023: average of straight-through and of DARN centred at the probabilities."""
import numpy as np

from tests.twins.loops import code, jacobian_times, softmax


def backward(estimator, draw, cost, dcodes=None, state=None):
    """Mean over s of (J(p) g + (sum_j g_j (z_j - p_j)) (z - p)) / 2."""
    S, B, D, K = dcodes.shape
    out = np.zeros((B, D, K))
    for b in range(B):
        for d in range(D):
            p = softmax([float(v) for v in draw.logits[b, d]])
            for s in range(S):
                z = code(draw, s, b, d)
                g = [float(v) for v in dcodes[s, b, d]]
                along = g[z] - sum(p[j] * g[j] for j in range(K))
                through = jacobian_times(p, g)
                for k in range(K):
                    out[b, d, k] += (through[k] + along * ((k == z) - p[k])) / 2 / S
    return out


# options and their defaults; evaluations of the decoder at D = 3 for K = 2 and K = 4 (None: not served)
DOCUMENTED = dict(samples=1), 1, 1
