"""Exact moments under noise that is not finite: the rule that an estimator names in `noise`."""
from __future__ import annotations

from typing import Any

from npdvae.types import Array, Cost, State
from npdvae.verify.normal_noise import normal_moments
from npdvae.verify.quadrature import Quadrature, gumbel_moments
from npdvae.verify.second_argmax import argmax_moments
from npdvae.verify.two_pieces import piece_moments

RULES = {"gumbel": gumbel_moments, "two_pieces": piece_moments, "normal": normal_moments,
         "second_argmax": argmax_moments}
METHODS = {"second_argmax": "enumeration"}                          # of pairs of codes; the others are quadrature


def rule_of(estimator: Any) -> str | None:
    """Name of the rule for an estimator, or its class: `noise`, else Gumbel's where it has a `from_noise`."""
    named = getattr(estimator, "noise", None)
    return "gumbel" if named is None and getattr(estimator, "from_noise", None) is not None else named


def noise_moments(estimator: Any, logits: Array, cost_fn: Cost, dcost_fn: Cost | None = None, *,
                  state: State | None = None, context: Array | None = None) -> Quadrature:
    """Mean and covariance of an estimator of one sample: a `Quadrature`; ValueError where its rule does not apply."""
    noise = rule_of(estimator)
    if noise not in RULES:
        raise ValueError(f"estimator {estimator.name} names no rule for its noise: {noise!r} is not one of "
                         f"{', '.join(RULES)}")
    return RULES[noise](estimator, logits, cost_fn, dcost_fn, state=state, context=context)
