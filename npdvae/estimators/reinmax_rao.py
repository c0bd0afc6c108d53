"""ReinMax-Rao: the leading term of ReinMax replaced by its Gumbel-Rao counterpart."""
import math

from npdvae.estimators import register
from npdvae.estimators.parts.gumbel_noise import GumbelNoise, conditional_straight_through
from npdvae.ops.kernelled import kernelled
from npdvae.ops.samples import samples_mean


@kernelled
def log_midpoint(ops, log_p, codes):
    """log pb of pb = (p + z) / 2: log_p [B, D, K], codes int [S, B, D] -> [S, B, D, K], finite where p underflows."""
    z = ops.one_hot(codes, log_p.shape[-1], log_p.dtype)            # [S, B, D, K]
    return ops.xp.where(z > 0, ops.xp.log1p(ops.xp.exp(log_p)), log_p) - math.log(2)


@register
class ReinMaxRao(GumbelNoise):
    """2 GR_k(log pb) - J(p) g / 2, p = softmax(phi), pb = (p + z) / 2 (Wang & Bui 2026).

    GR_k is Gumbel-Rao at z with the logits log pb: k = conditional_draws draws at temperature tau.
    Cost: S evaluations and S backwards.
    """

    name = "reinmax_rao"

    def __init__(self, ops=None, samples=1, conditional_draws=10, temperature=0.5, anneal="constant", anneal_rate=0.0,
                 anneal_min=0.1, anneal_every=1):
        super().__init__(ops, samples)
        self.set_temperature(temperature, anneal, anneal_rate, anneal_min, anneal_every)
        if conditional_draws < 1:
            raise ValueError(f"estimator reinmax_rao needs conditional_draws >= 1, got {conditional_draws}")
        self.conditional_draws = conditional_draws

    def backward(self, draw, cost, dcodes=None, state=None):
        log_p, kept = self.ops.log_softmax(draw.logits), draw.kept   # [B, D, K]
        log_pb = log_midpoint(self.ops, log_p, draw.codes)          # [S, B, D, K]
        rao = conditional_straight_through(self.ops, log_pb, draw.codes, kept["v"], dcodes, kept["tau"])
        p = self.ops.xp.exp(log_p)                                  # [B, D, K]
        return 2 * samples_mean(rao) - self.ops.softmax_backward(samples_mean(dcodes), p) / 2   # [B, D, K]
