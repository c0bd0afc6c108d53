"""The derivative of sum_z q(z) f(z) itself: dq(z)/dphi_dk = q(z) ([z_d = k] - p_dk)."""
import math

import numpy as np

from tests.twins.loops import code, softmax


def backward(estimator, draw, cost, dcodes=None, state=None):
    """sum_z q(z) f(z) ([z_d = k] - p_dk), every code in turn."""
    B, D, K = draw.logits.shape
    out = np.zeros((B, D, K))
    for b in range(B):
        p = [softmax([float(v) for v in row]) for row in draw.logits[b]]
        for d in range(D):
            for k in range(K):
                out[b, d, k] = math.fsum(
                    math.prod(p[i][code(draw, s, b, i)] for i in range(D)) * float(cost[s, b])
                    * ((k == code(draw, s, b, d)) - p[d][k]) for s in range(len(draw.codes)))
    return out


# options and their defaults; evaluations of the decoder at D = 3 for K = 2 and K = 4 (None: not served)
DOCUMENTED = dict(), 8, 64
