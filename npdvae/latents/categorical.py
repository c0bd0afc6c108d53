"""D independent categorical variables of K categories (eq. 46, 47): analytic KL, any estimator for the rest."""
from __future__ import annotations

import math
from typing import Any, NamedTuple

PRIORS = ("uniform", "learned")


class Kept(NamedTuple):
    """What the backward of the latent layer needs."""

    draw: Any                                   # the estimator's draw
    log_q: Any                                  # [B, D, K]
    kl: Any                                     # [B, D], nats


class Categorical:
    """The latent layer; a learned prior is D rows of logits, parameter `latent.prior` [D, K].

    `free_bits` (nats per latent and example, Kingma et al. 2016): a latent's KL below it costs a constant.
    """

    def __init__(self, latents, categories, estimator, ops, prior="uniform", free_bits=0.0):
        for name, value in (("latents", latents), ("categories", categories)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        if prior not in PRIORS:
            raise ValueError(f"unknown prior {prior!r}: expected one of {', '.join(PRIORS)}")
        if free_bits < 0:
            raise ValueError(f"free bits must not be negative, got {free_bits}")
        if free_bits and estimator.objective != "expectation":
            raise ValueError(f"estimator {estimator.name} has no analytic KL, so free bits cannot apply")
        estimator.check(latents, categories)
        self.latents, self.categories, self.estimator, self.ops = latents, categories, estimator, ops
        self.prior, self.free_bits = prior, free_bits
        self.width = latents * categories

    def init(self, dtype):
        """Parameters of the prior: uniform to start with."""
        if self.prior == "uniform":
            return {}
        import numpy as np
        return {"latent.prior": np.zeros((self.latents, self.categories), dtype)}

    def log_prior(self, params):
        """log p(z_d = k): [D, K], in nats."""
        if self.prior == "uniform":
            return self.ops.xp.full((self.latents, self.categories), -math.log(self.categories))
        return self.ops.log_softmax(params["latent.prior"])

    def forward(self, params, h, rng, state=None, context=None):
        """Encoder output h [B, D*K] -> codes z, penalty [B] (the KL of eq. 61, in nats), kept."""
        logits = h.reshape(len(h), self.latents, self.categories)   # [B, D, K]
        draw = self.estimator.sample(logits, rng, state, context)
        kept = self.posterior(params, logits, draw)
        return draw.codes, kept.kl.sum(-1), kept

    def posterior(self, params, logits, draw=None):
        """log q and KL rows of logits [B, D, K]."""
        log_q = self.ops.log_softmax(logits)                        # [B, D, K]
        if self.prior == "uniform":
            return Kept(draw, log_q, self.ops.kl_uniform(log_q))
        return Kept(draw, log_q, self.ops.kl_categorical(log_q, self.log_prior(params)))

    def objective_cost(self, params, kept, cost):
        """The cost [S, B] of the estimator's objective: -log p(x | z), or -log p(x, z) where no KL is analytic."""
        if self.estimator.objective == "expectation":
            return cost
        log_p = self.log_prior(params).astype(cost.dtype)           # [D, K]
        return cost - self.ops.log_prob(log_p, kept.draw.codes)     # [S, B]

    def weigh(self, params, kept, cost):
        """Weight [S, B or 1] of each evaluation in the gradient of the decoder."""
        return self.estimator.weigh(kept.draw, self.objective_cost(params, kept, cost))

    def backward(self, params, kept, cost, dz, state=None, kl_weight=1.0, scale=1.0):
        """Adjoint of `forward` through KL (eq. 70) and estimator (eq. 81): dh [B, D*K], gradients by name.

        cost [S, B] and dz [S, B, D, K] (or None) are unweighted; `scale` (1/B for a batch mean) multiplies all.
        """
        ops, analytic = self.ops, self.estimator.objective == "expectation"
        cost = self.objective_cost(params, kept, cost)
        dlogits = self.estimator.backward(kept.draw, cost, dz, state)   # [B, D, K]
        dprior = None
        if analytic:
            dkl = ops.xp.where(kept.kl >= self.free_bits, kl_weight, 0.0).astype(kept.kl.dtype)   # [B, D]
            if self.prior == "uniform":
                dlogits = dlogits + ops.kl_uniform_backward(dkl, kept.log_q)
            else:
                dq, dp = ops.kl_categorical_backward(dkl, kept.log_q, self.log_prior(params))
                dlogits, dprior = dlogits + dq, dp.sum(0)           # [D, K]
        elif self.prior == "learned":
            dprior = self.prior_backward(params, kept, cost)
        grads = {} if dprior is None else {"latent.prior": scale * dprior}
        return (scale * dlogits).reshape(len(dlogits), self.width), grads

    def prior_backward(self, params, kept, cost):
        """Gradient of the weighted -log p(z) w.r.t. the prior's logits: [D, K]."""
        weights = self.estimator.weigh(kept.draw, cost)             # [S, B or 1]
        weights = self.ops.xp.broadcast_to(weights, cost.shape)
        dlog_p = self.ops.log_prob_backward(-weights, kept.draw.codes, self.categories)   # [S, B, D, K]
        return self.ops.log_softmax_backward(dlog_p.sum((0, 1)), self.log_prior(params))

    def sample_prior(self, params, rng, n):
        """Codes from the prior: int [n, D]."""
        p = self.ops.xp.exp(self.log_prior(params))                 # [D, K]
        u = rng.uniform((1, n, self.latents))[0]                    # [n, D]
        return self.ops.inverse_cdf(self.ops.xp.broadcast_to(p, (n, *p.shape)), u)
