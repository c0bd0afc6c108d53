"""A learned prior: D rows of logits, parameter `latent.prior` [D, K]."""
import numpy as np

from npdvae.priors import register
from npdvae.priors.base import Prior


@register
class Learned(Prior):
    """p(z_d) = softmax(logits_d), uniform to start with."""

    name = "learned"

    def init(self, rng, dtype):
        return {"latent.prior": np.zeros((self.latents, self.categories), dtype)}

    def log_rows(self, params):
        return self.ops.log_softmax(params["latent.prior"])

    def log_prob_backward(self, params, dlog_p, codes):
        drows = self.ops.log_prob_backward(dlog_p, codes, self.categories)      # [S, B, D, K]
        return {"latent.prior": self.ops.log_softmax_backward(drows.sum((0, 1)), self.log_rows(params))}

    def kl_backward(self, params, dkl, log_q):
        dlogits, dprior = self.ops.kl_categorical_backward(dkl, log_q, self.log_rows(params))   # [B, D, K] each
        return dlogits, {"latent.prior": dprior.sum(0)}             # [D, K]
