"""Random problems to judge an estimator on, no larger than exact methods can go through in seconds."""
from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from npdvae.estimators.base import Estimator
from npdvae.rng import Generator
from npdvae.types import Array, Cost, State
from npdvae.verify import costs
from npdvae.verify.enumeration import exact_gradient
from npdvae.verify.knowledge import countable
from npdvae.verify.moments import prepared, wanted_gradient

BATCH = 2
MOST_OUTCOMES = 2 ** 13


class Problem(NamedTuple):
    """An estimator with logits [B, D, K], a cost, the true gradient, and a state that has seen a few steps."""

    estimator: Any
    logits: np.ndarray
    cost: Any
    true: np.ndarray
    state: Any
    context: np.ndarray

    def arguments(self) -> tuple[Estimator, Array, Cost, Cost]:
        return self.estimator, self.logits, self.cost, self.cost.gradient

    def setting(self) -> dict[str, Any]:
        return {"state": self.state, "context": self.context}

    @property
    def size(self) -> str:
        return f"{self.logits.shape[1]}x{self.logits.shape[2]}"


def random_problem(estimator: Estimator, latents: int, categories: int, kind: str, seed: int) -> Problem:
    """A problem of this size with a random cost of this kind, the same for the same seed."""
    logits = random_logits(latents, categories, seed)
    cost = costs.make(kind, seed, *logits.shape)
    true = exact_gradient(logits, cost, objective=estimator.objective, samples=estimator.samples)
    return Problem(estimator, logits, cost, true, *warmed(estimator, logits, cost, seed))


def random_logits(latents: int, categories: int, seed: int) -> Array:
    return np.random.default_rng(seed).normal(size=(BATCH, latents, categories))    # [B, D, K]


def enumerable_size(estimator: Estimator, latents: int, categories: int) -> tuple[int, int] | None:
    """The largest size (D, K), lowering D and then K, at which all outcomes can be gone through; None without one."""
    for D, K in [(D, categories) for D in range(latents, 0, -1)] + [(1, K) for K in range(categories - 1, 1, -1)]:
        logits = random_logits(D, K, 0)
        estimator.check(D, K)
        state, context = prepared(estimator, logits)
        if countable(estimator, logits, state, context, MOST_OUTCOMES):
            return D, K
    return None


def warmed(estimator: Estimator, logits: Array, cost: Any, seed: int, steps: int = 20,
           rate: float = 0.01) -> tuple[State | None, Array]:
    """State and context after a few steps, so that learned entries and running means take part in the check."""
    state, context = prepared(estimator, logits)
    gradient_fn = wanted_gradient(estimator, cost.gradient)
    rng = Generator(seed)
    for _ in range(steps if state is not None else 0):
        draw = estimator.sample(logits, rng, state, context)
        f, dcodes = cost(draw.codes), gradient_fn and gradient_fn(draw.codes)
        learned = estimator.learn(draw, f, dcodes, state)
        state = estimator.advance(draw, f, state | {k: state[k] - rate * d for k, d in learned.items()})
    return state, context
