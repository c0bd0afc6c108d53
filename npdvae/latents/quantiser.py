"""What quantisers share: q(z | x) is one code, so the bound is its cost and -log p(code); nothing of that moves h."""
from __future__ import annotations

from typing import Any, NamedTuple

from npdvae.latents.discrete import Discrete
from npdvae.latents.softened import Softened


class Point(NamedTuple):
    """q(z | x) of each example, all of it on one code."""

    codes: Any                                  # int [B, D]
    kl: Any                                     # [B, D], nats: -log p(code_d | those before)


class Quantiser(Discrete):
    """-log p(x) <= cost(k(x)) - log p(k(x)) (deterministic q). A learned prior learns from the codes, with weight 1.

    Subclasses fill in `quantise`, `distances` and the training step, whose `Kept` has the codes [B, D] and h.
    """

    weighs_kl = False

    def quantise(self, params, h):
        """The code of each example: h [B, E] -> int [B, D]."""
        raise NotImplementedError

    def distances(self, params, h):
        """Squared distance of each latent to its K values: [B, D, K]."""
        raise NotImplementedError

    def soft(self, temperature):
        """This latent for evaluation with q_tau(z | x) = softmax(-distances / tau): also a bound, and no point."""
        return Softened(self, temperature)

    def terms(self, params, codes):
        """log p(z_d | z_<d) of codes int [..., D]: [..., D]."""
        if not self.prior.factorised:
            return self.prior.terms(params, codes)
        rows = self.prior.log_rows(params)                          # [D, K]
        return rows[self.ops.xp.arange(self.latents), codes]

    def kl(self, params, kept, weights):
        return -self.terms(params, kept.codes).sum(-1)              # [B]

    def prior_gradients(self, params, kept, scale):
        """Gradients of scale * sum_b -log p(code_b) w.r.t. the prior's parameters, by name."""
        if not self.prior.learns:
            return {}
        minus = self.ops.xp.full((1, len(kept.h)), -1.0, kept.h.dtype)          # [1, B]
        return {k: scale * g for k, g in self.prior.log_prob_backward(params, minus, kept.codes[None]).items()}

    def posterior(self, params, h):
        codes = self.quantise(params, h)                            # [B, D]
        return Point(codes, -self.terms(params, codes))

    def readout(self, q):
        return self.ops.one_hot(q.codes, self.categories, q.kl.dtype)       # [B, D, K]

    def sample(self, params, q, rng, samples):
        return self.ops.xp.broadcast_to(q.codes, (samples, *q.codes.shape))

    def mode(self, params, q):
        return q.codes

    def log_ratio(self, params, q, z):
        here = (z == q.codes).all(-1)                               # [S, B]
        return self.ops.xp.where(here, self.terms(params, z).sum(-1), -self.ops.xp.inf)
