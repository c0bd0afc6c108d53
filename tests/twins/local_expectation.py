"""Titsias & Lazaro-Gredilla 2015: the cost of every category of one latent, the other latents as drawn."""
import numpy as np

from tests.twins.loops import code, softmax


def backward(estimator, draw, cost, dcodes=None, state=None):
    """p_dk (f(z_d := k) - sum_j p_dj f(z_d := j)), the row of each changed code found by search."""
    B, D, K = draw.logits.shape
    out = np.zeros((B, D, K))
    for b in range(B):
        for d in range(D):
            p = softmax([float(v) for v in draw.logits[b, d]])
            f = [changed_cost(draw, cost, b, d, k, estimator.fresh) for k in range(K)]
            for k in range(K):
                out[b, d, k] = p[k] * (f[k] - sum(p[j] * f[j] for j in range(K)))
    return out


def changed_cost(draw, cost, b, d, k, fresh=False):
    """Cost of the drawn code (row 0) with latent d set to k."""
    D = draw.logits.shape[1]
    if fresh:
        shift = (k - code(draw, 0, b, d)) % draw.logits.shape[-1]   # row 0 is the code itself
        s = d * (draw.logits.shape[-1] - 1) + shift if shift else 0
        assert code(draw, s, b, d) == k
        return float(cost[s, b])
    wanted = [k if i == d else code(draw, 0, b, i) for i in range(D)]
    for s in range(len(cost)):
        if [code(draw, s, b, i) for i in range(D)] == wanted:
            return float(cost[s, b])
    raise AssertionError(f"no row for latent {d} set to {k}")


# options and their defaults; evaluations of the decoder at D = 3 for K = 2 and K = 4 (None: not served)
DOCUMENTED = dict(fresh=False), 4, 10
