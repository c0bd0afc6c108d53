"""Grathwohl et al. 2018, eq. 7: surrogate, its slope and both reparameterised paths in scalars."""
import math

import numpy as np

from tests.twins import FIXED
from tests.twins.loops import code, softmax
from tests.twins.rebar import conditional, path


def surrogate(y, context, state):
    """Value and slopes [D][K] of m + sd (sum_h w_h tanh(...) + a)."""
    D, K = len(y), len(y[0])
    weight = max(float(state["weight_sum"][0]), 1 - 0.95)
    sd = max(math.sqrt(float(state["square_sum"][0]) / weight), 1.0)
    value, slope = float(state["output_bias"][0]), [[0.0] * K for _ in range(D)]
    for j in range(len(state["hidden_bias"])):
        pre = float(state["hidden_bias"][j])
        for d in range(D):
            for k in range(K):
                pre += y[d][k] * float(state["code_weight"][d * K + k, j])
        if "context_weight" in state:
            for i in range(len(context)):
                pre += float(context[i]) * float(state["context_weight"][i, j])
        h = math.tanh(pre)
        value += float(state["output_weight"][j]) * h
        for d in range(D):
            for k in range(K):
                slope[d][k] += sd * float(state["output_weight"][j]) * (1 - h * h) * state["code_weight"][d * K + k, j]
    return float(state["cost_sum"][0]) / weight + sd * value, slope


def backward(estimator, draw, cost, dcodes=None, state=None):
    """Mean over s of (f(z) - c(y~)) (z - p) + path at y - path at y~; c = 0 without a state."""
    tau = float(draw.kept["tau"])
    S, B = cost.shape
    D, K = draw.logits.shape[1:]
    out = np.zeros((B, D, K))
    for b in range(B):
        context = None if draw.kept["context"] is None else draw.kept["context"][b]
        p = [softmax([float(v) for v in draw.logits[b, d]]) for d in range(D)]
        for s in range(S):
            z = [code(draw, s, b, d) for d in range(D)]
            given = [conditional(p[d], z[d], [float(x) for x in draw.kept["v"][s, b, d]]) for d in range(D)]
            noisy = [[float(draw.logits[b, d, k] + draw.kept["gumbels"][s, b, d, k]) / tau for k in range(K)]
                     for d in range(D)]
            y = [softmax(row) for row in noisy]
            y_given = [softmax([x / tau for x in given[d][0]]) for d in range(D)]
            c, slope, slope_given = 0.0, [[0.0] * K] * D, [[0.0] * K] * D
            if state is not None:
                _, slope = surrogate(y, context, state)
                c, slope_given = surrogate(y_given, context, state)
            for d in range(D):
                free = path(p[d], y[d], slope[d], [1.0] * K, tau)
                other = path(p[d], y_given[d], slope_given[d], given[d][1], tau)
                for k in range(K):
                    out[b, d, k] += ((float(cost[s, b]) - c) * ((k == z[d]) - p[d][k]) + free[k] - other[k]) / S
    return out


# options and their defaults; evaluations of the decoder at D = 3 for K = 2 and K = 4 (None: not served)
DOCUMENTED = dict(samples=1, hidden=256, temperature=0.5, **FIXED), 1, 1
