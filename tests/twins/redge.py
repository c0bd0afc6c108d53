"""Gourevitch et al. 2026: the denoising steps in scalars, as published, and their derivative by complex steps."""
import cmath

import numpy as np

from tests.twins.loops import code

H = 1e-25


def softmax(row):
    e = [cmath.exp(v - max(w.real for w in row)) for v in row]
    return [v / sum(e) for v in e]


def end(early, last, noise, steps, first, cov):
    """x0 of the last step, whose logits are `last`, after steps at the logits `early`; all lists of K numbers."""
    alphas = [1.0, *np.linspace(1 - first, 1e-4, steps - 1)]
    sigmas, K = [1 - a for a in alphas], range(len(noise))
    p = softmax(early)
    v = [q * (1 - q) if (q * (1 - q)).real > 0.1 else 0.1 for q in p]
    x = [p[k] + v[k] ** 0.5 * noise[k] for k in K] if cov else list(noise)
    for t in range(steps - 1, 0, -1):
        a, s, logits = alphas[t], sigmas[t], last if t == 1 else early
        seen = [(a * x[k] - a * s * p[k] - a * a / 2) / (v[k] * s * s) if cov else a * x[k] / s ** 2 for k in K]
        x0 = softmax([logits[k] + seen[k] for k in K])
        x = [alphas[t - 1] * x0[k] + sigmas[t - 1] * (x[k] - a * x0[k]) / s for k in K]
    return x0


def derivative(f, phi, g):
    """sum_j g_j df_j / dphi_k for every k."""
    return [sum(gj * v.imag for gj, v in zip(g, f([complex(phi[i], H * (i == k)) for i in range(len(phi))]))) / H
            for k in range(len(phi))]


def row(estimator, phi, noise, g, z):
    """One latent of one sample; with ReinMax what the last logits move is (J g + <g, z - x0> (z - x0)) / 2."""
    setting = noise, estimator.steps, estimator.first, estimator.cov
    if not estimator.reinmax:
        return derivative(lambda both: end(both, both, *setting), phi, g)
    x0 = [v.real for v in end(phi, phi, *setting)]
    score = [(k == z) - x0[k] for k in range(len(phi))]
    along = sum(gk * sk for gk, sk in zip(g, score))
    path = derivative(lambda early: end(early, phi, *setting), phi, g)
    straight = derivative(lambda last: end(phi, last, *setting), phi, g)
    return [path[k] + (straight[k] + along * score[k]) / 2 for k in range(len(phi))]


def backward(estimator, draw, cost, dcodes=None, state=None):
    """Mean over s."""
    S, B, D, K = dcodes.shape
    out = np.zeros((B, D, K))
    for s, b, d in np.ndindex(S, B, D):
        phi, noise, g = ([float(v) for v in x] for x in (draw.logits[b, d], draw.kept["normals"][s, b, d],
                                                         dcodes[s, b, d]))
        out[b, d] += np.array(row(estimator, phi, noise, g, code(draw, s, b, d))) / S
    return out


# options and their defaults; evaluations of the decoder at D = 3 for K = 2 and K = 4 (None: not served)
DOCUMENTED = dict(samples=1, steps=3, first=0.5, cov=False, reinmax=False), 1, 1
