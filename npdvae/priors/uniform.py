"""The uniform prior, p(z_d = k) = 1/K (eq. 46): KL = log K - H(q) (eq. 61), its gradient that of the entropy."""
import math

from npdvae.ops.kernelled import kernelled
from npdvae.priors import register
from npdvae.priors.base import Prior


@kernelled
def posterior(ops, logits):
    """log q [B, D, K] and KL [B, D] of logits."""
    log_q = ops.log_softmax(logits)
    return log_q, ops.kl_uniform(log_q)


@kernelled
def plus_kl_backward(ops, dlogits, kl_weight, free_bits, log_q, kl):
    """dlogits [B, D, K] plus the adjoint of kl_weight KL, constant where kl [B, D] is below the free bits."""
    dkl = ops.xp.where(kl >= free_bits, kl_weight, 0.0).astype(kl.dtype)    # [B, D]
    return dlogits + ops.kl_uniform_backward(dkl, log_q)


@register
class Uniform(Prior):
    """Nothing to learn."""

    name = "uniform"
    learns = False

    def log_rows(self, params):
        return self.ops.xp.full((self.latents, self.categories), -math.log(self.categories))

    def log_prob_backward(self, params, dlog_p, codes):
        return {}

    def kl(self, params, log_q):
        return self.ops.kl_uniform(log_q)

    def kl_backward(self, params, dkl, log_q):
        return self.ops.kl_uniform_backward(dkl, log_q), {}

    def posterior(self, params, logits):
        return posterior(self.ops, logits)

    def plus_kl_backward(self, params, dlogits, kl_weight, free_bits, log_q, kl):
        return plus_kl_backward(self.ops, dlogits, kl_weight, free_bits, log_q, kl), {}
