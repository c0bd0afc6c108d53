"""Shi et al. 2022 with the Gibbs Stein operator written as it is defined, a code at a time."""
import numpy as np

from tests.twins.loops import code, softmax


def backward(estimator, draw, cost, dcodes=None, state=None):
    """Mean over m of (f_m - mean_{n != m} (f_n + a A h_n)) s_m + b A(h'_m s)."""
    M, B = cost.shape
    D, K = draw.logits.shape[1:]
    a = estimator.alpha * D if state is None else float(state["alpha"][0])
    b_ = estimator.beta * D if state is None else float(state["beta"][0])
    out = np.zeros((B, D, K))
    for b in range(B):
        p = [softmax([float(v) for v in row]) for row in draw.logits[b]]
        z = [[code(draw, m, b, d) for d in range(D)] for m in range(M)]

        def score(y, p=p):
            return np.array([[(k == y[d]) - p[d][k] for k in range(K)] for d in range(D)])

        def h(m, y, which, z=z, b=b):
            values = []
            for n in range(M):
                if n != m:
                    along = sum(float(dcodes[n, b, d, y[d]]) - float(dcodes[n, b, d, z[n][d]]) for d in range(D))
                    values.append(network(float(cost[n, b]), along, which, state))
            return sum(values) / len(values)

        def stein(function, y, p=p):
            total = 0
            for d in range(D):
                for k in range(K):
                    total = total + p[d][k] * function(y[:d] + [k] + y[d + 1:]) / D
            return total - function(y)

        for m in range(M):
            others = [float(cost[n, b]) + a * stein(lambda y, n=n: h(n, y, 0), z[n]) for n in range(M) if n != m]
            out[b] += (float(cost[m, b]) - sum(others) / len(others)) * score(z[m]) / M
            out[b] += b_ * stein(lambda y, m=m: h(m, y, 1) * score(y), z[m]) / M
    return out


def network(f, along, which, state):
    """H(f, l) = l + one hidden layer of leaky rectifiers (slope 0.3), unit by unit."""
    total = along
    if state is not None:
        total += float(state["output_bias"][which])
        for i in range(len(state["hidden_bias"])):
            w, v = state["hidden_weight"][:, i]
            unit = float(w) * f + float(v) * along + float(state["hidden_bias"][i])
            total += (unit if unit > 0 else 0.3 * unit) * float(state["output_weight"][i, which])
    return total


# options and their defaults; evaluations of the decoder at D = 3 for K = 2 and K = 4 (None: not served)
DOCUMENTED = dict(samples=2, hidden=32, alpha=0.5, beta=0.5), 2, 2
