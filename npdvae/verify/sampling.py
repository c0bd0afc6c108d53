"""Endless blocks of independent estimates [n, B D K], from a registered estimator or from any callable."""
from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from npdvae.estimators.base import Draw, Estimator
from npdvae.rng import Generator
from npdvae.types import Array, Cost, Estimate, State
from npdvae.verify.moments import prepared, wanted_gradient

BLOCK = 512                                                         # estimates between two looks


def blocks_of(estimator: Any, logits: Array, rng: Generator, cost_fn: Any = None,
              dcost_fn: Cost | None = None, *, tile: int | None = None, block: int = BLOCK, state: State | None = None,
              context: Array | None = None) -> Iterator[Array]:
    """Generator of blocks; independent examples are drawn `tile` copies at a time, as one larger batch."""
    if hasattr(estimator, "sample"):
        coupled = estimator.couples_batch or leaks(estimator, logits, cost_fn, dcost_fn, state, context)
        tile = 1 if coupled else tile or block
        once = registered(estimator, logits, rng, cost_fn, dcost_fn, tile, state, context)
    else:
        tile = tile or 1
        once = called(estimator, logits, rng, tile)
    while True:
        rows = [once() for _ in range(-(-block // tile))]           # each [tile, B D K]
        yield np.concatenate(rows)


def registered(estimator: Estimator, logits: Array, rng: Generator, cost_fn: Cost, dcost_fn: Cost | None, tile: int,
               state: State | None, context: Array | None) -> Callable[[], Array]:
    """A function that draws `tile` estimates from sampler, cost and backward: () -> [tile, B D K]."""
    B, D, K = logits.shape
    gradient_fn = wanted_gradient(estimator, dcost_fn)
    estimator.check(D, K)
    state, context = prepared(estimator, logits, state, context)
    many, context = repeat(logits, tile), repeat(context, tile)     # [tile B, D, K], [tile B, *]

    def once():
        draw = estimator.sample(many, rng, state, context)
        return estimate(estimator, draw, cost_fn, gradient_fn, B, tile, state).reshape(tile, -1)
    return once


def leaks(estimator: Estimator, logits: Array, cost_fn: Cost, dcost_fn: Cost | None = None, state: State | None = None,
          context: Array | None = None) -> bool:
    """Whether an example's estimate changes with the costs of another: told by `backward` alone, no statistics."""
    B, D, K = logits.shape
    gradient_fn = wanted_gradient(estimator, dcost_fn)
    state, context = prepared(estimator, logits, state, context)
    draw = estimator.sample(repeat(logits, 2), Generator(0), state, repeat(context, 2))
    cost = tiled(cost_fn, draw.codes, B, 2)                         # [S, 2 B]
    dcodes = gradient_fn and tiled(gradient_fn, draw.codes, B, 2)   # [S, 2 B, D, K]
    other = np.arange(2 * B) >= 1                                   # all but the first example
    changed = cost + other
    dchanged = dcodes if dcodes is None else dcodes * (1 + other)[:, None, None]
    first, second = (estimator.backward(draw, f, df, state)[0] for f, df in ((cost, dcodes), (changed, dchanged)))
    return not np.abs(first - second).max() <= 1e-14 * np.abs(first).max()      # sums may be ordered by the batch


def estimate(estimator: Estimator, draw: Draw, cost_fn: Cost, gradient_fn: Cost | None, batch: int, tile: int,
             state: State | None) -> Array:
    """What follows a draw of `tile` copies of a batch: cost, its gradient, backward: -> [tile B, D, K]."""
    cost = tiled(cost_fn, draw.codes, batch, tile)                  # [S, tile B]
    dcodes = gradient_fn and tiled(gradient_fn, draw.codes, batch, tile)    # [S, tile B, D, K]
    return estimator.backward(draw, cost, dcodes, state)


def repeat(x: Array, tile: int) -> Array:
    """[B, ...] -> [tile B, ...]."""
    return np.concatenate([x] * tile)


def tiled(function: Cost, codes: Array, batch: int, tile: int) -> Array:
    """A function of codes of `batch` examples, applied to `tile` copies of them: -> [S, tile B, ...]."""
    S, many = codes.shape[:2]
    if many == 1:                                                   # shared by the whole batch
        value = function(codes)                                     # [S, B, ...]
        return np.concatenate([value] * tile, 1)
    folded = function(codes.reshape(S * tile, batch, *codes.shape[2:]))
    return folded.reshape(S, many, *folded.shape[2:])


def called(estimate: Estimate, logits: Array, rng: Generator, tile: int) -> Callable[[], Array]:
    """The same for a callable (logits, rng) -> dlogits."""
    many = repeat(logits, tile)

    def once():
        dlogits = np.asarray(estimate(many, rng))
        if dlogits.shape != many.shape:
            raise ValueError(f"the estimator returned shape {dlogits.shape} for logits of shape {many.shape}, "
                             "expected the same shape")
        return dlogits.reshape(tile, -1)
    return once
