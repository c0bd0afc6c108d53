"""What a training step computes, said once: the description that engines decide by, and the scalars of each step."""
from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from npdvae import latents, likelihoods, optimizers
from npdvae.mlp import MLP
from npdvae.model import DiscreteVAE
from npdvae.optimizers.base import Optimizer, Scalars


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
    matmul_precision: str = "float32"           # of the operands of matrix products


@dataclass(frozen=True)
class StepSpec:
    """Everything that a step's numbers depend on but the data, the parameters and the scalars of the step.

    A name is that of the registered class; one of the user's own, or a subclass, is "module:Class": no engine of
    whole steps knows it. None: the latent has no such part.
    """

    network: str                                # "mlp", of encoder and decoder
    encoder: tuple[int, ...]                    # sizes P, H, ..., E
    decoder: tuple[int, ...]                    # sizes F, ..., H, P
    activation: str
    latent: str
    latents: int                                # D
    categories: int | None                      # K
    likelihood: str
    likelihood_settings: Mapping[str, Any]
    optimizer: str
    batch_size: int
    binarize: str
    dtype: str
    microbatch: int | None = None               # None where the batch goes through in one piece
    clip_norm: float | None = None
    optimizer_settings: Mapping[str, Any] = field(default_factory=dict)
    estimator: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)      # of the estimator, or of the latent
    prior: str | None = None
    free_bits: float = 0.0
    matmul_precision: str = "float32"

    @property
    def method(self):
        """The estimator with its settings, for a message."""
        settings = ", ".join(f"{k}={v}" for k, v in self.settings.items())
        return f"{self.estimator} ({settings})" if settings else f"{self.estimator}"

    @property
    def codes(self):
        """K**D, or None."""
        return None if self.categories is None else self.categories ** self.latents


def describe(model, recipe: Recipe) -> StepSpec:
    """The step of a model under a recipe."""
    split = recipe.microbatch is not None and recipe.microbatch < recipe.batch_size
    return StepSpec(
        network_of(model), model.encoder.sizes, model.decoder.sizes, model.encoder.activation,
        latents.registry.name_of(model.latent), model.latent.latents, model.latent.categories,
        likelihoods.registry.name_of(model.likelihood), model.likelihood.settings(),
        optimizers.registry.name_of(recipe.optimizer), recipe.batch_size, recipe.binarize, np.dtype(recipe.dtype).name,
        recipe.microbatch if split else None, recipe.clip_norm, recipe.optimizer.settings(),
        matmul_precision=recipe.matmul_precision, **model.latent.spec())


def network_of(model) -> str:
    """What encodes and decodes: "mlp", or the first class that is another."""
    for part, cls in ((model, DiscreteVAE), (model.encoder, MLP), (model.decoder, MLP)):
        if type(part) is not cls:
            return f"{type(part).__module__}:{type(part).__qualname__}"
    return "mlp"


class StepScalars(NamedTuple):
    """What changes from step to step, but the latent's state."""

    lr: float
    update: Scalars                             # of the optimizer
    kl_weight: float
    scale: float                                # 1/B: losses are means over the batch


def scalars(recipe: Recipe, step: int, examples: int) -> StepScalars:
    """The scalars of the 0-based step, on a batch of so many examples: every engine's, from here."""
    lr = recipe.lr(step)
    return StepScalars(lr, recipe.optimizer.scalars(step + 1, lr), recipe.kl_weight(step), 1 / examples)
