"""Engines run many steps at a time; this is the readable one, the reference that fused engines are tested against."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from npdvae import evaluation, rng
from npdvae.data.binarize import binarize
from npdvae.optimizers import Optimizer, clip_norm
from npdvae.state import TrainState, merge
from npdvae.step import step


class Recipe(NamedTuple):
    """How to run the steps of one training run."""

    optimizer: Optimizer
    lr: Callable[[int], float]                  # of the 0-based step
    kl_weight: Callable[[int], float]
    batch_size: int
    microbatch: int | None
    clip_norm: float | None
    binarize: str                               # dynamic, threshold or none, applied to each batch
    seed: int
    dtype: Any


class Readable:
    """`npdvae.step` and `npdvae.optimizers`, one batch at a time, on any op table."""

    def __init__(self, model, recipe: Recipe, dataset):
        self.model, self.recipe, self.dataset, self.ops = model, recipe, dataset, model.ops
        self.state = TrainState({}, {}, None, 0)
        self.latent_rng = rng.Generator(recipe.seed, rng.LATENT, draw_uniform=self.ops.uniform)
        self.pixel_rng = rng.Generator(recipe.seed, rng.BINARIZE)

    def load(self, state: TrainState):
        """Take over a state of host arrays."""
        def up(arrays):
            return None if arrays is None else {k: self.ops.xp.asarray(a) for k, a in arrays.items()}
        self.state = TrainState(up(state.params), up(state.moments), up(state.estimator), state.step)

    def save(self) -> TrainState:
        """The current state as host arrays."""
        def down(arrays):
            return None if arrays is None else {k: self.ops.to_host(a) for k, a in arrays.items()}
        s = self.state
        return TrainState(down(s.params), down(s.moments), down(s.estimator), s.step)

    def run(self, order) -> np.ndarray:
        """Steps over the images order [n], batch_size at a time: sums of cost and KL of each step, [steps, 2] nats."""
        size = self.recipe.batch_size
        batches = [order[i:i + size] for i in range(0, len(order), size)]
        return np.array([self.one(batch) for batch in batches])

    def one(self, batch):
        """One step on the images of index batch [B]: the batch's sums of cost and KL."""
        recipe, ops, s = self.recipe, self.ops, self.state
        images = self.dataset.to_probabilities(self.dataset.train[batch], recipe.dtype)
        x = ops.xp.asarray(binarize(images, recipe.binarize, self.pixel_rng.at(s.step)))     # [B, P]
        size = recipe.microbatch or len(x)
        grads: dict[str, Any] = {}
        total, states = 0.0, []
        for i in range(0, len(x), size):
            part = step(self.model, s.params, x[i:i + size], self.latent_rng.at(s.step, example=i), s.estimator,
                        recipe.kl_weight(s.step), 1 / len(x))
            grads = {k: grads[k] + g if k in grads else g for k, g in part.grads.items()}
            states.append((part.state, len(x[i:i + size]) / len(x)))
            total = total + ops.xp.stack([part.cost.sum(), part.kl.sum()])
        if recipe.clip_norm is not None:
            grads = clip_norm(grads, recipe.clip_norm)
        learned = {f"estimator.{k}": v for k, v in (s.estimator or {}).items() if f"estimator.{k}" in grads}
        params, moments = recipe.optimizer.update({**s.params, **learned}, grads, s.moments, s.step + 1,
                                                  recipe.lr(s.step))
        estimator = merge(states)
        for k in learned:
            estimator[k[len("estimator."):]] = params.pop(k)
        self.state = TrainState(params, moments, estimator, s.step + 1)
        return ops.to_host(total)

    def evaluate(self, rows, samples=1, step=None):
        """Mean cost and KL of test rows with fresh hard codes from q, in nats."""
        step = self.state.step if step is None else step
        return evaluation.elbo(self.model, self.state.params, self.dataset, rows, self.recipe.binarize,
                               self.recipe.seed, step, samples, self.recipe.dtype)
