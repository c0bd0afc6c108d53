"""Nodes of the noise that a latent draws, so that means over it are finite sums."""
from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from npdvae.latents import families
from npdvae.latents.location_scale import LocationScale
from npdvae.rng import Generator
from npdvae.types import Array, DType

REACH = 32.0                                    # of the trapezoid rule in logistic coordinates: weights end at 1e-14
STEPS = (1.0, 0.5, 0.25, 0.125)                 # tried in turn; the error squares as the step halves
CHANGE = 1e-6                                   # from the step before, where the rule is taken
MOST = 2                                        # numbers to integrate over
LIGHT = 1e-15                                   # nodes of less weight than that of the heaviest are left out
FAMILY_NODES = 200                              # of a half-line


class Recorder(Generator):
    """A generator that counts the numbers it draws for each example."""

    def __init__(self) -> None:
        super().__init__(0)
        self.drawn = 0

    def uniform(self, shape: Sequence[int], dtype: DType = np.float64) -> Array:
        self.drawn += int(np.prod(shape)) // shape[1]
        return super().uniform(shape, dtype)


class Nodes(Generator):
    """A generator whose uniforms for example n are those of node n, in the order drawn: u [N, dims]."""

    def __init__(self, u: Array):
        super().__init__(0)
        self.u, self.used = u, 0

    def uniform(self, shape: Sequence[int], dtype: DType = np.float64) -> Array:
        S, N, *rest = shape
        size = S * int(np.prod(rest))
        here = self.u[:, self.used:self.used + size]                # [N, size]
        self.used += size
        return np.moveaxis(here.reshape(N, S, *rest), 1, 0).astype(dtype)       # [S, N, ...]


class TooMany(ValueError):
    """More numbers of noise than quadrature takes."""


def unit_rule(dims: int, step: float) -> tuple[Array, Array]:
    """Nodes and weights of (0, 1); of one dimension either half by itself: a kink at 1/2 does no harm."""
    t = np.arange(-REACH, REACH + step / 2, step)
    s, w = 1 / (1 + np.exp(-t)), 1 / np.cosh(t / 2) ** 2            # [N]
    if dims == 1:
        s, w = np.concatenate([s / 2, 1 - s / 2]), np.concatenate([w, w])
    return s, w / w.sum()


def product(x: Array, w: Array, dims: int) -> tuple[Array, Array]:
    """The product rule without its lightest nodes: x, w [n] -> [N, dims], [N]."""
    if not 1 <= dims <= MOST:
        raise TooMany(f"{dims} numbers of noise, where quadrature takes 1 to {MOST}: try other latents or samples")
    at, weight = np.zeros((1, 0)), np.ones(1)
    for _ in range(dims):
        weight = np.multiply.outer(weight, w).ravel()               # [N n]
        at = np.concatenate([np.repeat(at, len(x), 0), np.tile(x, len(at))[:, None]], 1)
        kept = weight > LIGHT * weight.max()
        at, weight = at[kept], weight[kept]
    return at, weight / weight.sum()


def uniforms(dims: int, step: float) -> tuple[Array, Array]:
    """Nodes [N, dims] and weights [N] of the unit cube."""
    return product(*unit_rule(dims, step), dims)


def finest(value: Callable[[float], Array]) -> float:
    """The first of `STEPS` whose sum value(step) differs from the one before by `CHANGE` at most."""
    before = value(STEPS[0])
    for step in STEPS[1:]:
        now = value(step)
        if np.abs(now - before).max() <= CHANGE * np.abs(now).max():
            return step
        before = now
    return STEPS[-1]


class Rule(NamedTuple):
    """A latent whose noise, drawn from `rng` for N examples at once, is that of N nodes; their weights [N]."""

    latent: Any
    rng: Any
    weights: np.ndarray


def nodes(latent: Any, step: float, draws: Callable[[Any, Any], Any]) -> Rule:
    """The rule over the noise of one example; `draws(latent, rng)` draws it once, to be counted.

    The noise of a location-scale family is that of its density, else uniforms as `rng` gives them, by the rule of this
    step. TooMany where a product rule would be endless.
    """
    if isinstance(latent, LocationScale):
        return of_density(copy.copy(latent), draws)
    seen = Recorder()
    draws(latent, seen)
    u, w = uniforms(seen.drawn, step)
    return Rule(latent, Nodes(u), w)


def of_density(latent: Any, draws: Callable[[Any, Any], Any]) -> Rule:
    """`nodes` with e by the density of the latent's family."""
    seen: list[Sequence[int]] = []

    def recorded(family: Any, rng: Any, shape: Sequence[int], dtype: DType) -> Array:
        seen.append(shape)
        return np.zeros(shape)
    latent.noise = recorded
    draws(latent, Generator(0))
    S, _, D = seen[0]
    e, w = product(*families.nodes(latent.family, FAMILY_NODES), S * D)         # [N, S D]
    latent.noise = lambda family, rng, shape, dtype: np.moveaxis(e.reshape(-1, S, D), 1, 0)
    return Rule(latent, Generator(0), w)
