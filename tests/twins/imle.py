"""Niepert et al. 2021, algorithm 1: MAP(phi + G) against MAP(phi - lambda df/dz + G), divided by lambda."""
import math

import numpy as np

from tests.twins.loops import code


def backward(estimator, draw, cost, dcodes=None, state=None):
    """Mean over s of (z - z') / lambda."""
    S, B, D, K = dcodes.shape
    out = np.zeros((B, D, K))
    for s in range(S):
        for b in range(B):
            lam = strength(estimator, draw, dcodes[s, b], b, state)
            for d in range(D):
                noisy = [float(draw.logits[b, d, k]) + float(draw.kept["gumbels"][s, b, d, k]) for k in range(K)]
                assert noisy[code(draw, s, b, d)] == max(noisy)
                moved = [noisy[k] - lam * float(dcodes[s, b, d, k]) for k in range(K)]
                out[b, d, code(draw, s, b, d)] += 1 / lam / S
                out[b, d, max(range(K), key=moved.__getitem__)] -= 1 / lam / S
    return out


def strength(estimator, draw, g, b, state):
    """lambda, or beta |phi| / |g| of the adaptive one (Minervini et al. 2023), 1 in place of a norm that is 0."""
    if hasattr(estimator, "lam"):
        return estimator.lam
    beta = estimator.beta if state is None else math.exp(float(state["log_beta"][0]))
    phi, size = (math.sqrt(math.fsum(float(v) ** 2 for v in x.ravel())) for x in (draw.logits[b], g))
    return beta * (phi or 1.0) / (size or 1.0)


# options and their defaults; evaluations of the decoder at D = 3 for K = 2 and K = 4 (None: not served)
DOCUMENTED = dict(samples=1, lam=0.3), 1, 1
