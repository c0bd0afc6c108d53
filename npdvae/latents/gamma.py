"""Gamma variables by implicit reparameterisation (Figurnov et al. 2018).

A standard Gamma variate g is the inverse CDF of one uniform, so dg / d alpha is a derivative at fixed noise. z is the
logarithm of the variable, since g underflows for small alpha; the decoder reads exp(z). float64 inside.
"""
from __future__ import annotations

from typing import Any, NamedTuple

from npdvae.latents import register
from npdvae.latents.reparameterised import Reparameterised
from npdvae.ops.gamma import log_gamma_variate
from npdvae.ops.kernelled import kernelled
from npdvae.ops.special import digamma, lgamma, trigamma
from npdvae.types import Array


class Kept(NamedTuple):
    """What the backward of the latent layer needs."""

    q: Any
    z: Any                                      # [S, B, D]
    slope: Any                                  # [S, B, D], d log g / d alpha
    kl: Any                                     # [B, D]


@kernelled
def variates(ops, alpha, u):
    """log g and d log g / d alpha at uniforms u [S, B, D], in the type of alpha [B, D]: [S, B, D] each."""
    log_g, slope = log_gamma_variate(ops.xp, alpha, u)
    return log_g.astype(alpha.dtype), slope.astype(alpha.dtype)


class Implicit(Reparameterised):
    """A latent made of D standard Gamma variates."""

    def draw(self, alpha: Array, rng: Any, samples: int) -> tuple[Array, Array]:
        """log g and d log g / d alpha: [S, B, D] each, in the type of alpha."""
        return variates(self.ops, alpha, rng.uniform((samples, *alpha.shape), alpha.real.dtype))

    def rows(self, params, z):
        """The variable itself."""
        return self.ops.xp.exp(z)


class Posterior(NamedTuple):
    """q(z | x) of each example: [B, D] each."""

    alpha: Any
    s: Any                                      # log of the scale theta
    kl: Any                                     # nats


@register
class Gamma(Implicit):
    """h = (log alpha, s), exp(z) = exp(s) g, prior Exp(1).

    KL = alpha theta - alpha - s - log Gamma(alpha) - (1 - alpha) digamma(alpha).
    """

    name = "gamma"

    def __init__(self, latents, ops=None, samples=1, free_bits=0.0):
        super().__init__(latents, ops, samples, free_bits)
        self.width = 2 * latents

    def forward(self, params, h, rng, state=None, context=None):
        """h [B, 2 D] -> z [S, B, D], kept."""
        q = self.posterior(params, h)
        log_g, slope = self.draw(q.alpha, rng, self.samples)
        return q.s + log_g, Kept(q, q.s + log_g, slope, q.kl)

    def cost_gradient(self, kept, cost, drows):
        dz = drows * self.ops.xp.exp(kept.z)                        # [S, B, D]
        return (dz * kept.slope).mean(0) * kept.q.alpha, dz.mean(0)

    def kl_gradient(self, kept):
        xp, alpha, theta = self.ops.xp, kept.q.alpha, self.ops.xp.exp(kept.q.s)     # [B, D]
        return alpha * (theta - 1 - (1 - alpha) * trigamma(xp, alpha)), alpha * theta - 1

    def posterior(self, params, h):
        xp, s = self.ops.xp, h[:, self.latents:]                    # [B, D]
        alpha = xp.exp(h[:, :self.latents])
        kl = alpha * (xp.exp(s) - 1) - s - lgamma(xp, alpha) - (1 - alpha) * digamma(xp, alpha)
        return Posterior(alpha, s, kl)

    def readout(self, q):
        return {"alpha": q.alpha, "scale": self.ops.xp.exp(q.s)}    # [B, D] each

    def sample(self, params, q, rng, samples):
        return q.s + self.draw(q.alpha, rng, samples)[0]            # [S, B, D]

    def mode(self, params, q):
        return self.ops.xp.log(q.alpha) + q.s                       # of z: the mean of exp(z)

    def log_ratio(self, params, q, z):
        xp, log_g = self.ops.xp, z - q.s                            # [S, B, D]
        log_q = q.alpha * log_g - xp.exp(log_g) - lgamma(xp, q.alpha)   # densities of z
        return (z - xp.exp(z) - log_q).sum(-1)                      # [S, B]

    def sample_prior(self, params, rng, n):
        return self.ops.xp.log(-self.ops.xp.log(rng.uniform((1, n, self.latents))))[0]     # [n, D]

    def traverse(self, params, z, d):
        xp = self.ops.xp
        return self.set_latent(z, d, xp.log(-xp.log1p(-(xp.arange(12) + 0.5) / 12)))    # [12, D]
