"""Estimators against the exact gradient on a real model: bias, spread, angle and time of each."""
from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from npdvae import optimizers, rng
from npdvae.verify.enumeration import exact_gradient
from npdvae.verify.knowledge import countable
from npdvae.verify.model_cost import ModelCost
from npdvae.verify.sampling import blocks_of

BLOCK = 64                                      # draws between two sums, and of one jackknife group


class Result(NamedTuple):
    """One estimator on one batch; relative means divided by the norm of the exact gradient."""

    estimator: str
    objective: str
    relative_bias: float
    relative_bias_low: float                    # interval of two standard errors, 0 where no bias is seen
    relative_bias_high: float
    relative_deviation: float                   # sqrt(trace of covariance), one estimate
    cosine: float                               # mean over estimates and images of the cosine with the exact gradient
    evaluations: int                            # of the decoder per image and estimate; of shared codes for all images
    milliseconds: float                         # sampling, decoding, code gradients and backward for the batch
    deviation_at_equal: float                   # after averaging as many estimates as the budget of evaluations pays
    error_at_equal: float                       # root mean square error then, bias included
    draws: int                                  # 0: all outcomes enumerated
    unbiased: bool                              # as claimed, and proved by npdvae.verify
    needs_dcodes: bool
    step: int


@dataclass
class Bench:
    """A model with fixed parameters, a batch of its data, and the costs of all codes of every image."""

    model: Any
    params: dict[str, Any]
    x: np.ndarray                               # [B, P], where gradients are compared
    others: np.ndarray                          # [N, P], on which learned baselines are fitted
    step: int = 0

    def __post_init__(self):
        latent = self.model.latent
        h, _ = self.model.encoder.forward(self.params, self.x)
        self.logits = latent.logits(self.params, h).astype(np.float64)           # [B, D, K]
        self.cost = ModelCost(self.model, self.params, self.x)
        self.joint = self.cost.with_prior(latent.prior.log_rows(self.params))
        self.exact: dict[tuple, np.ndarray] = {}

    def cost_of(self, estimator):
        """The cost as the estimator's objective defines it: -log p(x | z), or -log p(x, z)."""
        return self.cost if estimator.analytic_kl else self.joint

    def true(self, estimator):
        """The exact gradient of the estimator's objective: [B, D, K]."""
        samples = estimator.samples if estimator.objective == "importance_weighted" else None
        key = (estimator.objective, samples)
        if key not in self.exact:
            self.exact[key] = exact_gradient(self.logits, self.cost_of(estimator), objective=key[0], samples=samples)
        return self.exact[key]


def compare(bench, label, estimator, state=None, *, draws=1024, budget=100, seed=0):
    """Measure one estimator: a `Result`. ValueError where it does not apply to the model."""
    latent = bench.model.latent
    estimator.check(latent.latents, latent.categories)
    true = bench.true(estimator)
    if not true.any():
        raise ValueError("its exact gradient is zero: there is nothing to compare with")
    if state is None:
        state = fitted_state(bench, estimator, seed)
    context = bench.x.astype(np.float64)
    if countable(estimator, bench.logits, state, context, most=latent.categories ** latent.latents):
        moments, used = enumerated(bench, estimator, state, context, true), 0
    else:
        moments, used = sampled(bench, estimator, state, context, true, draws, seed)
    scale = math.sqrt((true ** 2).sum())
    square, error = moments.bias_square, moments.bias_error
    evaluations = estimator.evaluations(latent.latents, latent.categories)
    deviation = math.sqrt(max(moments.variance, 0)) / scale
    at_equal = deviation * math.sqrt(evaluations / budget)
    bias, low, high = (math.sqrt(max(b, 0)) / scale for b in (square, square - 2 * error, square + 2 * error))
    return Result(label, estimator.objective, bias, low, high, deviation, moments.cosine, evaluations,
                  1e3 * seconds(bench, estimator, state, seed), at_equal, math.hypot(bias, at_equal), used,
                  estimator.unbiased, estimator.needs_dcodes, bench.step)


class Sums(NamedTuple):
    """Squared norm of the bias with its standard error, summed variance, mean cosine, over a batch."""

    bias_square: float
    bias_error: float
    variance: float
    cosine: float


def cosines(g, true):
    """Cosine of each example's estimate with its exact gradient: [..., B, D K], [B, D K] -> [..., B]."""
    norm = np.linalg.norm(g, axis=-1) * np.linalg.norm(true, axis=-1)
    return (g * true).sum(-1) / np.where(norm > 0, norm, np.inf)    # no estimate at all counts as 0


