"""Engines run many steps at a time; this is the readable one, the reference that the fast ones are tested against."""
from __future__ import annotations

from typing import Any

import numpy as np

from npdvae import describe, evaluation, rng
from npdvae.backends import blas
from npdvae.data.binarize import binarize
from npdvae.describe import Recipe
from npdvae.optimizers.base import clip_norm
from npdvae.state import TrainState, learned, merge, take_back
from npdvae.step import step


def indices(order, images):
    """An order of images as int64 [n]. ValueError unless every entry is the index of one."""
    order = np.array(order, np.int64)
    if order.ndim != 1 or (order.size and not 0 <= order.min() <= order.max() < images):
        raise ValueError(f"order must be indices in [0, {images}), got shape {list(order.shape)}")
    return order


class Readable:
    """`npdvae.step` and `npdvae.optimizers`, one batch at a time, on any op table.

    `why`: what keeps a faster engine from serving, in a few words. `threads`: of BLAS, all cores where None.
    """

    name = "readable"

    def __init__(self, model, recipe: Recipe, dataset, why: str = "", threads: int | None = None):
        self.model, self.recipe, self.dataset, self.ops, self.why = model, recipe, dataset, model.ops, why
        self.threads = threads
        self.state = TrainState({}, {}, None, 0)
        self.latent_rng = rng.Generator(recipe.seed, rng.LATENT, draw_uniform=self.ops.uniform)
        self.pixel_rng = rng.Generator(recipe.seed, rng.BINARIZE)

    def load(self, state: TrainState):
        """Take over a state of host arrays."""
        def up(arrays):
            return None if arrays is None else {k: self.ops.xp.asarray(a) for k, a in arrays.items()}
        self.state = TrainState(up(state.params), up(state.moments), up(state.latent), state.step)

    def save(self) -> TrainState:
        """The current state as host arrays."""
        def down(arrays):
            return None if arrays is None else {k: self.ops.to_host(a) for k, a in arrays.items()}
        s = self.state
        return TrainState(down(s.params), down(s.moments), down(s.latent), s.step)

    def run(self, order) -> np.ndarray:
        """Steps over the images order [n], batch_size at a time: sums of cost and KL of each step, [steps, 2] nats."""
        size, order = self.recipe.batch_size, indices(order, len(self.dataset.train))
        with blas.threads(self.threads):
            sums = [self.one(order[i:i + size]) for i in range(0, len(order), size)]
        return np.array(sums).reshape(-1, 2)

    def one(self, batch):
        """One step on the images of index batch [B]: the batch's sums of cost and KL."""
        recipe, ops, s = self.recipe, self.ops, self.state
        images = self.dataset.to_probabilities(self.dataset.train[batch], recipe.dtype)
        x = ops.xp.asarray(binarize(images, recipe.binarize, self.pixel_rng.at(s.step)))     # [B, P]
        now = describe.scalars(recipe, s.step, len(x))
        size = recipe.microbatch or len(x)
        grads: dict[str, Any] = {}
        total, states = 0.0, []
        for i in range(0, len(x), size):
            part = step(self.model, s.params, x[i:i + size], self.latent_rng.at(s.step, example=i), s.latent,
                        now.kl_weight, now.scale)
            grads = {k: grads[k] + g if k in grads else g for k, g in part.grads.items()}
            states.append((part.state, len(x[i:i + size]) / len(x)))
            total = total + ops.xp.stack([part.cost.sum(), part.kl.sum()])
        if recipe.clip_norm is not None:
            grads = clip_norm(grads, recipe.clip_norm)
        params, moments = recipe.optimizer.update({**s.params, **learned(s.latent, grads)}, grads, s.moments,
                                                  s.step + 1, now.lr)
        latent, params = take_back(merge(states), params)
        params = self.model.latent.refresh(params, latent)
        self.state = TrainState(params, moments, latent, s.step + 1)
        return ops.to_host(total)

    def evaluate(self, rows, samples=1, step=None):
        """Mean cost and KL of test rows with fresh z from q, in nats."""
        split = evaluation.Split(self.dataset, rows, self.recipe.binarize, self.recipe.seed,
                                 self.state.step if step is None else step, self.recipe.dtype)
        with blas.threads(self.threads):
            return evaluation.cost_and_kl(self.model, self.state.params, split, samples)
