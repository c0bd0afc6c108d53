"""Jang et al. 2017, Maddison et al. 2017: the derivative of f(softmax((phi + G) / tau)) with respect to phi."""
import numpy as np

from tests.twins import FIXED
from tests.twins.loops import jacobian_times, softmax


def backward(estimator, draw, cost, dcodes=None, state=None):
    """Mean over s of J(y) f'(y) / tau, the decoded rows y recomputed from the noise."""
    tau = float(draw.kept["tau"])
    S, B, D, K = dcodes.shape
    out = np.zeros((B, D, K))
    for s in range(S):
        for b in range(B):
            for d in range(D):
                y = softmax([(float(draw.logits[b, d, k]) + float(draw.kept["gumbels"][s, b, d, k])) / tau
                             for k in range(K)])
                assert all(abs(y[k] - draw.codes[s, b, d, k]) <= 1e-5 for k in range(K))
                for k, v in enumerate(jacobian_times(y, [float(g) for g in dcodes[s, b, d]])):
                    out[b, d, k] += v / tau / S
    return out


# options and their defaults; evaluations of the decoder at D = 3 for K = 2 and K = 4 (None: not served)
DOCUMENTED = dict(samples=1, temperature=0.5, kl="analytic", prior_temperature=0.5, **FIXED), 1, 1
