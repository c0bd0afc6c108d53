"""ReinMax: straight-through made second-order accurate by Heun's method."""
from npdvae.estimators import register
from npdvae.estimators.parts.hard_codes import HardCodes
from npdvae.estimators.parts.temperature import Tempered


@register
class ReinMax(Tempered, HardCodes):
    """2 J(pb) g - J(p) g / 2, pb = (softmax(phi / tau) + z) / 2, p = softmax(phi) (Liu et al. 2023, algorithm 2).

    Exact at tau = 1 for costs quadratic in each one-hot row. Cost: S evaluations and S backwards.
    """

    name = "reinmax"

    def __init__(self, ops=None, samples=1, temperature=1.0, anneal="constant", anneal_rate=0.0, anneal_min=0.1,
                 anneal_every=1):
        super().__init__(ops, samples)
        self.set_temperature(temperature, anneal, anneal_rate, anneal_min, anneal_every)
        self.exact_for = "quadratic" if self.untempered else None

    def backward(self, draw, cost, dcodes=None, state=None):
        p = self.ops.softmax(draw.logits)                           # [B, D, K]
        pb = (self.ops.softmax(draw.logits / draw.kept["tau"]) + self.rows(draw)) / 2   # [S, B, D, K]
        heun = 2 * self.ops.softmax_backward(dcodes, pb)            # [S, B, D, K]
        return heun.mean(0) - self.ops.softmax_backward(dcodes.mean(0), p) / 2   # [B, D, K]
