"""Engines run many steps at a time; this is the readable one, the reference that the fast ones are tested against."""
from __future__ import annotations

from typing import Any

import numpy as np

from npdvae import describe, evaluation, rng
from npdvae.backends import blas
from npdvae.describe import Recipe
from npdvae.optimizers.base import clip_norm
from npdvae.parallel.alone import ALONE
from npdvae.parallel.tree import pieces, plus_each, tree_sum
from npdvae.state import TrainState, changed, learned, merge, take_back
from npdvae.step import step


def indices(order, images):
    """An order of images as int64 [n]. ValueError unless every entry is the index of one."""
    order = np.array(order, np.int64)
    if order.ndim != 1 or (order.size and not 0 <= order.min() <= order.max() < images):
        raise ValueError(f"order must be indices in [0, {images}), got shape {list(order.shape)}")
    return order


class Readable:
    """`npdvae.step` and `npdvae.optimizers`, one batch at a time, on any op table.

    `why`: what keeps a faster engine from serving, in a few words. `threads`: of BLAS, all cores where None. `team`:
    the processes that share its batches.
    """

    name = "readable"
    precisions: tuple[str, ...] = ("float32",)  # of the operands of its products, on the host

    def __init__(self, model, recipe: Recipe, dataset, why: str = "", threads: int | None = None, team=ALONE):
        self.team, self.model, self.recipe, self.dataset, self.ops, self.why = (
            team, model, recipe, dataset, model.ops, why)
        self.threads = threads
        self.adder: Any = None                  # of a team's gradients on devices
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

    def pieces(self, n):
        """`npdvae.parallel.tree.pieces` of a batch of n images, which go through one by one."""
        return pieces(n, self.recipe.microbatch or n, self.team)

    def targets(self, batch, example):
        """The images of an index batch [B] as targets x [B, P], `example` the number of the first in its step."""
        return self.ops.targets(self.dataset, self.dataset.train[batch], self.recipe.binarize,
                                self.pixel_rng.at(self.state.step, example=example), self.recipe.dtype)

    def one(self, batch):
        """One step on the images of index batch [B]: the batch's sums of cost and KL."""
        recipe, ops, s = self.recipe, self.ops, self.state
        now, (own, idle) = describe.scalars(recipe, s.step, len(batch)), self.pieces(len(batch))
        parts: list[tuple[Any, Any, int]] = []  # sums, state, examples

        def gradients():
            for i, end in own:
                part = self.step_on(batch[i:end], i, now)
                parts.append((ops.xp.stack([part.cost.sum(), part.kl.sum()]), part.state, end - i))
                yield part.grads

        grads = self.totals(tree_sum(gradients(), plus_each), idle)
        total, latent = self.gathered([] if idle else parts)
        if recipe.clip_norm is not None:
            grads = clip_norm(grads, recipe.clip_norm)
        params, moments = recipe.optimizer.update({**s.params, **learned(s.latent, grads)}, grads, s.moments,
                                                  s.step + 1, now.lr)
        latent, params = take_back(latent, params)
        params = self.model.latent.refresh(params, latent)
        self.state = TrainState(params, moments, latent, s.step + 1)
        return ops.to_host(total)

    def step_on(self, batch, example, now):
        """The gradients of some of a step's images, `example` the number of the first."""
        s = self.state
        return step(self.model, s.params, self.targets(batch, example), self.latent_rng.at(s.step, example=example),
                    s.latent, now.kl_weight, now.scale)

    def totals(self, grads, idle):
        """Gradients of a batch from those of this process's parts; in C order, on which sums of squares depend."""
        return grads if self.recipe.microbatch is None else self.added(self.team, grads, idle)

    def added(self, team, grads, idle):
        """Gradients added over a team, where they are (by `adder`) or through the host; in C order."""
        if team.size == 1:
            return {k: g.reshape(-1).reshape(g.shape) for k, g in grads.items()}
        if self.adder is not None:
            return self.adder.total(grads, idle)
        host = {k: self.ops.to_host(g) for k, g in grads.items()}
        return {k: self.ops.xp.array(g) for k, g in team.total(host, idle).items()}

    def gathered(self, parts):
        """Sums [2] and state of a batch from (sums, state, examples) of this process's parts, in their order."""
        if self.team.size > 1:
            sent = [(self.ops.to_host(sums), {k: self.ops.to_host(v) for k, v in changed(self.state.latent, new)}, n)
                    for sums, new, n in parts]
            parts = [(sums, self.state.latent and {**self.state.latent, **{k: self.ops.xp.asarray(v) for k, v in
                                                                            new.items()}}, n)
                     for sums, new, n in self.team.gather(sent)]
        examples = sum(n for _, _, n in parts)
        return sum(sums for sums, _, _ in parts), merge([(state, n / examples) for _, state, n in parts])

    def evaluate(self, rows, samples=1, step=None):
        """Mean cost and KL of test rows with fresh z from q, in nats."""
        split = evaluation.Split(self.dataset, rows, self.recipe.binarize, self.recipe.seed,
                                 self.state.step if step is None else step, self.recipe.dtype)
        with blas.threads(self.threads):
            return evaluation.cost_and_kl(self.model, self.state.params, split, samples, self.team)
