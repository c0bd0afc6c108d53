"""Wang & Bui 2026: 2 GR_k at theta' = log (p + D) / 2, less half of straight-through at theta."""
import numpy as np

from tests.twins import FIXED
from tests.twins.gr_mc import gumbel_rao
from tests.twins.loops import code, jacobian_times, softmax


def backward(estimator, draw, cost, dcodes=None, state=None):
    """Mean over s of 2 GR_k(weights (p + z) / 2) - J(p) g / 2."""
    tau = float(draw.kept["tau"])
    S, B, D, K = dcodes.shape
    out = np.zeros((B, D, K))
    for s in range(S):
        for b in range(B):
            for d in range(D):
                z, g = code(draw, s, b, d), [float(v) for v in dcodes[s, b, d]]
                p = softmax([float(v) for v in draw.logits[b, d]])
                midpoint = [(p[k] + (k == z)) / 2 for k in range(K)]
                rao = gumbel_rao(midpoint, z, list(draw.kept["v"][s, b, d]), g, tau)
                zeroth = jacobian_times(p, g)
                for k in range(K):
                    out[b, d, k] += (2 * rao[k] - zeroth[k] / 2) / S
    return out


# options and their defaults; evaluations of the decoder at D = 3 for K = 2 and K = 4 (None: not served)
DOCUMENTED = dict(samples=1, conditional_draws=10, temperature=0.5, **FIXED), 1, 1
