"""Exact moments under Gumbel noise, by quadrature on few latents and categories.

Noise is mapped from (code, exponentials): given that code b wins, -log u_b = p_b E_b and -log u_j = E_j + p_j E_b with
E iid Exp(1) (Maddison et al. 2014), which removes the jump of argmax: what is left is smooth, and the trapezoid rule in
logistic coordinates converges exponentially.
"""
from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from npdvae.backends import load
from npdvae.estimators.base import Estimator
from npdvae.estimators.parts.outcomes import all_codes, codes_log_prob
from npdvae.rng import Generator
from npdvae.types import Array, Cost, DType, State
from npdvae.verify.enumeration import check_logits
from npdvae.verify.moments import prepared, wanted_gradient
from npdvae.verify.sampling import estimate, repeat

STEPS, REACH = {1: 0.2, 2: 0.4}, 27.0                               # of the trapezoid rule, by dimensions
STEP = 0.8                                                          # for more dimensions; weights end at exp(-27)
MOST_NODES = 2 ** 22
CHUNK = 8192


class Quadrature(NamedTuple):
    """Moments by quadrature, float64; `error` estimates the largest error of the mean, relative to its scale.

    It is the square of the change when every other node is left out: errors of the rule square as the step halves.
    """

    mean: np.ndarray                                                # [B, D, K]
    covariance: np.ndarray                                          # [B, D K, D K]
    scale: np.ndarray                                               # [B, D, K], about E |dlogits|
    error: float
    nodes: int


class Noise(NamedTuple):
    """An estimator as a function of its noise: `value(u, v)` [n, B, D, K]; u [n, B, D, K], v [n, B, D, blocks K]."""

    value: Callable[..., Array]
    blocks: int                                                     # conditional draws, 0 without v
    p: np.ndarray                                                   # [B, D, K]


def gumbel_moments(estimator: Estimator, logits: Array, cost_fn: Cost, dcost_fn: Cost | None = None, *,
                   state: State | None = None, context: Array | None = None) -> Quadrature:
    """Mean and covariance of an estimator whose `from_noise(logits, u, v)` is driven by Gumbel noise; a `Quadrature`.

    One sample (u [1, B, D, K]); conditional draws v may be many. The value must be additive in u and in each
    draw of v once the code is given, which is tested. Raises ValueError where any of this fails, or the nodes are many.
    """
    logits = check_logits(logits)
    noise = noise_of(estimator, logits, cost_fn, dcost_fn, state, context)
    invariant = check_structure(noise, estimator.name)
    B, D, K = logits.shape
    dims = D * (K - 1 if invariant else K)
    step = STEPS.get(dims, STEP)
    t = np.arange(-REACH, REACH + step / 2, step)
    codes = all_codes(np, D, K)                                     # [C, D]
    nodes = len(codes) * len(t) ** dims
    if nodes > MOST_NODES:
        raise ValueError(f"quadrature for estimator {estimator.name} would take {nodes} nodes at {D} latents of {K} "
                         f"categories, more than {MOST_NODES}: use check_unbiased with a declared variance")
    q = np.exp(codes_log_prob(load("numpy"), logits, codes))        # [C, B]
    parts = [conditional_moments(noise, code, t, dims, invariant) for code in codes]
    mean, coarse, scale = (np.einsum("cb,cbn->bn", q, np.stack([part[i] for part in parts])) for i in (0, 1, 2))
    inner = np.einsum("cb,cbmn->bmn", q, np.stack([part[3] for part in parts]))
    away = np.stack([part[0] for part in parts]) - mean             # [C, B, D K]
    covariance = inner + np.einsum("cb,cbm,cbn->bmn", q, away, away)
    error = float((np.abs(mean - coarse).max() / max(scale.max(), 1e-300)) ** 2)
    return Quadrature(mean.reshape(B, D, K), covariance, scale.reshape(B, D, K), error, nodes)


