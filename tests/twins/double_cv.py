"""Titsias & Shi 2022: leave-one-out REINFORCE on f + b, and the closed form of what b adds in the mean."""
import numpy as np

from tests.twins.loops import code, jacobian_times, softmax


def backward(estimator, draw, cost, dcodes=None, state=None):
    """Mean over m of (f_m + b_m - mean of the others) (z_m - p), less a J(p) mean g."""
    a = estimator.alpha if state is None else float(state["alpha"][0])
    M, B = cost.shape
    D, K = draw.logits.shape[1:]
    out = np.zeros((B, D, K))
    for b in range(B):
        p = [softmax([float(v) for v in row]) for row in draw.logits[b]]
        score = [[[(k == code(draw, m, b, d)) - p[d][k] for k in range(K)] for d in range(D)] for m in range(M)]
        value = []
        for m in range(M):
            control = 0
            for d in range(D):
                for k in range(K):
                    g = sum(float(dcodes[n, b, d, k]) for n in range(M) if n != m) / (M - 1)
                    control += a * g * score[m][d][k]
            value.append(float(cost[m, b]) + control)
        for d in range(D):
            mean_g = [sum(float(dcodes[m, b, d, k]) for m in range(M)) / M for k in range(K)]
            through = jacobian_times(p[d], mean_g)
            for k in range(K):
                for m in range(M):
                    others = sum(value[n] for n in range(M) if n != m) / (M - 1)
                    out[b, d, k] += (value[m] - others) * score[m][d][k] / M
                out[b, d, k] -= a * through[k]
    return out


# options and their defaults; evaluations of the decoder at D = 3 for K = 2 and K = 4 (None: not served)
DOCUMENTED = dict(samples=2, alpha=-0.75), 2, 2
