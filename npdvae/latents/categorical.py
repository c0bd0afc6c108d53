"""D independent categorical variables of K categories (eq. 46, 47): analytic KL, any estimator for the rest."""
from __future__ import annotations

from typing import Any, NamedTuple

from npdvae import estimators, priors
from npdvae.latents import register
from npdvae.latents.discrete import Discrete
from npdvae.state import LEARNED


class Posterior(NamedTuple):
    """q(z | x) of each example."""

    log_q: Any                                  # [B, D, K]
    kl: Any                                     # [B, D], nats; None where the prior is not factorised


class Kept(NamedTuple):
    """What the backward of the latent layer needs."""

    draw: Any                                   # the estimator's draw
    q: Posterior


@register
class Categorical(Discrete):
    """The latent layer around an estimator: one of `npdvae.estimators`, or its name and its `options`.

    `free_bits` (nats per latent and example, Kingma et al. 2016): a latent's KL below it costs a constant.
    """

    name = "categorical"

    def __init__(self, latents, categories=8, estimator="rloo", ops=None, prior="uniform", free_bits=0.0, **options):
        if isinstance(estimator, str):
            estimator = estimators.get(estimator, ops=ops, **options)
        elif options:
            raise ValueError(f"latent categorical has no option {next(iter(options))!r}: its estimator is made already")
        super().__init__(latents, categories, estimator.ops if ops is None else ops, prior)
        if free_bits < 0:
            raise ValueError(f"free bits must not be negative, got {free_bits}")
        if free_bits and not estimator.analytic_kl:
            raise ValueError(f"estimator {estimator.name} has no analytic KL, so free bits cannot apply")
        if free_bits and not self.prior.factorised:
            raise ValueError(f"prior {priors.registry.name_of(self.prior)} has no KL for each latent, so free bits "
                             "cannot apply")
        if estimator.has_kl and (free_bits or prior != "uniform"):
            raise ValueError(f"estimator {estimator.name} has a KL of its own, to a uniform prior, without free bits")
        estimator.check(latents, categories)
        self.estimator, self.free_bits = estimator, free_bits
        self.width = self.features = latents * categories
        self.needs_dz, self.samples, self.relaxed = estimator.needs_dcodes, estimator.samples, estimator.relaxed
        self.couples_batch = estimator.couples_batch
        self.weighs_kl = estimator.analytic_kl and self.prior.factorised    # else log p(z) is a part of the cost

    def init_state(self, rng, context_size):
        return self.estimator.init(rng, self.latents, self.categories, context_size)

    def check_length(self, steps):
        self.estimator.check_length(steps)

    def spec(self):
        return {**super().spec(), "free_bits": self.free_bits, "settings": self.estimator.settings(),
                "estimator": estimators.registry.name_of(self.estimator)}

    # ---- the training step ----------------------------------------------------------------------------------------

    def logits(self, params, h):
        """h [B, D*K] -> [B, D, K]."""
        return h.reshape(len(h), self.latents, self.categories)

    def forward(self, params, h, rng, state=None, context=None):
        """Encoder output h [B, D*K] -> codes int [S, B or 1, D] or rows [S, B, D, K], kept."""
        draw = self.estimator.sample(self.logits(params, h), rng, state, context)
        return draw.codes, Kept(draw, self.posterior(params, h))

    def rows(self, params, z):
        return z if z.dtype.kind in "iu" else z.reshape(*z.shape[:-2], self.features)       # [..., D*K]

    def objective_cost(self, params, kept, cost):
        """The cost [S, B] of the estimator's objective: -log p(x | z), or -log p(x, z) where no KL is analytic."""
        if self.weighs_kl:
            return cost
        return cost - self.prior.log_prob(params, kept.draw.codes, cost.dtype)   # [S, B]

    def weigh(self, params, kept, cost):
        return self.estimator.weigh(kept.draw, self.objective_cost(params, kept, cost))

    def shares(self, weights):
        return weights if self.estimator.analytic_kl else 1 / len(weights)      # the ELBO's own average

    def kl(self, params, kept, weights):
        if self.estimator.has_kl:
            return self.estimator.rows_kl(kept.draw).sum(-1)
        if self.prior.factorised:
            return kept.q.kl.sum(-1)                                # [B], eq. 61
        log_p = self.prior.log_prob(params, kept.draw.codes)        # [S, B or 1]
        return -(self.shares(weights) * log_p).sum(0) - self.ops.entropy(kept.q.log_q).sum(-1)

    def backward(self, params, kept, cost, dz, state=None, kl_weight=1.0, scale=1.0):
        dlogits, grads, learned = self.logits_backward(params, kept, cost, dz, state, kl_weight)
        B, grads = len(dlogits), {k: scale * g for k, g in grads.items()}
        return (scale * dlogits).reshape(B, self.width), {**grads, **self.named(learned, B * scale)}

    def named(self, learned, scale):
        """Gradients of learned entries of the state among those of parameters; scale: B times that of one example."""
        return {LEARNED + k: g if scale == 1 else scale * g for k, g in learned.items()}

    def logits_backward(self, params, kept, cost, dz, state, kl_weight):
        """Through KL (eq. 70) and estimator (eq. 81): dlogits [B, D, K], gradients by name, and of the state's."""
        cost, dcodes = self.objective_cost(params, kept, cost), self.dcodes(params, kept, dz)
        draw = self.estimator.prepare(kept.draw, cost, dcodes, state)
        dlogits = self.estimator.backward(draw, cost, dcodes, state)    # [B, D, K]
        found = getattr(dlogits, "shape", dlogits)
        if found != draw.logits.shape:
            raise ValueError(f"estimator {self.estimator.name}: backward gave {found!s:.50}, expected [B, D, K] = "
                             f"{draw.logits.shape}")
        learned = {} if state is None else self.estimator.learn(draw, cost, dcodes, state)
        if self.estimator.has_kl:
            return dlogits + kl_weight * self.estimator.rows_kl_backward(kept.draw), {}, learned
        if self.weighs_kl:
            dlogits, grads = self.prior.plus_kl_backward(params, dlogits, kl_weight, self.free_bits, *kept.q)
        else:                                                       # log p(z) is a part of the cost
            if self.estimator.analytic_kl:                          # and -H(q) is what is left of the KL
                ones = self.ops.xp.ones_like(kept.q.log_q).mean(-1)             # [B, D]
                dlogits = dlogits + self.ops.entropy_backward(-ones, kept.q.log_q)
            weights = self.ops.xp.broadcast_to(self.estimator.weigh(kept.draw, cost), cost.shape)   # [S, B]
            grads = self.prior.log_prob_backward(params, -weights, kept.draw.codes)
        return dlogits, grads, learned

    def advance(self, params, kept, cost, dz, state):
        if state is None:
            return {}, None
        cost = self.objective_cost(params, kept, cost)
        return {}, self.estimator.advance(kept.draw, cost, state)

    def dcodes(self, params, kept, dz):
        """d objective cost / d codes: dz [S, B, D*K] or None -> [S, B, D, K] or None."""
        if dz is None:
            return None
        dcodes = dz.reshape(*dz.shape[:2], self.latents, self.categories)
        return dcodes if self.weighs_kl else dcodes - self.prior.dcodes(params, kept.draw.codes)

    # ---- evaluation -----------------------------------------------------------------------------------------------

    def posterior(self, params, h):
        return Posterior(*self.prior.posterior(params, self.logits(params, h)))

    def kl_of(self, params, q, z):
        if self.prior.factorised:
            return q.kl
        return -self.prior.terms(params, z).mean(0) - self.ops.entropy(q.log_q)     # [B, D]

    def readout(self, q):
        return self.ops.xp.exp(q.log_q)                             # [B, D, K]

    def sample(self, params, q, rng, samples):
        B, D, _ = q.log_q.shape
        u = rng.uniform((samples, B, D), q.log_q.dtype)             # [S, B, D]
        return self.ops.inverse_cdf(self.ops.xp.exp(q.log_q), u)

    def mode(self, params, q):
        return q.log_q.argmax(-1)                                   # [B, D]

    def log_ratio(self, params, q, z):
        return self.prior.log_prob(params, z) - self.ops.log_prob(q.log_q, z)    # [S, B]

    def check_z(self, z):
        """Codes int [N, D], or rows [N, D, K] of any weights."""
        D, K = self.latents, self.categories
        if z.dtype.kind in "iu" or z.shape[1:] != (D, K):
            if z.dtype.kind not in "iu" or z.shape[1:] != (D,):
                raise ValueError(f"codes must be int [N, {D}] or float [N, {D}, {K}], got {z.dtype} {list(z.shape)}")
            return super().check_z(z)
        return z