def noise_of(estimator: Estimator, logits: Array, cost_fn: Cost, dcost_fn: Cost | None, state: State | None,
             context: Array | None) -> Noise:
    """The estimator as a function of its noise; the shapes of that noise are seen by drawing once."""
    from_noise = estimator.from_noise
    if from_noise is None:
        raise ValueError(f"estimator {estimator.name} has no from_noise(logits, u, v) to integrate")
    B, D, K = logits.shape
    estimator.check(D, K)
    gradient_fn = wanted_gradient(estimator, dcost_fn)
    state, context = prepared(estimator, logits, state, context)
    seen = Recorder(0)
    estimator.sample(logits, seen, state, context)
    u, v = (*seen.shapes, None)[:2]
    if u != (1, B, D, K) or len(seen.shapes) > 2 or (v is not None and (v[:3] != (1, B, D) or v[3] % K)):
        raise ValueError(f"estimator {estimator.name} draws noise of shapes {seen.shapes}: quadrature needs "
                         f"one sample, u {(1, B, D, K)} and at most one v {(1, B, D)} + (blocks * {K},)")

    def value(u, v):
        n = len(u)
        u, v = (x if x is None else x.reshape(1, n * B, D, -1) for x in (u, v))
        draw = from_noise(repeat(logits, n), u, v, state, repeat(context, n))
        return estimate(estimator, draw, cost_fn, gradient_fn, B, n, state).reshape(n, B, D, K)
    return Noise(value, 0 if v is None else v[3] // K, load("numpy").softmax(logits))


class Recorder(Generator):
    """A generator that notes which shapes are drawn."""

    def __init__(self, seed: int):
        super().__init__(seed)
        self.shapes: list[tuple[int, ...]] = []

    def uniform(self, shape: Sequence[int], dtype: DType = np.float64) -> Array:
        self.shapes.append(tuple(shape))
        return super().uniform(shape, dtype)


def winning(p: Array, code: Array, e: Array) -> Array:
    """Uniforms under which `code` wins: p [B, D, K], code int [D], e [n, D, K] -> u [n, B, D, K]."""
    won = np.arange(p.shape[-1]) == code[:, None]                   # [D, K]
    top = (e * won).sum(-1)[:, None, :, None]                       # [n, 1, D, 1], E_b
    return inside(np.exp(-(p * top + np.where(won, 0, e)[:, None])))


def inside(u: Array) -> Array:
    """Uniforms strictly inside (0, 1), as the generator's are."""
    return np.clip(u, 1e-300, 1 - 2.0 ** -53)


def blocks_from(e: Array, blocks: int, batch: int) -> Array | None:
    """Uniforms of conditional draws: e [n, blocks, D, K] -> v [n, B, D, blocks K], or None without blocks."""
    if not blocks:
        return None
    v = inside(np.exp(-np.moveaxis(e, 1, 2)))                       # [n, D, blocks, K]
    v = v.reshape(len(e), 1, v.shape[1], -1)
    return np.repeat(v, batch, 1)


def at(noise: Noise, code: Array, e: Array, ev: Array) -> Array:
    """The value at exponentials e [n, D, K] of u and ev [n, blocks, D, K] of v, with `code` winning: [n, B, D, K]."""
    return noise.value(winning(noise.p, code, e), blocks_from(ev, noise.blocks, len(noise.p)))


def check_structure(noise: Noise, name: str) -> bool:
    """Test additivity (ValueError where it fails); whether nothing depends on the common scale of the exponentials."""
    B, D, K = noise.p.shape
    rng = np.random.default_rng(0)
    invariant = True
    for code in all_codes(np, D, K)[:4]:
        a, b = rng.exponential(size=(2, 16, D, K))
        va, vb = rng.exponential(size=(2, 16, noise.blocks, D, K))
        base, both = at(noise, code, a, va), at(noise, code, b, vb)
        total = base.copy()
        total += at(noise, code, b, va) - base
        for k in range(noise.blocks):
            one = va.copy()
            one[:, k] = vb[:, k]
            total += at(noise, code, a, one) - base
        scale = np.abs(base).max() + np.abs(both).max()
        if not np.abs(total - both).max() <= 1e-9 * scale:
            raise ValueError(f"estimator {name} is not additive in u and v given the code, as quadrature needs")
        invariant &= bool(np.abs(at(noise, code, 3 * a, va / 2) - base).max() <= 1e-9 * scale)
    return invariant


def exponentials(t: Array, dims: int, shape: tuple[int, int]) -> Iterator[tuple[Array, Array, Array]]:
    """Nodes of all coordinates: t [N], shape (D, K) -> chunks of e [n, D, K], their weights, whether the coarse rule
    has them; N**dims in all.

    dims = D K: independent exponentials. dims = D (K - 1): Dirichlet(1, ..., 1) shares by breaking sticks, scaled so
    that the largest is 30, for values that do not depend on the common scale.
    """
    D, K = shape
    weight = 1 / np.cosh(t / 2) ** 2                                # [N], of the uniform s = sigma(t)
    weight = weight / weight.sum()
    grid = itertools.product(range(len(t)), repeat=dims)
    while chunk := list(itertools.islice(grid, CHUNK)):
        index = np.asarray(chunk)                                   # [n, dims]
        e = np.logaddexp(0, t[index]).reshape(len(index), D, -1)    # -log(1 - s), exponential
        if dims < D * K:
            log_left = -e / np.arange(K - 1, 0, -1)                 # log(1 - stick): [n, D, K-1]
            before = np.concatenate([np.zeros((len(e), D, 1)), np.cumsum(log_left, -1)], -1)    # [n, D, K]
            e = np.exp(before)
            e[..., :-1] *= -np.expm1(log_left)
            e *= 30 / e.max(-1, keepdims=True)
        yield e, weight[index].prod(-1), (index % 2 == 0).all(-1)


def conditional_moments(noise: Noise, code: Array, t: Array, dims: int,
                        invariant: bool) -> tuple[Array, Array, Array, Array]:
    """Mean, mean by every other node, E |value| (each [B, D K]) and covariance [B, D K, D K], given the code."""
    B, D, K = noise.p.shape
    fixed, fixed_v = np.ones((1, D, K)), np.ones((1, noise.blocks, D, K))
    base = at(noise, code, fixed, fixed_v).reshape(B, -1)           # [B, D K]
    mean, coarse, scale = (np.zeros((B, D * K)) for _ in range(3))
    second = np.zeros((2, B, D * K, D * K))
    drift = np.zeros((2, B, D * K))
    total_coarse = 0.0
    for e, weight, kept in exponentials(t, dims, (D, K)):
        n = len(e)
        sides = [at(noise, code, e, np.repeat(fixed_v, n, 0)).reshape(n, B, -1) - base]
        if noise.blocks:
            ev = np.repeat(fixed_v, n, 0)
            ev[:, 0] = e
            sides.append(at(noise, code, np.repeat(fixed, n, 0), ev).reshape(n, B, -1) - base)
        for i, x in enumerate(sides):
            drift[i] += np.einsum("n,nbm->bm", weight, x)
            second[i] += np.einsum("n,nbm,nbk->bmk", weight, x, x)
        x = base + sides[0] + (noise.blocks * sides[1] if noise.blocks else 0)
        mean += np.einsum("n,nbm->bm", weight, x)
        coarse += np.einsum("n,nbm->bm", weight * kept, x)
        total_coarse += (weight * kept).sum()
        scale += np.einsum("n,nbm->bm", weight, np.abs(x))
    inner = second - drift[:, :, :, None] * drift[:, :, None, :]
    return mean, coarse / total_coarse, scale, inner[0] + noise.blocks * inner[1]
