"""Dong et al. 2021: bits on the nodes of a balanced tree, walked from the root by recursion."""
import math

import numpy as np

from tests.twins.loops import code, softmax


def log_sum(values):
    """log sum exp of a list."""
    top = max(values)
    return top + math.log(math.fsum(math.exp(v - top) for v in values))


def walk(phi, categories, z, other, half, out):
    """Add this node's part and its subtrees': DisARM where both codes are below it, a score where one is."""
    if len(categories) < 2:
        return
    left, right = categories[:len(categories) // 2], categories[len(categories) // 2:]
    a = log_sum([phi[k] for k in left]) - log_sum([phi[k] for k in right])
    theta = 0.5 * (1 + math.tanh(a / 2))
    bit, bit_other = int(z in left), int(other in left)
    if z in categories and other in categories:
        da = (bit - bit_other) / (1 + math.exp(-abs(a)))
    elif z in categories:
        da = bit - theta
    elif other in categories:
        da = theta - bit_other
    else:
        return
    for k, share in zip(left, softmax([phi[k] for k in left])):
        out[k] += half * da * share
    for k, share in zip(right, softmax([phi[k] for k in right])):
        out[k] -= half * da * share
    walk(phi, left, z, other, half, out)
    walk(phi, right, z, other, half, out)


def backward(estimator, draw, cost, dcodes=None, state=None):
    """The sum over the nodes, times (f - f') / 2."""
    B, D, K = draw.logits.shape
    out = np.zeros((B, D, K))
    for b in range(B):
        half = (float(cost[0, b]) - float(cost[1, b])) / 2
        for d in range(D):
            walk([float(v) for v in draw.logits[b, d]], list(range(K)), code(draw, 0, b, d), code(draw, 1, b, d),
                 half, out[b, d])
    return out


# options and their defaults; evaluations of the decoder at D = 3 for K = 2 and K = 4 (None: not served)
DOCUMENTED = dict(), 2, 2
