"""A latent between random encoder outputs and a small decoder: what its proofs stand on. float64 throughout."""
from __future__ import annotations

import copy
from typing import Any, NamedTuple

import numpy as np

from npdvae.rng import INIT, Generator
from npdvae.types import Array, Params
from npdvae.verify import costs

IMAGES = 3                                      # of the batch
KL_WEIGHT = 0.7                                 # not one, so that a forgotten factor shows


class Proof(NamedTuple):
    """One line of the table: what is claimed of a latent, and how far the truth is from it."""

    latent: str
    claim: str
    size: str                                                       # D, or D x K
    method: str
    error: float                                                    # of the largest entry of what is compared
    tolerance: float
    verdict: str                                                    # holds, BROKEN or not tried
    note: str


def largest(*errors: Any) -> float:
    """The largest of numbers or arrays; NaN where one is."""
    return float(np.max([np.max(error) for error in errors]))


def proof(layer: Layer, claim: str, method: str, error: float, tolerance: float, note: str = "") -> Proof:
    """The verdict on an error; NaN is BROKEN."""
    return Proof(layer.name, claim, layer.size, method, float(error), tolerance,
                 "holds" if error <= tolerance else "BROKEN", note)


class Layer:
    """A latent with random parameters and state, h [B, E], and a smooth cost of what the decoder reads, in nats."""

    step: float | None = None                   # of the rule that integrates over the noise, once it is known

    def __init__(self, latent: Any, name: str | None = None, seed: int = 0):
        noise = np.random.default_rng(seed)
        self.latent, self.name = latent, name or latent.name
        fresh = latent.init(Generator(seed, INIT), np.float64)
        self.params: Params = {k: v + 0.5 * noise.normal(size=v.shape) for k, v in fresh.items()}
        self.params["decoder.0.weight"] = np.zeros((latent.features, 1))    # whose type some latents read
        state = latent.init_state(Generator(seed, INIT), 3)
        self.state = state and {k: v * noise.uniform(0.6, 1.4, v.shape) if v.any() else noise.normal(size=v.shape)
                                for k, v in state.items()}          # sizes stay positive
        self.params = latent.refresh(self.params, self.state)
        self.context = noise.normal(size=(IMAGES, 3))
        self.h = noise.uniform(-0.8, 0.8, (IMAGES, latent.width))   # [B, E]
        rows = latent.rows(self.params, self.forward(self.h)[0])
        whole = rows.dtype.kind in "iu"                             # codes, of which the decoder picks weights
        self.of_rows = costs.make("decoder", seed, 1, *((latent.latents, latent.categories) if whole
                                                        else (latent.features, 1)))

    def with_latent(self, latent: Any) -> Layer:
        """This problem with another latent in the same place."""
        other = copy.copy(self)
        other.latent = latent
        return other

    def with_step(self, step: float) -> Layer:
        """This problem with another step of the rule for its noise."""
        other = copy.copy(self)
        other.step = step
        return other

    def with_params(self, params: Params) -> Layer:
        """This problem with other parameters."""
        other = copy.copy(self)
        other.params = params
        return other

    @property
    def size(self) -> str:
        K = self.latent.categories
        return f"{self.latent.latents}" + (f"x{K}" if K else "")

    def forward(self, h: Array, rng: Any = None, params: Params | None = None) -> tuple[Array, Any]:
        """z and what is kept, at the same noise unless `rng` says otherwise."""
        rng = Generator(1) if rng is None else rng
        context = np.resize(self.context, (len(h), 3))
        return self.latent.forward(self.params if params is None else params, h, rng, self.state, context)

    def cost(self, rows: Array) -> Array:
        """Of decoder inputs int [S, B, D] or float [S, B, F], all of one image: [S, B]."""
        rows = self.shaped(rows)
        return self.of_rows(rows.reshape(-1, 1, *rows.shape[2:])).reshape(rows.shape[:2])

    def dcost(self, rows: Array) -> Array:
        """Its gradient as `backward` takes it: [S, B, F], or [S, B, D, K] of codes."""
        shaped = self.shaped(rows)
        g = self.of_rows.gradient(shaped.reshape(-1, 1, *shaped.shape[2:]))     # [S B, 1, ..]
        return g.reshape(*shaped.shape[:2], *g.shape[2:]) if rows.dtype.kind in "iu" else g.reshape(rows.shape)

    def shaped(self, rows: Array) -> Array:
        """Rows as costs read them: int [S, B, D], or float [S, B, F, 1]."""
        return rows if rows.dtype.kind in "iu" else rows[..., None]

    def loss(self, h: Array, params: Params, kl_weight: float) -> Any:
        """sum_b cost + kl_weight KL as the step descends it, at the same noise. h may be complex."""
        z, kept = self.forward(h, None, params)
        cost = self.cost(self.latent.rows(params, z))               # [S, B]
        weights = self.latent.weigh(params, kept, np.broadcast_to(cost.real, (len(cost), len(h))))
        return (weights * cost).sum() + kl_weight * self.latent.kl(params, kept, weights).sum()

    def gradients(self, h: Array, rng: Any = None, kl_weight: float = KL_WEIGHT,
                  cost_weight: float = 1.0) -> tuple[Array, Params]:
        """`backward` with scale 1: dh [B, E], gradients by name."""
        z, kept = self.forward(h, rng)
        rows = self.latent.rows(self.params, z)
        cost = cost_weight * np.broadcast_to(self.cost(rows), (len(rows), len(h)))
        dz = cost_weight * self.dcost(rows) if self.latent.needs_dz else None
        return self.latent.backward(self.params, kept, cost, dz, self.state, kl_weight, 1.0)

    @property
    def kl_weight(self) -> float:
        """A weight that the latent takes; 0 where what it descends is no KL."""
        if getattr(self.latent, "penalty", "") == "parameters":
            return 0.0
        return KL_WEIGHT if self.latent.weighs_kl else 1.0
