"""Categorical form of bitflip-1 (2208.06124): D times the local expectation of the one latent that was changed."""
import numpy as np

from tests.twins.loops import code, softmax


def backward(estimator, draw, cost, dcodes=None, state=None):
    """D p_dk (f_k - sum_j p_dj f_j) where d is the only latent in which the rows of the draw differ."""
    B, D, K = draw.logits.shape
    out = np.zeros((B, D, K))
    for b in range(B):
        rows = [[code(draw, k, b, d) for d in range(D)] for k in range(K)]
        (changed,) = [d for d in range(D) if [row[d] for row in rows] == list(range(K))]
        assert all(row[d] == rows[0][d] for row in rows for d in range(D) if d != changed)
        p = softmax([float(v) for v in draw.logits[b, changed]])
        for k in range(K):
            mean = sum(p[j] * float(cost[j, b]) for j in range(K))
            out[b, changed, k] = D * p[k] * (float(cost[k, b]) - mean)
    return out


# options and their defaults; evaluations of the decoder at D = 3 for K = 2 and K = 4 (None: not served)
DOCUMENTED = dict(), 2, 4
