"""Liu et al. 2023, algorithm 2: 2 grad at pi_1 = (softmax(phi / tau) + D) / 2, less half the grad at pi_0."""
import numpy as np

from tests.twins.loops import code, jacobian_times, softmax


def backward(estimator, draw, cost, dcodes=None, state=None):
    """Mean over s of 2 J(pi_1) g - J(pi_0) g / 2."""
    tau = float(draw.kept["tau"])
    S, B, D, K = dcodes.shape
    out = np.zeros((B, D, K))
    for b in range(B):
        for d in range(D):
            phi = [float(v) for v in draw.logits[b, d]]
            p0, soft = softmax(phi), softmax([v / tau for v in phi])
            for s in range(S):
                z = code(draw, s, b, d)
                g = [float(v) for v in dcodes[s, b, d]]
                first = jacobian_times([(soft[k] + (k == z)) / 2 for k in range(K)], g)
                zeroth = jacobian_times(p0, g)
                for k in range(K):
                    out[b, d, k] += (2 * first[k] - zeroth[k] / 2) / S
    return out
