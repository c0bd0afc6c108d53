"""Shah et al. 2024: the backward temperature alone shapes the Jacobian."""
import numpy as np

from tests.twins import FIXED
from tests.twins.loops import jacobian_times, softmax


def backward(estimator, draw, cost, dcodes=None, state=None):
    """Mean over s of J(softmax(phi / tau_b)) g."""
    tau = float(draw.kept["tau"])
    S, B, D, K = dcodes.shape
    out = np.zeros((B, D, K))
    for b in range(B):
        for d in range(D):
            p = softmax([float(v) / tau for v in draw.logits[b, d]])
            for s in range(S):
                for k, v in enumerate(jacobian_times(p, [float(g) for g in dcodes[s, b, d]])):
                    out[b, d, k] += v / S
    return out


# options and their defaults; evaluations of the decoder at D = 3 for K = 2 and K = 4 (None: not served)
DOCUMENTED = dict(samples=1, temperature=1.0, forward_temperature=0.7, **FIXED), 1, 1
