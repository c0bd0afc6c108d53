"""A training run small enough for the emulator, on any backend and engine."""
from __future__ import annotations

import numpy as np

from npdvae import optimizers, rng
from npdvae.data.dataset import Dataset
from npdvae.engine import Readable, Recipe
from npdvae.latents.categorical import Categorical
from npdvae.model import DiscreteVAE
from npdvae.state import TrainState

IMAGES, PIXELS = 23, 14                         # neither a multiple of the batch nor of four


def dataset(kind="bytes"):
    """Random grey images, a third of the pixels black, some white."""
    g = np.random.default_rng(0)
    rows = g.integers(1, 256, (IMAGES + 6, PIXELS)) * (g.random((IMAGES + 6, PIXELS)) > 0.3)
    rows[g.random(rows.shape) < 0.1] = 255
    levels = 255
    rows = rows.astype(np.uint8)
    if kind == "floats":
        rows, levels = (rows / np.float32(255)).astype(np.float32), 1
    if kind == "binary":
        rows, levels = (rows > 99).astype(np.uint8), 1
    return Dataset("small", rows[6:], rows[:6], (2, 7), levels)


def engine(ops, name, options=None, *, latents=2, categories=3, hidden=(9, 7), dtype=np.float64, optimizer="adam",
           batch=5, microbatch=None, clip=None, binarize="dynamic", data="bytes", activation="relu", prior="uniform",
           free_bits=0.0, kind=Readable):
    """An engine of `kind` with fresh state: learning rate and KL weight change at every step."""
    latent = Categorical(latents, categories, name, ops, prior, free_bits, **(options or {}))
    model = DiscreteVAE(PIXELS, hidden, latent, activation=activation)
    recipe = Recipe(optimizers.get(optimizer, ops=ops), lambda s: 1e-2 * 0.9 ** s, lambda s: min(1.0, (s + 1) / 4),
                    batch, microbatch, clip, binarize, 3, np.dtype(dtype))
    made = kind(model, recipe, dataset(data))
    made.load(fresh(made))
    return made


def fresh(made):
    """The state before the first step; a learned prior starts away from uniform."""
    generator = rng.Generator(3, rng.INIT)
    model, dtype = made.model, made.recipe.dtype
    params = model.init(generator, dtype)
    if "latent.prior" in params:
        params["latent.prior"] = np.random.default_rng(5).normal(size=params["latent.prior"].shape).astype(dtype)
    estimator = model.latent.init_state(generator, PIXELS)
    estimator = None if estimator is None else {k: np.asarray(made.ops.to_host(v)) for k, v in estimator.items()}
    moments = optimizers.get(made.recipe.optimizer.name).init(params)
    return TrainState(params, moments, estimator, 0)


def order(seed=1):
    return np.random.default_rng(seed).permutation(IMAGES)
