"""A quantiser whose posterior is spread over its codes, for evaluation: any q(z | x) gives a bound of log p(x)."""
from __future__ import annotations

from typing import Any, NamedTuple

from npdvae.latents.base import Latent


class Soft(NamedTuple):
    log_q: Any                                  # [B, D, K]
    kl: None = None                             # only the importance-weighted bound is taken


class Softened(Latent):
    """q_tau(z_d = k | x) = softmax_k(-distance_dk / tau) of `inner`; all else is the inner latent's."""

    name = "softened"

    def __init__(self, inner, temperature):
        if not temperature > 0:
            raise ValueError(f"temperature must be positive, got {temperature}")
        super().__init__(inner.latents, inner.ops)
        self.inner, self.temperature, self.categories = inner, temperature, inner.categories

    def rows(self, params, z):
        return self.inner.rows(params, z)

    def posterior(self, params, h):
        return Soft(self.ops.log_softmax(self.inner.distances(params, h) / -self.temperature))

    def sample(self, params, q, rng, samples):
        u = rng.uniform((samples, *q.log_q.shape[:2]), q.log_q.dtype)       # [S, B, D]
        return self.ops.inverse_cdf(self.ops.xp.exp(q.log_q), u)

    def log_ratio(self, params, q, z):
        return self.inner.terms(params, z).sum(-1) - self.ops.log_prob(q.log_q, z)      # [S, B]

    def code_count(self):
        return self.inner.code_count()

    def codes(self):
        return self.inner.codes()
