"""Fan et al. 2022: two deterministic perturbations, consistency (the drawn category is largest) and gap."""
import numpy as np

from tests.twins import FIXED
from tests.twins.loops import code, jacobian_times, softmax


def backward(estimator, draw, cost, dcodes=None, state=None):
    """Mean over s of J(softmax(x / tau)) g / tau; x_z = max phi, the others at most max phi - gap."""
    tau = float(draw.kept["tau"])
    S, B, D, K = dcodes.shape
    out = np.zeros((B, D, K))
    for b in range(B):
        for d in range(D):
            phi = [float(v) for v in draw.logits[b, d]]
            for s in range(S):
                z = code(draw, s, b, d)
                x = [max(phi) if k == z else min(phi[k], max(phi) - estimator.gap) for k in range(K)]
                y = softmax([v / tau for v in x])
                for k, v in enumerate(jacobian_times(y, [float(g) for g in dcodes[s, b, d]])):
                    out[b, d, k] += v / tau / S
    return out


# options and their defaults; evaluations of the decoder at D = 3 for K = 2 and K = 4 (None: not served)
DOCUMENTED = dict(samples=1, temperature=0.7, gap=1.0, **FIXED), 1, 1
