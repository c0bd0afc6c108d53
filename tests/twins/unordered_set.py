"""Kool et al. 2020, built-in baseline, with the probabilities of unordered sets as sums over all their orders."""
import itertools
import math

import numpy as np

from tests.twins.loops import code, softmax


def set_probability(q, members, removed=()):
    """P(the first draws are these members, in any order) on the domain without the removed ones."""
    total = []
    for order in itertools.permutations(members):
        chance, left = 1.0, 1 - math.fsum(q[i] for i in removed)
        for i in order:
            chance, left = chance * q[i] / left, left - q[i]
        total.append(chance)
    return math.fsum(total)


def backward(estimator, draw, cost, dcodes=None, state=None):
    """sum_i q_i R_i (f_i - sum_j q_j R_ij f_j) (z_i - p), R_ii = 1."""
    k, B = cost.shape
    D, K = draw.logits.shape[1:]
    out = np.zeros((B, D, K))
    for b in range(B):
        p = [softmax([float(v) for v in row]) for row in draw.logits[b]]
        q = [math.prod(p[d][code(draw, s, b, d)] for d in range(D)) for s in range(k)]
        everyone = list(range(k))
        for i in everyone:
            without_i = [s for s in everyone if s != i]
            second = set_probability(q, without_i, (i,))
            ratio = second / set_probability(q, everyone)
            baseline = q[i] * float(cost[i, b])
            for j in without_i:
                rest = [s for s in without_i if s != j]
                baseline += q[j] * set_probability(q, rest, (i, j)) / second * float(cost[j, b])
            for d in range(D):
                for c in range(K):
                    score = (c == code(draw, i, b, d)) - p[d][c]
                    out[b, d, c] += q[i] * ratio * (float(cost[i, b]) - baseline) * score
    return out


# options and their defaults; evaluations of the decoder at D = 3 for K = 2 and K = 4 (None: not served)
DOCUMENTED = dict(k=4), 4, 4
