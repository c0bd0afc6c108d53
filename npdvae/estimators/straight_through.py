"""Straight-through: the sampling step is passed over as if it were the softmax."""
from npdvae.estimators import register
from npdvae.estimators.parts.hard_codes import HardCodes
from npdvae.estimators.parts.temperature import Tempered


@register
class StraightThrough(Tempered, HardCodes):
    """J(softmax(phi / tau)) g, the mean over S samples (Bengio et al. 2013).

    Exact at tau = 1 for costs multilinear in the one-hot rows. Cost: S evaluations and S backwards.
    divide: divide by tau too, the chain rule through phi / tau that some codes keep and others drop.
    """

    name = "straight_through"

    def __init__(self, ops=None, samples=1, temperature=1.0, divide=False, anneal="constant", anneal_rate=0.0,
                 anneal_min=0.1, anneal_every=1):
        super().__init__(ops, samples)
        self.set_temperature(temperature, anneal, anneal_rate, anneal_min, anneal_every)
        self.divide = divide
        self.exact_for = "multilinear" if self.untempered else None

    def backward(self, draw, cost, dcodes=None, state=None):
        tau = draw.kept["tau"]
        p = self.ops.softmax(draw.logits / tau)                     # [B, D, K]
        dlogits = self.ops.softmax_backward(dcodes.mean(0), p)      # [B, D, K]
        return dlogits / tau if self.divide else dlogits
