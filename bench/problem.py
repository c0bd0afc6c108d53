"""The jobs that everybody computes: sizes, images, first parameters, and one batch with its codes to agree on."""
from __future__ import annotations

import functools
import os
from typing import NamedTuple

import numpy as np

from npdvae import build, config, data
from npdvae.step import step

LR = 5e-4


class Problem(NamedTuple):
    """One row of the tables; D latents of K categories, batches of B, S evaluations an image."""

    data: str
    D: int
    K: int
    B: int
    estimator: str = "reinforce"
    seed: int = 0
    S: int = 1
    width: int | None = None                    # of the first hidden layer; the second has half of it

    @property
    def label(self):
        more = "".join(f" {k}={v}" for k, v in (("S", self.S), ("H", self.width)) if v not in (1, None))
        return f"{self.data} D={self.D} K={self.K} B={self.B}{more}"

    @property
    def baseline(self):
        return 20.0 if self.data == "digits" else 125.0

    @property
    def hidden(self):
        width = self.width or (128 if self.data == "digits" else 512)
        return width, max(1, width // 2)


ROWS = {
    "small": Problem("mnist", 4, 8, 100), "medium": Problem("mnist", 20, 10, 100),
    "large": Problem("mnist", 30, 10, 200), "digits": Problem("digits", 4, 8, 64),
    "b1000": Problem("mnist", 20, 10, 1000), "b4000": Problem("mnist", 20, 10, 4000),
    "exact": Problem("mnist", 4, 8, 100, "exact"),
}


def row(text):
    """A row by its name, or as `D=4,K=8,B=100,...`: fields that differ from those of "small"."""
    if "=" not in text:
        return ROWS[text]
    kinds = {"data": str, "estimator": str}
    return ROWS["small"]._replace(**{k: kinds.get(k, int)(v) for k, v in (w.split("=") for w in text.split(","))})


@functools.cache
def dataset(name):
    """The images; MNIST from $NPDVAE_DATA or the cache of the package."""
    return data.load(name, os.environ.get("NPDVAE_DATA"))


def job(problem, backend="numba", threads=None, precision="float32"):
    """Our own job: dynamic binarization, Adam, float32; precision: of the operands of matrix products."""
    options = {} if problem.estimator == "exact" else dict(samples=problem.S)
    if problem.estimator == "reinforce":
        options |= dict(baseline="constant", baseline_value=problem.baseline)
    return build.build(config.Config(
        data=problem.data, data_dir=os.environ.get("NPDVAE_DATA"), binarize="dynamic", latents=problem.D,
        categories=problem.K, hidden=list(problem.hidden), estimator=problem.estimator, lr=LR, batch_size=problem.B,
        backend=backend, threads=threads, seed=problem.seed, matmul_precision=precision, **options).check())


def params(problem):
    """First parameters by name, NumPy float32."""
    return build.fresh_state(job(problem, "numpy")).params


def probabilities(problem):
    """Training images [N, P] as float32 probabilities, as a peer keeps them."""
    d = dataset(problem.data)
    x = d.train.astype(np.float32)
    return np.divide(x, np.float32(d.levels), out=x)               # no second copy in a peer's peak memory


def agreed(problem, examples=8):
    """x [b, P], codes int [S b, D] (None for exact), and our loss and gradients for them in float64."""
    ours = job(problem._replace(B=examples), "numpy")
    x = (probabilities(problem)[:examples] > 0.5).astype(np.float64)
    weights = {k: v.astype(np.float64) for k, v in params(problem).items()}
    generator = ours.engine.latent_rng.at(0)
    h, _ = ours.model.encoder.forward(weights, x)
    draw = ours.model.latent.estimator.sample(h.reshape(examples, problem.D, problem.K), generator)
    codes = None if problem.estimator == "exact" else draw.codes.reshape(-1, problem.D)
    result = step(ours.model, weights, x, ours.engine.latent_rng.at(0))
    return x.astype(np.float32), codes, float((result.cost + result.kl).mean()), result.grads
