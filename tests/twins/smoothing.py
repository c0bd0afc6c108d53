"""Rolfe 2016, Vahdat et al. 2018: dzeta / da at given F(zeta) from the distribution functions F alone.

By the implicit function theorem -(dF / da) / (dF / dzeta), each a complex step, whatever noise led to zeta.
"""
import cmath
import math

import numpy as np

H = 1e-25


def distribution(function, zeta, p, beta):
    """F(zeta) of a bit of probability p: complex numbers."""
    exponential = (cmath.exp(beta * zeta) - 1) / math.expm1(beta)
    if function == "f1":
        return 1 - p + p * exponential
    if function == "f2":
        return 1 - p * (1 - zeta) ** (1 / beta)
    if function == "f3":
        low = zeta.real < 1 - p.real
        return (1 - p) * (zeta / (1 - p)) ** (1 / beta) if low else 1 - p * ((1 - zeta) / p) ** (1 / beta)
    if function == "overlapping_power":
        return (1 - p) * zeta ** (1 / beta) + p * (1 - (1 - zeta) ** (1 / beta))
    falling = (1 - cmath.exp(-beta * zeta)) / -math.expm1(-beta)
    return (1 - p) * falling + p * exponential


def slope(function, zeta, a, beta):
    """dzeta / da; 0 where zeta is stuck at an end."""
    if not 0 < zeta < 1:
        return 0.0
    p = 1 / (1 + cmath.exp(-complex(a, H)))
    by_a = distribution(function, complex(zeta), p, beta).imag / H
    by_zeta = distribution(function, complex(zeta, zeta * (1 - zeta) * H), complex(p.real), beta).imag
    return -by_a / by_zeta * zeta * (1 - zeta) * H


def backward(estimator, draw, cost, dcodes=None, state=None):
    """Mean over s of (g_1 - g_0) dzeta / da, for category 1; its opposite for category 0."""
    beta = 1 / float(draw.kept["tau"])
    S, B, D, K = dcodes.shape
    out = np.zeros((B, D, K))
    for s in range(S):
        for b in range(B):
            for d in range(D):
                a = float(draw.logits[b, d, 1]) - float(draw.logits[b, d, 0])
                g = float(dcodes[s, b, d, 1]) - float(dcodes[s, b, d, 0])
                da = g * slope(estimator.function, float(draw.codes[s, b, d, 1]), a, beta) / S
                out[b, d, 1] += da
                out[b, d, 0] -= da
    return out


# options and their defaults; evaluations of the decoder at D = 3 for K = 2 and K = 4 (None: not served)
DOCUMENTED = (dict(samples=4, function='f2', temperature=0.5, anneal="constant",
                   anneal_rate=0.0, anneal_min=0.25, anneal_every=1), 4, None)
