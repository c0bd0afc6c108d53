"""Tucker et al. 2017, eq. 5: y and y~ are rebuilt in scalars; the cost's values and slopes at both are given."""
import math

import numpy as np

from tests.twins import FIXED
from tests.twins.loops import softmax


def conditional(p, winner, v):
    """Perturbed log-probabilities given the winner and their derivatives by their own log-probability, v fixed."""
    e = [-math.log(x) for x in v]
    value = [-math.log(e[k] / p[k] + e[winner]) if k != winner else -math.log(e[k]) for k in range(len(p))]
    slope = [e[k] / p[k] / (e[k] / p[k] + e[winner]) if k != winner else 0.0 for k in range(len(p))]
    return value, slope


def path(p, y, g, slope, tau):
    """d f(y) / dphi_k for y = softmax(x / tau), dx_j / dlog p_j = slope_j, dlog p_j / dphi_k = [j = k] - p_k."""
    K = len(p)
    dx = [sum(g[i] * y[i] * ((i == j) - y[j]) for i in range(K)) / tau for j in range(K)]
    return [sum(dx[j] * slope[j] * ((j == k) - p[k]) for j in range(K)) for k in range(K)]


def backward(estimator, draw, cost, dcodes=None, state=None):
    """Mean over s of (f(z) - eta f(y~)) (z - p) + eta (path at y - path at y~)."""
    tau = float(draw.kept["tau"])
    eta = float(state["eta"][0]) if state is not None else estimator.start
    B, D, K = draw.logits.shape
    S = len(cost) // 3
    out = np.zeros((B, D, K))
    for b in range(B):
        for d in range(D):
            p = softmax([float(v) for v in draw.logits[b, d]])
            for s in range(S):
                winner = max(range(K), key=lambda k: draw.codes[s, b, d, k])
                value, slope = conditional(p, winner, [float(x) for x in draw.kept["v"][s, b, d]])
                y = [float(x) for x in draw.codes[S + s, b, d]]
                y_given = softmax([x / tau for x in value])
                free = path(p, y, dcodes[S + s, b, d], [1.0] * K, tau)
                given = path(p, y_given, dcodes[2 * S + s, b, d], slope, tau)
                for k in range(K):
                    score = (k == winner) - p[k]
                    out[b, d, k] += ((cost[s, b] - eta * cost[2 * S + s, b]) * score + eta * (free[k] - given[k])) / S
    return out


# options and their defaults; evaluations of the decoder at D = 3 for K = 2 and K = 4 (None: not served)
DOCUMENTED = dict(samples=1, eta=1.0, temperature=0.5, **FIXED), 3, 3
