"""Kumaraswamy(a, b) variables on (0, 1) by their inverse CDF, prior U(0, 1) (Nalisnick and Smyth 2017).

    y = u^(1/b),  x = (1 - y)^(1/a),  KL = log(a b) - (1 - 1/a) (gamma + digamma(b + 1)) - (1 - 1/b).

z is log x, which keeps what x loses next to 1; the decoder reads x.
"""
from __future__ import annotations

import math
from typing import Any, NamedTuple

from npdvae.latents import register
from npdvae.latents.reparameterised import Reparameterised
from npdvae.ops.special import digamma, trigamma
from npdvae.types import Array

EULER = 0.5772156649015329
NEAREST = -1e-30                                # of z to 0: a z is still a normal number of float32


class Posterior(NamedTuple):
    """q(z | x) of each example: [B, D] each."""

    log_a: Any
    log_b: Any
    kl: Any                                     # nats


class Kept(NamedTuple):
    """What the backward of the latent layer needs."""

    q: Posterior
    log_y: Any                                  # [S, B, D]
    z: Any                                      # [S, B, D]
    kl: Any                                     # [B, D], analytic or sampled


@register
class Kumaraswamy(Reparameterised):
    """h = (log a, log b). `kl`: analytic, or sampled: log q(x) at the x drawn."""

    name = "kumaraswamy"

    def __init__(self, latents, ops=None, samples=1, kl="analytic", free_bits=0.0):
        super().__init__(latents, ops, samples, free_bits)
        self.penalty, self.width = self.choose("kl", kl, ("analytic", "sampled")), 2 * latents

    def spec(self):
        return {"free_bits": self.free_bits, "settings": {"samples": self.samples, "penalty": self.penalty}}

    # ---- the training step ----------------------------------------------------------------------------------------

    def draw(self, q: Posterior, u: Array) -> tuple[Array, Array]:
        """log y and z at uniforms u: [S, B, D] each."""
        log_y = self.ops.xp.log(u) / self.ops.xp.exp(q.log_b)
        return log_y, self.ops.xp.minimum(self.log1m_exp(log_y) / self.ops.xp.exp(q.log_a), NEAREST)

    def log1m_exp(self, v: Array) -> Array:
        """log(1 - exp(v)) for v < 0, exact at both ends."""
        xp, near = self.ops.xp, v > -math.log(2)
        return xp.where(near, xp.log(-xp.expm1(xp.where(near, v, -1))), xp.log1p(-xp.exp(xp.where(near, -1, v))))

    def forward(self, params, h, rng, state=None, context=None):
        """h [B, 2 D] -> z [S, B, D], kept."""
        q = self.posterior(params, h)
        log_y, z = self.draw(q, rng.uniform((self.samples, *q.log_a.shape), h.dtype))
        if self.penalty == "analytic":
            return z, Kept(q, log_y, z, q.kl)
        a, b = self.ops.xp.exp(q.log_a), self.ops.xp.exp(q.log_b)
        log_q = q.log_a + q.log_b + (a - 1) * z + (b - 1) * log_y   # [S, B, D]; 1 - x^a = y
        return z, Kept(q, log_y, z, log_q.mean(0))

    def rows(self, params, z):
        """x."""
        return self.ops.xp.exp(z)

    def by_log_b(self, kept: Kept) -> Array:
        """dz / d log b at fixed noise: [S, B, D]."""
        xp, q = self.ops.xp, kept.q
        return xp.exp(kept.log_y - self.log1m_exp(kept.log_y) - q.log_a) * kept.log_y

    def cost_gradient(self, kept, cost, drows):
        dz = drows * self.ops.xp.exp(kept.z)                        # [S, B, D]
        return -(dz * kept.z).mean(0), (dz * self.by_log_b(kept)).mean(0)

    def kl_gradient(self, kept):
        xp, q = self.ops.xp, kept.q
        a, b = xp.exp(q.log_a), xp.exp(q.log_b)                     # [B, D]
        if self.penalty == "sampled":
            return 1 + kept.z.mean(0), 1 + ((a - 1) * self.by_log_b(kept) + kept.log_y).mean(0)
        return (1 - (EULER + digamma(xp, b + 1)) / a,
                1 - b * (1 - 1 / a) * trigamma(xp, b + 1) - 1 / b)

    # ---- evaluation -----------------------------------------------------------------------------------------------

    def posterior(self, params, h):
        xp, log_a, log_b = self.ops.xp, h[:, :self.latents], h[:, self.latents:]    # [B, D] each
        a, b = xp.exp(log_a), xp.exp(log_b)
        kl = log_a + log_b - (1 - 1 / a) * (EULER + digamma(xp, b + 1)) - (1 - 1 / b)
        return Posterior(log_a, log_b, kl)

    def readout(self, q):
        return {"a": self.ops.xp.exp(q.log_a), "b": self.ops.xp.exp(q.log_b)}       # [B, D] each

    def sample(self, params, q, rng, samples):
        return self.draw(q, rng.uniform((samples, *q.log_a.shape), q.log_a.dtype))[1]   # [S, B, D]

    def mode(self, params, q):
        """The median, since the density may be largest at an end."""
        return self.draw(q, self.ops.xp.full_like(q.log_a, 0.5))[1]     # [B, D]

    def log_ratio(self, params, q, z):
        a, b = self.ops.xp.exp(q.log_a), self.ops.xp.exp(q.log_b)   # [B, D]
        log_q = q.log_a + q.log_b + (a - 1) * z + (b - 1) * self.log1m_exp(a * z)   # [S, B, D]
        return -log_q.sum(-1)                                       # [S, B]

    def sample_prior(self, params, rng, n):
        return self.ops.xp.log(rng.uniform((1, n, self.latents)))[0]    # [n, D]

    def traverse(self, params, z, d):
        xp = self.ops.xp
        return self.set_latent(z, d, xp.log((xp.arange(12) + 0.5) / 12))    # [12, D]

    def check_z(self, z):
        """z = log x, float [N, D]."""
        if not (super().check_z(z) <= 0).all():
            raise ValueError(f"z is the logarithm of numbers in (0, 1), got {z.max()}")
        return z
