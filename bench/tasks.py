"""What `bench.estimators` and `bench.latent_steps` train: a latent and settings; the gradients that all must find."""
from __future__ import annotations

import functools
import os
from typing import Any, NamedTuple

import numpy as np

from bench.problem import LR, dataset
from npdvae import build, config, estimators, rng
from npdvae.data.dataset import Dataset
from npdvae.step import step

ROWS = {"small": (4, 8), "medium": (20, 10)}    # D, K
BITS = {"small": 16, "medium": 100}             # D where K = 2: as many logits


class Task(NamedTuple):
    """D latents of K categories on MNIST, batches of B: 784-512-256, Adam, float32."""

    D: int
    K: int
    latent: str = "categorical"
    estimator: str | None = None
    options: tuple[tuple[str, Any], ...] = ()   # of the estimator
    B: int = 100


def made(D, K, latent="categorical", estimator=None, options=(), B=100):
    """A task out of JSON."""
    return Task(D, K, latent, estimator, tuple((k, v) for k, v in options), B)


def of_estimator(row, name):
    """The task of an estimator with its documented defaults."""
    binary = estimators.get(name).binary
    return Task(*((BITS[row], 2) if binary else ROWS[row]), estimator=name)


def reference(task):
    """The fused estimator of as many evaluations: rloo, or straight_through where gradients at the codes are read."""
    own = estimators.get(task.estimator, **dict(task.options))
    S = own.evaluations(task.D, task.K)
    if own.needs_dcodes:
        return task._replace(estimator="straight_through", options=(("samples", S),))
    if S == 1:
        return task._replace(estimator="reinforce", options=(("baseline", "constant"), ("baseline_value", 125.0)))
    return task._replace(estimator="rloo", options=(("samples", S),))


def job(task, engine="auto", **settings):
    """Our own: fused where there are kernels for the whole step, else in segments; or the engine that is asked for."""
    fields = {k: v for k, v in task.options if k in config.FIELDS}
    rest = {k: v for k, v in task.options if k not in config.FIELDS}
    return build.build(config.Config(
        data="mnist", data_dir=os.environ.get("NPDVAE_DATA"), binarize="dynamic", latent=task.latent, latents=task.D,
        categories=task.K or None, estimator=task.estimator, estimator_options=rest, lr=LR, batch_size=task.B,
        engine=engine, **{"backend": "numba", **fields, **settings}).check())


@functools.cache
def params(task):
    """First parameters by name, NumPy float32, and those of the latent fitted to the first images."""
    return build.fresh_state(job(task, "readable", backend="numpy")).params


@functools.cache
def pixels(examples=8):
    """Images of zeros and ones to agree on: [b, P], float64."""
    d = dataset("mnist")
    return (d.train[:examples] > d.levels / 2).astype(np.float64)


def agreed(task, examples=8):
    """Gradients of encoder and decoder on `pixels`, by name, in float64; the readable step's."""
    ours, x = job(task._replace(B=examples), "readable", backend="numpy"), pixels(examples)
    weights = {k: v.astype(np.float64) for k, v in params(task).items()}
    state = ours.model.latent.init_state(rng.Generator(0, rng.INIT), ours.model.pixels)
    grads = step(ours.model, weights, x, rng.Generator(0).at(0), state).grads
    return {k: g for k, g in grads.items() if k.startswith(("encoder", "decoder"))}


def largest_error(found, expected):
    """Of any array, relative to its largest entry."""
    return max(float(np.abs(found[k] - g).max() / np.abs(g).max()) for k, g in expected.items())


class Ours:
    """npdvae on a task."""

    def __init__(self, task, threads):
        self.task, self.threads = task, threads
        self.engine = self.loaded(job(task, threads=threads))

    def loaded(self, made):
        """The engine of a job at the first parameters."""
        made.engine.load(build.fresh_state(made))
        return made.engine

    def run(self, order):
        self.engine.run(order)

    def check(self):
        """Largest error of the timed engine's gradients: m after one step of Adam is a tenth of them."""
        x = pixels()
        made = job(self.task._replace(B=len(x)), threads=self.threads)
        images = (x * made.dataset.levels).astype(np.uint8)
        made.engine.dataset = Dataset("check", images, images, made.dataset.shape, made.dataset.levels)
        engine = self.loaded(made)
        engine.run(np.arange(len(x)))
        moments = engine.save().moments
        expected = agreed(self.task)
        return largest_error({k: 10 * moments["m." + k] for k in expected}, expected)
