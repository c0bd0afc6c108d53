"""Dong et al. 2021: bits that break a stick category after category, smallest logit first."""
import math

import numpy as np

from tests.twins.loops import code


def backward(estimator, draw, cost, dcodes=None, state=None):
    """Per stick: DisARM if both codes reach it, +score if only z does, -score' if only z' does; times (f - f')/2."""
    B, D, K = draw.logits.shape
    out = np.zeros((B, D, K))
    for b in range(B):
        half = (float(cost[0, b]) - float(cost[1, b])) / 2
        for d in range(D):
            phi = [float(v) for v in draw.logits[b, d]]
            order = sorted(range(K), key=lambda k: phi[k])
            z, other = order.index(code(draw, 0, b, d)), order.index(code(draw, 1, b, d))
            for i in range(K - 1):
                rest = [math.exp(phi[k] - phi[order[K - 1]]) for k in order[i + 1:]]
                tail = phi[order[K - 1]] + math.log(math.fsum(rest))
                a = phi[order[i]] - tail
                theta = 1 / (1 + math.exp(-a)) if a > -700 else math.exp(a)
                bit, bit_other = int(z == i), int(other == i)
                if i <= z and i <= other:
                    da = (-1) ** bit_other / (1 + math.exp(-abs(a))) if bit != bit_other else 0.0
                elif i <= z:
                    da = bit - theta
                elif i <= other:
                    da = -(bit_other - theta)
                else:
                    da = 0.0
                out[b, d, order[i]] += half * da                    # da_i / dphi of the stick itself
                for k in order[i + 1:]:                             # and of the rest: minus its share
                    out[b, d, k] -= half * da * math.exp(phi[k] - tail)
    return out


# options and their defaults; evaluations of the decoder at D = 3 for K = 2 and K = 4 (None: not served)
DOCUMENTED = dict(), 2, 2
