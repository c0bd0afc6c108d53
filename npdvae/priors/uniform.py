"""The uniform prior, p(z_d = k) = 1/K (eq. 46): KL = log K - H(q) (eq. 61), its gradient that of the entropy."""
import math

from npdvae.priors import register
from npdvae.priors.base import Prior


@register
class Uniform(Prior):
    """Nothing to learn."""

    name = "uniform"

    def log_rows(self, params):
        return self.ops.xp.full((self.latents, self.categories), -math.log(self.categories))

    def log_prob_backward(self, params, dlog_p, codes):
        return {}

    def kl(self, params, log_q):
        return self.ops.kl_uniform(log_q)

    def kl_backward(self, params, dkl, log_q):
        return self.ops.kl_uniform_backward(dkl, log_q), {}
