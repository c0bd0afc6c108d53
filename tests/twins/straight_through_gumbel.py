"""Jang et al. 2017: z = one_hot(argmax(phi + G)) forward, d softmax((phi + G) / tau) / d phi backward."""
import numpy as np

from tests.twins import FIXED
from tests.twins.loops import code, jacobian_times, softmax


def backward(estimator, draw, cost, dcodes=None, state=None):
    """Mean over s of J(y) g / tau."""
    tau = float(draw.kept["tau"])
    S, B, D, K = dcodes.shape
    out = np.zeros((B, D, K))
    for s in range(S):
        for b in range(B):
            for d in range(D):
                noisy = [float(draw.logits[b, d, k]) + float(draw.kept["gumbels"][s, b, d, k]) for k in range(K)]
                assert noisy[code(draw, s, b, d)] == max(noisy)
                y = softmax([v / tau for v in noisy])
                for k, v in enumerate(jacobian_times(y, [float(g) for g in dcodes[s, b, d]])):
                    out[b, d, k] += v / tau / S
    return out


# options and their defaults; evaluations of the decoder at D = 3 for K = 2 and K = 4 (None: not served)
DOCUMENTED = dict(samples=1, temperature=0.5, **FIXED), 1, 1
