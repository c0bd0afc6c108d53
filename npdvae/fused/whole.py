"""The update of a step in segments: its scalars, and what needs the gradient of all parameters first.

That is clipping, microbatches, and optimizers that have no kernel behind each gradient.
"""
from __future__ import annotations

import math

import numpy as np

from npdvae import describe
from npdvae.backends.numba_backend import NUMBERS
from npdvae.fused.frame import PARTS
from npdvae.kernels.cpu import jobs
from npdvae.optimizers.base import clip_norm
from npdvae.state import TrainState, learned, take_back

LAYERS = "layers"                               # the name of their gradient among those of parameters
RULES = {"adam": jobs.ADAPTIVE, "radam": jobs.ADAPTIVE, "sgd": jobs.MOMENTUM}     # of updates in kernels


def put_scalars(engine, first, steps, examples):
    """The scalars of steps, numbered from `first`, to the workers and as a list; a step: the indices of its turns."""
    plan, recipe, rule = engine.plan, engine.recipe, engine.whole.rule
    scalars = [describe.scalars(recipe, number, examples) for number, _ in enumerate(steps, first)]
    for now, turns in zip(scalars, steps):
        numbers = numbers_of(rule, recipe.optimizer, now.update)
        for turn in turns:
            at = plan.scalars + turn * jobs.STEP_SCALARS
            row = engine.mem[at:at + jobs.STEP_SCALARS]
            row[:len(numbers)] = numbers
            row[jobs.SCALE] = plan.frame.S      # the cost's own gradient, not that of its mean
            row[jobs.GRADIENT] = jobs.KEPT if plan.whole else jobs.AT_ONCE
            row[jobs.FACTOR], row[jobs.RULE] = 1, rule if turn == turns[-1] else jobs.NO_UPDATE
    return scalars


def numbers_of(rule, optimizer, now):
    """What the kernels' rule reads of the scalars of an update."""
    if rule == jobs.ADAPTIVE:
        return NUMBERS[optimizer.name](*now)
    return (now.rate, optimizer.momentum) if rule == jobs.MOMENTUM else ()


class Whole:
    """The gradient of all layers as the workers leave it, 3 span behind the parameters, and the sums of its squares.

    rule: of `jobs`; held: names of what lies in `mem`.
    """

    def __init__(self, plan, mem, rule, held):
        self.plan, self.mem, self.rule, self.held, self.squares = plan, mem, rule, held, np.zeros(PARTS)
        self.spare: list[np.ndarray] = []       # of gradients that were kept

    def layers(self, base):
        """Weights and biases by name, or what lies at another offset."""
        found = {}
        for layer in self.plan.layers:
            found[f"{layer.name}.weight"], found[f"{layer.name}.bias"] = layer.get(self.mem, base)
        return found

    @property
    def gradient(self):
        """That of all layers, padding included."""
        span = self.plan.span
        return self.mem[3 * span:4 * span]

    def kept(self, beyond):
        """The gradient, as a copy where it is to last `beyond` the next turn."""
        if not beyond:
            return self.gradient
        copy = self.spare.pop() if self.spare else np.empty(self.plan.span, np.float32)
        copy[:] = self.gradient
        return copy

    def plus(self, a, b):
        """Gradients of two parts of a batch added; those of layers in the place of the first."""
        layers = {LAYERS: np.add(a[LAYERS], b[LAYERS], a[LAYERS])}
        if not np.may_share_memory(b[LAYERS], self.mem):
            self.spare.append(b[LAYERS])
        return {k: v + b[k] for k, v in a.items() if k != LAYERS} | layers

    def total(self, team, grads, idle, cut):
        """Those of the batch, which is `cut` or not, from those of this process, but for layers, whose gradient is put
        where it belongs. In C order, on which sums of squares depend."""
        if not cut:
            return {k: v for k, v in grads.items() if k != LAYERS}
        total = team.total(grads, idle)
        if not np.may_share_memory(total[LAYERS], self.mem):
            self.gradient[:] = total[LAYERS]
        if grads[LAYERS].base is None:
            self.spare.append(grads[LAYERS])
        return {k: np.array(v, order="C") for k, v in total.items() if k != LAYERS}

    def after(self, recipe, latent, s, grads, state, lr, turn):
        """The state behind the step `s`, but for the layers; the workers take these over in the last segment."""
        params, given, limit = {**s.params, **learned(s.latent, grads)}, self.rule == jobs.GIVEN, recipe.clip_norm
        if given:
            params, grads = {**params, **self.layers(0)}, {**grads, **self.layers(3 * self.plan.span)}
        if limit is not None:
            grads = clip_norm(grads, limit) if given else self.clip(grads, limit, turn)
        params, moments = recipe.optimizer.update(params, grads, s.moments, s.step + 1, lr)
        for layer in self.plan.layers if given else ():
            layer.put(self.mem, 3 * self.plan.span, params[f"{layer.name}.weight"], params[f"{layer.name}.bias"])
        state, params = take_back(state, {k: v for k, v in params.items() if k not in self.held})
        return TrainState(latent.refresh(params, state), moments, state, s.step + 1)

    def clip(self, grads, limit, turn):
        """As `optimizers.base.clip_norm` for the gradients of layers and those in `grads`, which are returned."""
        norm = math.sqrt(self.squares.sum() + sum(float((g.astype("f8") ** 2).sum()) for g in grads.values()))
        factor = limit / norm if norm > limit else 1
        self.mem[self.plan.scalars + turn * jobs.STEP_SCALARS + jobs.FACTOR] = factor
        return {k: g * g.dtype.type(factor) for k, g in grads.items()} if norm > limit else grads
