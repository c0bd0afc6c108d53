"""Exact mean and covariance of an estimator over its own finite noise."""
from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from npdvae.estimators.base import Estimator
from npdvae.rng import Generator
from npdvae.types import Array, Cost, State
from npdvae.verify import arguments
from npdvae.verify.enumeration import check_logits

CHUNK = 1024
CONTEXT = 3                                                         # size of the context that learned baselines read


class Moments(NamedTuple):
    """What `outcomes()` says of an estimator, float64: sums over all outcomes of probability times value."""

    mean: np.ndarray                                                # [B, D, K]
    covariance: np.ndarray                                          # [B, D K, D K]
    scale: np.ndarray                                               # [B, D, K], E |dlogits|: the scale of rounding
    low: np.ndarray                                                 # [B, D, K], smallest value over the outcomes
    high: np.ndarray                                                # [B, D, K]
    outcomes: int
    total: np.ndarray                                               # [B], sum of the probabilities

    def variance(self) -> Array:
        """Variance of each coordinate: [B, D, K]."""
        return np.diagonal(self.covariance, axis1=1, axis2=2).reshape(self.mean.shape)


def moments(estimator: Estimator | str, logits: Array, cost_fn: Cost, dcost_fn: Cost | None = None, *,
            state: State | None = None, context: Array | None = None) -> tuple[Array, Array]:
    """Exact mean [B, D, K] and covariance [B, D K, D K] of an estimator, float64, by its `outcomes()`.

    estimator: an object or a registered name. cost_fn(codes) -> [S, B], dcost_fn(codes) -> [S, B, D, K] (needed where
    the estimator reads it). The covariance is that of each example by itself, rows and columns in the order of
    dlogits.reshape(B, D K). Without a state the estimator's own initial one serves. Raises ValueError where the noise
    is not finite.
    """
    made = arguments.estimator_of(estimator)
    if not hasattr(made, "outcomes"):
        raise ValueError(f"estimator must be registered or of a class that has outcomes, got {made!r}")
    found = enumerate_moments(made, logits, cost_fn, dcost_fn, state=state, context=context)
    return found.mean, found.covariance


def enumerate_moments(estimator: Estimator, logits: Array, cost_fn: Cost, dcost_fn: Cost | None = None, *,
                      state: State | None = None, context: Array | None = None) -> Moments:
    """`moments` and what comes with them, a `Moments`; raises ValueError where the noise is not finite."""
    logits = check_logits(logits)
    B, D, K = logits.shape
    gradient_fn = wanted_gradient(estimator, dcost_fn)
    estimator.check(D, K)
    state, context = prepared(estimator, logits, state, context)
    outcomes = estimator.outcomes(logits, state, context)
    if outcomes is None:
        raise ValueError(f"estimator {estimator.name} has no finite noise to enumerate: use check_unbiased")
    sums = Sums(B, D * K)
    for probability, draw in outcomes:
        probability = np.asarray(probability, np.float64)           # [B]
        if not (probability > 0).any():
            continue
        dlogits = estimator.backward(draw, cost_fn(draw.codes), gradient_fn and gradient_fn(draw.codes), state)
        sums.add(probability, np.asarray(dlogits, np.float64).reshape(B, D * K))
    return sums.finish((B, D, K), estimator.name)


class Sums:
    """Sums over outcomes, gathered in chunks: numpy's pairwise sum within a chunk, math.fsum over the chunks."""

    def __init__(self, batch: int, size: int):
        self.waiting: list[tuple[Array, Array]] = []
        self.parts: list[tuple[Array, ...]] = []
        self.outcomes = 0
        self.centre = np.zeros((batch, size))                       # near the mean, so that squares lose no digits
        self.low = np.full((batch, size), np.inf)
        self.high = -self.low

    def add(self, probability: Array, g: Array) -> None:
        """One outcome: probability [B], g [B, D K]."""
        if not (self.waiting or self.parts):
            self.centre = np.where(probability[:, None] > 0, g, 0)
        self.waiting.append((probability, g))
        if len(self.waiting) == CHUNK:
            self.flush()

    def flush(self) -> None:
        p = np.stack([p for p, _ in self.waiting], -1)              # [B, N]
        g = np.stack([g for _, g in self.waiting], -1)              # [B, D K, N]
        self.waiting, self.outcomes = [], self.outcomes + p.shape[1]
        possible = p[:, None] > 0
        g = np.where(possible, g, 0)                                # 0 * inf would be NaN where p underflows
        self.low = np.minimum(self.low, np.where(possible, g, np.inf).min(-1))
        self.high = np.maximum(self.high, np.where(possible, g, -np.inf).max(-1))
        weighted = p[:, None] * g                                   # [B, D K, N]
        error = g - self.centre[:, :, None]
        second = (p[:, None] * error) @ error.swapaxes(1, 2)        # [B, D K, D K]
        self.parts.append((p.sum(-1), weighted.sum(-1), np.abs(weighted).sum(-1), second))

    def finish(self, shape: tuple[int, ...], name: str) -> Moments:
        if self.waiting:
            self.flush()
        if not self.parts:
            raise ValueError(f"estimator {name}: outcomes() yielded nothing of positive probability")
        total, mean, scale, second = (exact_sum(part) for part in zip(*self.parts))
        away = mean - total[:, None] * self.centre                  # [B, D K]
        covariance = second - away[:, :, None] * away[:, None, :]
        return Moments(mean.reshape(shape), covariance, scale.reshape(shape), self.low.reshape(shape),
                       self.high.reshape(shape), self.outcomes, total)


def exact_sum(arrays: Sequence[Array]) -> Array:
    """Correctly rounded sum of equally shaped arrays."""
    columns = np.stack(arrays, -1)
    return np.array([math.fsum(c) for c in columns.reshape(-1, len(arrays))]).reshape(columns.shape[:-1])


def wanted_gradient(estimator: Estimator, dcost_fn: Cost | None) -> Cost | None:
    """dcost_fn where the estimator reads it, None where not; ValueError where it is missing."""
    if not estimator.needs_dcodes:
        return None
    if dcost_fn is None:
        raise ValueError(f"estimator {estimator.name} reads the gradient of the cost: give dcost_fn")
    return dcost_fn


def prepared(estimator: Estimator, logits: Array, state: State | None = None,
             context: Array | None = None) -> tuple[Any, Array]:
    """State and context to judge an estimator in: those given, or its initial state and a fixed random context."""
    B, D, K = logits.shape
    if context is None:
        context = Generator(0).uniform((1, B, CONTEXT), logits.dtype)[0]        # [B, CONTEXT]
    if state is None:
        state = estimator.init(Generator(1), D, K, context.shape[1])
    return state, context
