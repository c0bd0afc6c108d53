"""Bengio et al. 2013: the gradient with respect to the one-hot row, sent through the softmax's Jacobian."""
import numpy as np

from tests.twins import FIXED
from tests.twins.loops import softmax


def backward(estimator, draw, cost, dcodes=None, state=None):
    """Mean over s of sum_j g_j dp_j/dphi_k, with dp_j/dphi_k = p_j ([j = k] - p_k), p = softmax(phi / tau)."""
    tau = float(draw.kept["tau"])
    S, B, D, K = dcodes.shape
    out = np.zeros((B, D, K))
    for b in range(B):
        for d in range(D):
            p = softmax([float(v) / tau for v in draw.logits[b, d]])
            for k in range(K):
                for s in range(S):
                    for j in range(K):
                        out[b, d, k] += dcodes[s, b, d, j] * p[j] * ((j == k) - p[k]) / S
                if estimator.divide:
                    out[b, d, k] /= tau
    return out


# options and their defaults; evaluations of the decoder at D = 3 for K = 2 and K = 4 (None: not served)
DOCUMENTED = dict(samples=1, temperature=1.0, divide=False, **FIXED), 1, 1