def enumerated(bench, estimator, state, context, true):
    """Exact moments over the outcomes: a `Sums`."""
    cost, B = bench.cost_of(estimator), len(true)
    true = true.reshape(B, -1)
    mean, second, cosine = np.zeros_like(true), np.zeros(B), 0.0
    for probability, draw in estimator.outcomes(bench.logits, state, context):
        dcodes = cost.gradient(draw.codes) if estimator.needs_dcodes else None
        x = estimator.backward(draw, cost(draw.codes), dcodes, state).reshape(B, -1) - true
        mean += probability[:, None] * x
        second += probability * (x ** 2).sum(-1)
        cosine += (probability * cosines(x + true, true)).mean()
    return Sums((mean ** 2).sum(), 0.0, (second - (mean ** 2).sum(-1)).sum(), cosine)


def sampled(bench, estimator, state, context, true, draws, seed):
    """The same from independent draws, in whole blocks, and how many were drawn.

    The squared bias is freed of the draws' own variance; its error is a jackknife.
    """
    B = len(true)
    cost = bench.cost_of(estimator)
    blocks = blocks_of(estimator, bench.logits, rng.Generator(seed, rng.TEST_LATENT), cost, cost.gradient, tile=BLOCK,
                       block=BLOCK, state=state, context=context)
    flat, sums, squares, cosine, n = true.reshape(B, -1), [], [], 0.0, 0
    while n < draws:
        x = next(blocks)                                            # [BLOCK, B D K]
        cosine += cosines(x.reshape(len(x), B, -1), flat).sum() / B
        x = x - true.ravel()
        sums.append(x.sum(0))
        squares.append((x ** 2).sum())
        n += len(x)
    total, square = np.sum(sums, 0), np.sum(squares)
    leave_out = np.array([unbiased_square(total - s, square - q, n - BLOCK) for s, q in zip(sums, squares)])
    G = len(sums)
    error = math.sqrt((G - 1) / G * ((leave_out - leave_out.mean()) ** 2).sum()) if G > 1 else math.inf
    variance = (square - (total ** 2).sum() / n) / (n - 1)
    return Sums(unbiased_square(total, square, n), error, variance, cosine / n), n


def unbiased_square(total, square, n):
    """Estimate of |E x|^2 from sum x and sum |x|^2 of n draws, without the draws' own variance."""
    return ((total ** 2).sum() - square) / (n * (n - 1)) if n > 1 else math.nan


def seconds(bench, estimator, state, seed, repeats=3):
    """Time of one estimate for the batch with the decoder evaluated in full: the smallest of a few, in seconds."""
    dtype = bench.x.dtype
    logits, generator = bench.logits.astype(dtype), rng.Generator(seed)
    cost, context = ModelCost(bench.model, bench.params, bench.x, tabulate=False), bench.x
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        draw = estimator.sample(logits, generator, state, context)
        f = cost(draw.codes)
        dcodes = cost.gradient(draw.codes) if estimator.needs_dcodes else None
        estimator.backward(draw, f, dcodes, state)
        times.append(time.perf_counter() - start)
    return min(times)


def fitted_state(bench, estimator, seed, steps=500, size=32, lr=3e-3):
    """An estimator's state after some steps on other images, the model unchanged: what its baselines learn there."""
    latent, dtype = bench.model.latent, bench.x.dtype
    state = estimator.init(rng.Generator(seed, rng.INIT), latent.latents, latent.categories, bench.x.shape[1])
    if state is None:
        return None
    optimizer, generator = optimizers.get("adam", ops=bench.model.ops), rng.Generator(seed)
    moments: dict[str, Any] = {}
    for t in range(steps):
        first = t * size % max(len(bench.others) - size, 1)
        x = bench.others[first:first + size]                        # [size, P]
        h, _ = bench.model.encoder.forward(bench.params, x)
        logits = latent.logits(bench.params, h)                                   # [size, D, K]
        draw = estimator.sample(logits, generator, state, x)
        cost = ModelCost(bench.model, bench.params, x, tabulate=False)
        if not estimator.analytic_kl:
            cost = cost.with_prior(latent.prior.log_rows(bench.params))
        f = cost(draw.codes).astype(dtype)
        dcodes = cost.gradient(draw.codes).astype(dtype) if estimator.needs_dcodes else None
        grads = estimator.learn(draw, f, dcodes, state)
        if not grads and t > 60:                                    # running means have settled
            break
        new, moments = optimizer.update({k: state[k] for k in grads}, grads, moments, t + 1, lr)
        state = {**estimator.advance(draw, f, state), **new}
    return state
