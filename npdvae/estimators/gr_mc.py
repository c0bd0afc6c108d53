"""Gumbel-Rao: straight-through Gumbel averaged over the noise that leads to the same codes."""
from npdvae.estimators import register
from npdvae.estimators.parts.gumbel_noise import GumbelNoise, conditional_straight_through
from npdvae.ops.samples import samples_mean


@register
class GRMC(GumbelNoise):
    """Mean over k draws of the noise, given z, of J(softmax((phi + G) / tau)) g / tau (Paulus et al. 2021).

    Same mean as straight-through Gumbel, less variance. The decoder is evaluated once per sample whatever k
    (`conditional_draws`) is. Cost: S evaluations and S backwards.
    """

    name = "gr_mc"

    def __init__(self, ops=None, samples=1, conditional_draws=10, temperature=0.5, anneal="constant", anneal_rate=0.0,
                 anneal_min=0.1, anneal_every=1):
        super().__init__(ops, samples)
        self.set_temperature(temperature, anneal, anneal_rate, anneal_min, anneal_every)
        if conditional_draws < 1:
            raise ValueError(f"estimator gr_mc needs conditional_draws >= 1, got {conditional_draws}")
        self.conditional_draws = conditional_draws

    def backward(self, draw, cost, dcodes=None, state=None):
        log_p = self.ops.log_softmax(draw.logits)                   # [B, D, K]
        kept = draw.kept
        rows = conditional_straight_through(self.ops, log_p, draw.codes, kept["v"], dcodes, kept["tau"])
        return samples_mean(rows)                                   # [B, D, K]
