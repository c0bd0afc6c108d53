"""Pflug 1989; Rosca et al. 2019: p_k (1 - p_k) times the cost at k less the cost at a draw from the rest."""
import numpy as np

from tests.twins.local_expectation import changed_cost
from tests.twins.loops import code, softmax


def backward(estimator, draw, cost, dcodes=None, state=None):
    """p_k (1 - p_k) (f(z_d := k) - f(z_d := j)): j is the drawn category, or the second one where k is the first."""
    B, D, K = draw.logits.shape
    second = draw.kept["second"]
    out = np.zeros((B, D, K))
    for b in range(B):
        for d in range(D):
            p = softmax([float(v) for v in draw.logits[b, d]])
            for k in range(K):
                j = code(draw, 0, b, d)
                if j == k:
                    j = int(second[b if len(second) > 1 else 0, d])
                difference = changed_cost(draw, cost, b, d, k) - changed_cost(draw, cost, b, d, j)
                out[b, d, k] = p[k] * (1 - p[k]) * difference
    return out


# options and their defaults; evaluations of the decoder at D = 3 for K = 2 and K = 4 (None: not served)
DOCUMENTED = dict(), 4, 10
