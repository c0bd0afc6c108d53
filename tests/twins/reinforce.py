"""Williams 1992 with the baselines of the literature; NVIL's network written out unit by unit."""
import math

import numpy as np

from tests.twins.loops import code, softmax


def backward(estimator, draw, cost, dcodes=None, state=None):
    """Mean over s of (f - baseline) (z - p), divided by NVIL's scale where it normalises."""
    return score_mean(draw, coefficients(estimator.baseline, cost, draw.kept["context"], state))


def score_mean(draw, coefficient):
    """Mean over s of coefficient [S, B] times the score z - p."""
    S, B = coefficient.shape
    out = np.zeros(draw.logits.shape)
    for b in range(B):
        for d in range(out.shape[1]):
            p = softmax([float(v) for v in draw.logits[b, d]])
            for k in range(len(p)):
                out[b, d, k] = math.fsum(
                    coefficient[s, b] * ((k == code(draw, s, b, d)) - p[k]) for s in range(S)) / S
    return out


def coefficients(baseline, cost, context, state):
    """(f - baseline) / scale for every evaluation: [S, B]."""
    S, B = cost.shape
    out = np.zeros((S, B))
    for s in range(S):
        for b in range(B):
            b_value, scale = baseline_and_scale(type(baseline).__name__, baseline, cost, s, b, context, state)
            out[s, b] = (float(cost[s, b]) - b_value) / scale
    return out


def baseline_and_scale(kind, baseline, cost, s, b, context, state):
    if kind == "Constant":
        return baseline.baseline_value, 1
    if kind == "BatchLeaveOneOut":
        others = [float(v) for (t, c), v in np.ndenumerate(cost) if (t, c) != (s, b)]
        return math.fsum(others) / len(others) if others else 0, 1
    if kind in ("RunningMean", "NVIL") and state is not None:
        weight = float(state["weight_sum"][0])
        c = float(state["cost_sum"][0]) / weight if weight else 0
        if kind == "RunningMean":
            return c, 1
        variance = float(state["square_sum"][0]) / weight if weight else 0
        return c + network(context, b, state), max(1, math.sqrt(variance)) if baseline.normalise else 1
    return 0, 1


def network(context, b, state):
    """b(x) of example b: one hidden layer of tanh units, a linear output."""
    total = float(state["output_bias"][0])
    for h in range(len(state["hidden_bias"])):
        unit = float(state["hidden_bias"][h])
        for i in range(len(state["hidden_weight"])):
            unit += float(context[b, i]) * float(state["hidden_weight"][i, h])
        total += math.tanh(unit) * float(state["output_weight"][h, 0])
    return total


# options and their defaults; evaluations of the decoder at D = 3 for K = 2 and K = 4 (None: not served)
DOCUMENTED = dict(baseline="running_mean", samples=1, baseline_value=None, decay=None, hidden=None, normalise=None), \
    1, 1
