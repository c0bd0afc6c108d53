"""Dong et al. 2021: REINFORCE leave-one-out on a coupled pair, reweighted by q(z) q(z') / P(z, z')."""
import math

import numpy as np

from tests.twins.loops import code


def ratio(phi, z, other):
    """q(z) q(z') / P(z, z') for z != z', stick by stick: the sticks that both pass, then the one where one stops."""
    order = sorted(range(len(phi)), key=lambda k: phi[k])
    value = 1.0
    for i in range(min(order.index(z), order.index(other)) + 1):
        rest = math.fsum(math.exp(phi[k] - phi[order[-1]]) for k in order[i:])
        theta = math.exp(phi[order[i]] - phi[order[-1]]) / rest
        if order[i] in (z, other):
            value *= 1 - theta                                      # theta (1 - theta) / theta
        else:
            value *= (1 - theta) ** 2 / (1 - 2 * theta)
    return value


def backward(estimator, draw, cost, dcodes=None, state=None):
    """(f - f') / 2 rho_d (z - z')_d."""
    B, D, K = draw.logits.shape
    out = np.zeros((B, D, K))
    for b in range(B):
        half = (float(cost[0, b]) - float(cost[1, b])) / 2
        for d in range(D):
            z, other = code(draw, 0, b, d), code(draw, 1, b, d)
            if z != other:
                rho = ratio([float(v) for v in draw.logits[b, d]], z, other)
                out[b, d, z] += half * rho
                out[b, d, other] -= half * rho
    return out


# options and their defaults; evaluations of the decoder at D = 3 for K = 2 and K = 4 (None: not served)
DOCUMENTED = dict(), 2, 2
