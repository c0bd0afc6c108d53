"""Exact moments of two argmaxes over the same Gumbel noise: all pairs of codes, with their joint probabilities.

-log-noise makes phi + G a race: category k arrives at T_k ~ Exp(p_k), the shifted one at T_k exp(-c_k). Winners i and
then j need T_j / T_i = r in [1, exp(c_j - c_i)], and every other k to arrive after both.
"""
from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from npdvae.backends import load
from npdvae.estimators.parts.outcomes import all_codes, codes_log_prob
from npdvae.types import Array, Cost, State
from npdvae.verify.enumeration import check_logits
from npdvae.verify.moments import Sums, prepared, wanted_gradient
from npdvae.verify.quadrature import Quadrature, winning


def transitions(p: Array, shift: Array, i: int) -> Array:
    """P(argmax(log p + shift + G) = j given argmax(log p + G) = i): p [K], shift [K], int -> [K]."""
    found = np.array([0.0 if j == i else joint(p, shift, i, j) / p[i] for j in range(len(p))])
    found[i] = 1 - found.sum()
    return found


def joint(p: Array, shift: Array, i: int, j: int) -> float:
    """P(i, then j), i != j: p_i p_j int_1^R dr / (sum_k p_k max(1, r exp(c_k - c_j)))^2, R = exp(c_j - c_i).

    The denominator is a + b r between the values of r at which a category k enters, exp(c_j - c_k), 0 or inf where far.
    """
    with np.errstate(over="ignore", divide="ignore"):
        at = np.exp(shift[j] - shift)                               # [K]
        ends = sorted({1.0, *(r for r in at if 1 < r <= at[i])})
        total = 0.0
        for low, high in itertools.pairwise(ends):
            late = at >= high                                       # [K]
            a, b = p[late].sum(), (p[~late] / at[~late]).sum()
            total += (1 - low / high) / ((a + b * low) * (a / high + b))
    return p[i] * p[j] * total


def argmax_moments(estimator: Any, logits: Array, cost_fn: Cost, dcost_fn: Cost | None = None, *,
                   state: State | None = None, context: Array | None = None) -> Quadrature:
    """Mean and covariance of a `SecondArgmax` of one sample, a `Quadrature` without error."""
    logits = check_logits(logits)
    B, D, K = logits.shape
    gradient_fn = wanted_gradient(estimator, dcost_fn)
    state, context = prepared(estimator, logits, state, context)
    p = load("numpy").softmax(logits)                               # [B, D, K]
    codes, sums, hot = all_codes(np, D, K), Sums(B, D * K), np.eye(K)
    q = np.exp(codes_log_prob(load("numpy"), logits, codes))        # [C, B]
    for code, probability in zip(codes, q):
        draw = estimator.from_noise(logits, winning(p, code, np.ones((1, D, K))), None, state, context)
        shift, inverse = estimator.move(draw, cost_fn(draw.codes), gradient_fn and gradient_fn(draw.codes), state)
        shift = np.broadcast_to(shift, (1, B, D, K)).reshape(B, D, K)
        after = np.array([[transitions(p[b, d], shift[b, d], code[d]) for d in range(D)] for b in range(B)])
        inverse = np.broadcast_to(inverse, (1, B, 1, 1)).reshape(B, 1, 1)
        for second in codes:
            both = probability * after[:, np.arange(D), second].prod(-1)    # [B]
            sums.add(both, (inverse * (hot[second] - hot[code])).reshape(B, D * K))
    found = sums.finish((B, D, K), estimator.name)
    return Quadrature(found.mean, found.covariance, found.scale, 0.0, found.outcomes)
