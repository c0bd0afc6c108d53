"""Exact moments of smoothed bits, by quadrature: one uniform per latent, cut in two where the bit changes.

Given the bit, t = u / p or (1 - u) / (1 - p) is uniform and the value smooth in it, up to the ends: the trapezoid rule
in logistic coordinates, as under Gumbel noise. The second uniform, where one is read, is t itself: the bit and t are
independent.
"""
from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np

from npdvae.types import Array, Cost, State
from npdvae.verify.enumeration import check_logits
from npdvae.verify.moments import prepared, wanted_gradient
from npdvae.verify.quadrature import CHUNK, MOST_NODES, REACH, STEP, STEPS, Quadrature
from npdvae.verify.sampling import estimate, repeat


def piece_moments(estimator: Any, logits: Array, cost_fn: Cost, dcost_fn: Cost | None = None, *,
                  state: State | None = None, context: Array | None = None) -> Quadrature:
    """Mean and covariance of an estimator of one sample whose `from_noise(logits, u, v)` smooths bits: a `Quadrature`.

    Raises ValueError where the nodes would be many.
    """
    logits = check_logits(logits)
    B, D, K = logits.shape
    estimator.check(D, K)
    gradient_fn = wanted_gradient(estimator, dcost_fn)
    state, context = prepared(estimator, logits, state, context)
    step = STEPS.get(D, STEP)
    t = np.arange(-REACH, REACH + step / 2, step)
    nodes = (2 * len(t)) ** D
    if nodes > MOST_NODES:
        raise ValueError(f"quadrature for estimator {estimator.name} would take {nodes} nodes at {D} latents, more "
                         f"than {MOST_NODES}")
    p, found = 1 / (1 + np.exp(logits[..., 0] - logits[..., 1])), Weighted(B, D * K)    # [B, D]
    for bits in itertools.product((0, 1), repeat=D):
        one = np.array(bits) > 0                                    # [D]
        q = np.where(one, p, 1 - p).prod(-1)                        # [B]
        for s, weight, kept in unit_nodes(t, D):                    # s [n, D]
            u = np.where(one, s[:, None] * p, 1 - s[:, None] * (1 - p))     # [n, B, D]
            n, v = len(s), np.broadcast_to(s[:, None], u.shape)
            draw = estimator.from_noise(repeat(logits, n), *(x.reshape(1, n * B, D) for x in (u, v)), state)
            x = estimate(estimator, draw, cost_fn, gradient_fn, B, n, state)
            found.add(weight[:, None] * q, kept, x.reshape(n, B, D * K))
    return found.finish((B, D, K), nodes)


def unit_nodes(t: Array, dims: int) -> Iterator[tuple[Array, Array, Array]]:
    """Nodes of the unit cube: t [N] -> chunks of s [n, dims], their weights [n], whether the coarse rule has them."""
    weight = 1 / np.cosh(t / 2) ** 2                                # [N], of s = sigma(t)
    weight = weight / weight.sum()
    grid = itertools.product(range(len(t)), repeat=dims)
    while chunk := list(itertools.islice(grid, CHUNK)):
        index = np.asarray(chunk)                                   # [n, dims]
        yield 1 / (1 + np.exp(-t[index])), weight[index].prod(-1), (index % 2 == 0).all(-1)


class Weighted:
    """Sums over nodes of a rule whose every other node makes a coarser one."""

    def __init__(self, batch: int, size: int):
        self.mean, self.coarse, self.scale = np.zeros((3, batch, size))
        self.second, self.total = np.zeros((batch, size, size)), np.zeros(batch)

    def add(self, weight: Array, kept: Array, x: Array) -> None:
        """Weights [n, B], whether the coarse rule has the node [n], values [n, B, N]."""
        self.mean += np.einsum("nb,nbi->bi", weight, x)
        self.coarse += np.einsum("nb,nbi->bi", weight * kept[:, None], x)
        self.total += (weight * kept[:, None]).sum(0)
        self.scale += np.einsum("nb,nbi->bi", weight, np.abs(x))
        self.second += np.einsum("nb,nbi,nbj->bij", weight, x, x)

    def finish(self, shape: tuple[int, ...], nodes: int) -> Quadrature:
        change = np.abs(self.mean - self.coarse / self.total[:, None]).max()
        error = float((change / max(self.scale.max(), 1e-300)) ** 2)
        covariance = self.second - self.mean[:, :, None] * self.mean[:, None, :]
        return Quadrature(self.mean.reshape(shape), covariance, self.scale.reshape(shape), error, nodes)
