"""Cong et al. 2019, table 1: - dF(z) / dphi_k / p(z) (f(z + 1) - f(z)) for every latent, the others as drawn."""
import numpy as np

from tests.twins.loops import code, softmax


def backward(estimator, draw, cost, dcodes=None, state=None):
    """The derivative of F summed entry by entry: dp_j / dphi_k = p_j ([j = k] - p_k); 1 for p(z) = 0."""
    B, D, K = draw.logits.shape
    out = np.zeros((B, D, K))
    for b in range(B):
        for d in range(D):
            p, z = softmax([float(v) for v in draw.logits[b, d]]), code(draw, 0, b, d)
            if z == K - 1:
                continue
            assert [code(draw, 1 + d, b, i) for i in range(D)] == [code(draw, 0, b, i) + (i == d) for i in range(D)]
            for k in range(K):
                slope = sum(p[j] * ((j == k) - p[k]) for j in range(z + 1))
                out[b, d, k] = -slope / (p[z] or 1.0) * (float(cost[1 + d, b]) - float(cost[0, b]))
    return out


# options and their defaults; evaluations of the decoder at D = 3 for K = 2 and K = 4 (None: not served)
DOCUMENTED = dict(), 4, 4
