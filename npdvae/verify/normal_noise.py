"""Exact moments of codes drawn at the end of a smooth path from normal noise: trapezoid rule, times all codes."""
from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np

from npdvae.estimators.parts.outcomes import all_codes
from npdvae.types import Array, Cost, State
from npdvae.verify.enumeration import check_logits
from npdvae.verify.moments import prepared, wanted_gradient
from npdvae.verify.quadrature import CHUNK, Quadrature
from npdvae.verify.sampling import estimate, repeat
from npdvae.verify.two_pieces import Weighted

STEPS, STEP, REACH = {2: 0.2, 3: 0.4}, 0.6, 8.4                     # by dimensions; weights end at 5e-16
MOST_NODES = 2 ** 18


def normal_moments(estimator: Any, logits: Array, cost_fn: Cost, dcost_fn: Cost | None = None, *,
                   state: State | None = None, context: Array | None = None) -> Quadrature:
    """Mean and covariance of an estimator of one sample with `end(logits, normals)` and `draw`: a `Quadrature`.

    Raises ValueError where the nodes would be many.
    """
    logits = check_logits(logits)
    B, D, K = logits.shape
    gradient_fn = wanted_gradient(estimator, dcost_fn)
    state, context = prepared(estimator, logits, state, context)
    t, codes = axis(STEPS.get(D * K, STEP)), all_codes(np, D, K)    # [N], [C, D]
    nodes = len(codes) * len(t) ** (D * K)
    if nodes > MOST_NODES:
        raise ValueError(f"quadrature for estimator {estimator.name} would take {nodes} nodes at {D} latents of {K} "
                         f"categories, more than {MOST_NODES}")
    found = Weighted(B, D * K)
    for x, weight, kept in normal_nodes(t, D * K):
        n = len(x)
        many, normals = repeat(logits, n), np.repeat(x.reshape(1, n, D, K), B, 1)   # [n B, D, K], [1, n B, D, K]
        end = estimator.end(many, normals).reshape(n, B, D, K)
        for code in codes:
            q = end[:, :, np.arange(D), code].prod(-1)              # [n, B]
            draw = estimator.draw(np.broadcast_to(code, (1, n * B, D)), many, normals)
            value = estimate(estimator, draw, cost_fn, gradient_fn, B, n, state)
            found.add(weight[:, None] * q, kept, value.reshape(n, B, D * K))
    return found.finish((B, D, K), nodes)


def axis(step: float) -> Array:
    """Nodes of one dimension, 0 among them: [N]."""
    count = int(REACH / step)
    return step * np.arange(-count, count + 1)


def normal_nodes(t: Array, dims: int) -> Iterator[tuple[Array, Array, Array]]:
    """t [N] -> chunks of x [n, dims], their weights [n], whether the coarse rule has them."""
    weight = np.exp(-t ** 2 / 2)
    weight = weight / weight.sum()
    grid = itertools.product(range(len(t)), repeat=dims)
    while chunk := list(itertools.islice(grid, CHUNK)):
        index = np.asarray(chunk)                                   # [n, dims]
        yield t[index], weight[index].prod(-1), (index % 2 == 0).all(-1)
