"""What is known of an estimate before any sample: bounds or variances, declared or enumerated."""
from __future__ import annotations

import itertools
from typing import Any, NamedTuple

import numpy as np

from npdvae.estimators.base import Estimator
from npdvae.estimators.parts.outcomes import all_codes
from npdvae.types import Array, Cost, State
from npdvae.verify.continuous import noise_moments
from npdvae.verify.enumeration import evaluate
from npdvae.verify.moments import enumerate_moments, prepared

MOST_OUTCOMES = 2 ** 15


class Known(NamedTuple):
    """Bounds [low, high] of x = estimate - true, or its standard deviation; arrays [N], N = B D K."""

    method: str
    low: np.ndarray | None = None
    high: Any = None                            # as low
    sigma: np.ndarray | None = None             # None: a pilot block sets the scale of the bets
    sigma_shrink: float | None = None           # of <x, true> / <true, true>


def declared(bounds: Any, variance: Any, true: Array) -> Known | None:
    """What the caller vouches for, or None; bounds and variance are of the estimate itself."""
    if bounds is None and variance is None:
        return None
    sigma = None if variance is None else np.sqrt(flat(variance, true, "variance"))
    if bounds is None:
        return Known("variance declared", sigma=sigma)
    pair = hasattr(bounds, "__len__")
    if not pair or len(bounds) != 2:
        raise ValueError(f"bounds must be a pair (low, high), got {f'{len(bounds)} entries' if pair else bounds!r}")
    low, high = (flat(bound, true, "bounds") - true.ravel() for bound in bounds)
    if not (low <= high).all():
        raise ValueError("bounds must be (low, high) with low <= high everywhere")
    return Known("bounds declared", low, high, sigma)


def flat(value: Any, true: Array, name: str) -> Array:
    """A number or an array of the gradient's shape, as float64 [N]; ValueError where it is neither."""
    value = np.asarray(value, np.float64)
    if value.ndim and value.shape != true.shape:
        raise ValueError(f"{name} must be numbers or arrays of shape {true.shape}, got shape {value.shape}")
    if not np.isfinite(value).all() or (name == "variance" and not (value >= 0).all()):
        raise ValueError(f"{name} must be finite" + (" and not negative" if name == "variance" else ""))
    return np.broadcast_to(value, true.shape).ravel()


def enumerated(estimator: Estimator, logits: Array, cost_fn: Cost, dcost_fn: Cost | None, true: Array,
               state: State | None = None, context: Array | None = None) -> Known | None:
    """What `outcomes()` says, or the estimator's own `bounds`, or quadrature; None where none of these can be had."""
    state, context = prepared(estimator, logits, state, context)
    if not countable(estimator, logits, state, context):
        if estimator.bounds is not None:
            return analytic(estimator, logits, cost_fn, true)
        return by_quadrature(estimator, logits, cost_fn, dcost_fn, true, state, context)
    found = enumerate_moments(estimator, logits, cost_fn, dcost_fn, state=state, context=context)
    sigma, sigma_shrink = spreads(found.covariance, true)
    return Known("bounds enumerated", (found.low - true).ravel(), (found.high - true).ravel(), sigma, sigma_shrink)


def countable(estimator: Estimator, logits: Array, state: State | None, context: Array | None,
              most: int = MOST_OUTCOMES) -> bool:
    """Whether `outcomes()` is there and yields at most so many."""
    outcomes = estimator.outcomes(logits, state, context)
    return outcomes is not None and sum(1 for _ in itertools.islice(outcomes, most + 1)) <= most


def analytic(estimator: Any, logits: Array, cost_fn: Cost, true: Array) -> Known:
    """Bounds that an estimator derives from the range of the costs: `bounds(logits, cost_range)` -> low, high."""
    cost = evaluate(cost_fn, all_codes(np, *logits.shape[1:]), len(logits))     # [C, B]
    low, high = estimator.bounds(logits, np.ptp(cost, axis=0).max())            # 2 x [B, D, K]
    return Known("bounds analytic", (low - true).ravel(), (high - true).ravel())


def by_quadrature(estimator: Estimator, logits: Array, cost_fn: Cost, dcost_fn: Cost | None, true: Array,
                  state: State | None, context: Array | None) -> Known | None:
    """Variances under noise that is not finite, or None where no rule applies."""
    try:
        found = noise_moments(estimator, logits, cost_fn, dcost_fn, state=state, context=context)
    except ValueError:
        return None
    sigma, sigma_shrink = spreads(found.covariance, true)
    return Known("variance by quadrature", sigma=sigma, sigma_shrink=sigma_shrink)


def spreads(covariance: Array, true: Array) -> tuple[Array, float]:
    """Standard deviations of the entries [N] and of <x, true> / <true, true>, from covariances [B, D K, D K]."""
    t = true.reshape(len(true), -1)                                 # [B, D K]
    each = np.sqrt(np.maximum(np.einsum("bi,bij,bj->b", t, covariance, t), 0))    # [B]
    sigma_shrink = each.sum() / max((t ** 2).sum(), 1e-300)         # or less, however the examples are coupled
    sigma = np.sqrt(np.maximum(np.diagonal(covariance, axis1=1, axis2=2), 0)).ravel()
    return sigma, sigma_shrink
