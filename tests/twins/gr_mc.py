"""Paulus et al. 2021: straight-through Gumbel, averaged over k draws of the noise given the category drawn."""
import math

import numpy as np

from tests.twins import FIXED
from tests.twins.loops import code, jacobian_times, softmax


def conditional(weights, winner, exponentials):
    """Perturbed logits given the winner: -log(E_i / Z), -log(E_j / w_j + E_i / Z); w = exp(phi), Z = sum w."""
    total = sum(weights)
    first = exponentials[winner] / total
    return [-math.log(first if k == winner else exponentials[k] / w + first) for k, w in enumerate(weights)]


def gumbel_rao(weights, winner, v, g, tau):
    """Mean over the k rows of K uniforms in v of J(softmax(G~ / tau)) g / tau."""
    K = len(weights)
    rows = [v[i:i + K] for i in range(0, len(v), K)]
    out = [0.0] * K
    for row in rows:
        noisy = conditional(weights, winner, [-math.log(float(u)) for u in row])
        y = softmax([x / tau for x in noisy])
        for k, value in enumerate(jacobian_times(y, g)):
            out[k] += value / tau / len(rows)
    return out


def backward(estimator, draw, cost, dcodes=None, state=None):
    """Mean over s of the Gumbel-Rao estimate at the sampled codes."""
    tau = float(draw.kept["tau"])
    S, B, D, K = dcodes.shape
    out = np.zeros((B, D, K))
    for s in range(S):
        for b in range(B):
            for d in range(D):
                weights = [math.exp(float(v)) for v in draw.logits[b, d]]
                g = [float(v) for v in dcodes[s, b, d]]
                rao = gumbel_rao(weights, code(draw, s, b, d), list(draw.kept["v"][s, b, d]), g, tau)
                for k in range(K):
                    out[b, d, k] += rao[k] / S
    return out


# options and their defaults; evaluations of the decoder at D = 3 for K = 2 and K = 4 (None: not served)
DOCUMENTED = dict(samples=1, conditional_draws=10, temperature=0.5, **FIXED), 1, 1
