"""Liu et al. 2023, algorithm 2: 2 grad at pi_1 = (softmax(phi / tau) + D) / 2, less half the grad at pi_0.

For other alpha (Wang & Bui 2026) in another form, of straight-through and DARN: with s the softmax at tau,
J((1 - w) s + w z) g / (1 - w) = J(s) g + w <g, z - s> (z - s).
"""
import math

import numpy as np

from tests.twins import FIXED
from tests.twins.loops import code, jacobian_times, softmax


def backward(estimator, draw, cost, dcodes=None, state=None):
    """Mean over s of J(s) g + w <g, z - s> (z - s) - w J(p) g, w = 1 / (2 alpha)."""
    tau, w = float(draw.kept["tau"]), 0.5 / getattr(estimator, "alpha", 1.0)
    S, B, D, K = dcodes.shape
    out = np.zeros((B, D, K))
    for b in range(B):
        for d in range(D):
            phi = [float(v) for v in draw.logits[b, d]]
            p0, soft = softmax(phi), softmax([v / tau for v in phi])
            for s in range(S):
                z = code(draw, s, b, d)
                g = [float(v) for v in dcodes[s, b, d]]
                first, zeroth = jacobian_times(soft, g), jacobian_times(p0, g)
                away = [(k == z) - soft[k] for k in range(K)]
                along = math.fsum(g[k] * away[k] for k in range(K))
                for k in range(K):
                    out[b, d, k] += (first[k] + w * along * away[k] - w * zeroth[k]) / S
    return out


# options and their defaults; evaluations of the decoder at D = 3 for K = 2 and K = 4 (None: not served)
DOCUMENTED = dict(samples=1, temperature=1.0, alpha=1.0, **FIXED), 1, 1
