"""Dirichlet variables, normalised Gamma variates by implicit reparameterisation (Figurnov et al. 2018)."""
from __future__ import annotations

from typing import Any, NamedTuple

from npdvae.latents import register
from npdvae.latents.gamma import Implicit, Kept
from npdvae.ops.special import digamma, lgamma, trigamma


class Posterior(NamedTuple):
    """q(z | x) of each example: [B, D] each."""

    alpha: Any
    kl: Any                                     # nats


@register
class Dirichlet(Implicit):
    """h = log alpha, exp(z) = g / sum g on the simplex of D corners, prior uniform on it; D = 2 is the Beta.

    Component d given those before is a share of the rest, Beta(alpha_d, sum of the later alphas), independent of all
    else: its KL to Beta(1, D - 1 - d) is the KL of latent d, and the last has none.
    """

    name = "dirichlet"

    def __init__(self, latents, ops=None, samples=1):
        super().__init__(latents, ops, samples, 0.0)
        if latents < 2:
            raise ValueError(f"latent dirichlet: a simplex has at least 2 corners, got latents {latents}")
        self.width = latents

    def forward(self, params, h, rng, state=None, context=None):
        """h [B, D] -> z [S, B, D], kept."""
        q = self.posterior(params, h)
        log_g, slope = self.draw(q.alpha, rng, self.samples)
        z = self.ops.log_softmax(log_g)                             # [S, B, D]
        return z, Kept(q, z, slope, q.kl)

    def cost_gradient(self, kept, cost, drows):
        dz = drows * self.ops.xp.exp(kept.z)                        # [S, B, D]
        dlog_g = self.ops.log_softmax_backward(dz, kept.z)
        return ((dlog_g * kept.slope).mean(0) * kept.q.alpha,)

    def kl_gradient(self, kept):
        xp, alpha = self.ops.xp, kept.q.alpha                       # [B, D]
        total = alpha.sum(-1, keepdims=True)                        # [B, 1]
        of_total = (total - self.latents) * trigamma(xp, total)
        return (alpha * ((alpha - 1) * trigamma(xp, alpha) - of_total),)

    def posterior(self, params, h):
        xp, D = self.ops.xp, self.latents
        alpha = xp.exp(h)                                           # [B, D]
        both = xp.cumsum(alpha[:, ::-1], -1)[:, ::-1]               # [B, D], alpha_d and all later ones
        a, b, total = alpha[:, :-1], both[:, 1:], both[:, :-1]      # [B, D - 1]
        later = xp.arange(D - 1, 0, -1).astype(h.dtype)        # [D - 1], b under the prior
        kl = (lgamma(xp, total) - lgamma(xp, a) - lgamma(xp, b) - xp.log(later)
              + (a - 1) * (digamma(xp, a) - digamma(xp, total)) + (b - later) * (digamma(xp, b) - digamma(xp, total)))
        return Posterior(alpha, xp.concatenate([kl, xp.zeros_like(kl[:, :1])], -1))

    def sample(self, params, q, rng, samples):
        return self.ops.log_softmax(self.draw(q.alpha, rng, samples)[0])    # [S, B, D]

    def mode(self, params, q):
        """The mean, since the density may be largest at a corner."""
        return self.ops.xp.log(q.alpha / q.alpha.sum(-1, keepdims=True))    # [B, D]

    def log_ratio(self, params, q, z):
        xp, D = self.ops.xp, q.alpha.dtype.type(self.latents)
        norm = lgamma(xp, q.alpha.sum(-1)) - lgamma(xp, q.alpha).sum(-1)    # [B]
        return lgamma(xp, xp.full_like(norm, D)) - norm - ((q.alpha - 1) * z).sum(-1)   # [S, B]

    def sample_prior(self, params, rng, n):
        xp = self.ops.xp
        return self.ops.log_softmax(xp.log(-xp.log(rng.uniform((1, n, self.latents))))[0])  # [n, D]

    def traverse(self, params, z, d):
        """Component d at quantiles of Beta(1, D - 1), the others in their proportions."""
        xp, D = self.ops.xp, self.latents
        rest = xp.log1p(-(xp.arange(12) + 0.5) / 12) / (D - 1)      # [12], log(1 - quantile)
        rows = z - xp.log1p(-xp.minimum(xp.exp(z[d]), 1 - 1e-6)) + rest[:, None]    # [12, D]
        rows[:, d] = xp.log(-xp.expm1(rest))
        return rows

    def check_z(self, z):
        """z = the logarithm of points of the simplex, float [N, D]."""
        total = self.ops.xp.exp(super().check_z(z)).sum(-1)         # [N]
        if not (abs(total - 1) <= 1e-4).all():
            raise ValueError(f"exp(z) must sum to 1, got {total.min()} to {total.max()}")
        return z
