"""Dimitriev & Zhou 2021: pairs of jointly antithetic samples, each weighted by q q' / P, P stick by stick."""
import itertools
import math

import numpy as np

from tests.twins.loops import code


def copula(c, e, M):
    """P(u < c, u' < e) of two of M uniforms (1 - d)^(M - 1), d ~ Dirichlet(1, ..., 1)."""
    return max(0.0, c ** (1 / (M - 1)) + e ** (1 / (M - 1)) - 1) ** (M - 1)


def ratio(phi, z, other, M):
    """q(z) q(z') / P(z, z'), z != z'; after the first stop the other sample is on its own, as under q q'."""
    order = sorted(range(len(phi)), key=lambda k: phi[k])
    value = 1.0
    for i, k in enumerate(order):
        theta = math.exp(phi[k] - phi[order[-1]]) / math.fsum(math.exp(phi[j] - phi[order[-1]]) for j in order[i:])
        both = copula(theta, theta, M)
        if k in (z, other):
            return value * ((1 - theta) * theta / (theta - both) if both > 0 else 1 - theta)
        value *= (1 - theta) ** 2 / (1 - 2 * theta + both)


def backward(estimator, draw, cost, dcodes=None, state=None):
    """Mean over pairs of (f_m - f_n) / 2 rho_d (z_m - z_n)_d."""
    B, D, K = draw.logits.shape
    S = len(draw.codes)
    pairs = list(itertools.combinations(range(S), 2))
    out = np.zeros((B, D, K))
    for b in range(B):
        for d in range(D):
            phi = [float(v) for v in draw.logits[b, d]]
            for m, n in pairs:
                z, other = code(draw, m, b, d), code(draw, n, b, d)
                if z == other:
                    continue
                part = (float(cost[m, b]) - float(cost[n, b])) / 2 * ratio(phi, z, other, S) / len(pairs)
                out[b, d, z] += part
                out[b, d, other] -= part
    return out


# options and their defaults; evaluations of the decoder at D = 3 for K = 2 and K = 4 (None: not served)
DOCUMENTED = dict(samples=3), 3, 3
