"""Straight-through Gumbel-softmax: hard codes forward, the relaxation's Jacobian backward."""
from npdvae.estimators import register
from npdvae.estimators.parts.gumbel_noise import GumbelNoise
from npdvae.estimators.parts.relaxation import relaxed, relaxed_backward


@register
class StraightThroughGumbel(GumbelNoise):
    """J(y) g / tau at z = argmax(phi + G), y = softmax((phi + G) / tau) (Jang et al. 2017, section 2.2).

    Cost: S evaluations and S backwards.
    """

    name = "straight_through_gumbel"

    def __init__(self, ops=None, samples=1, temperature=0.5, anneal="constant", anneal_rate=0.0, anneal_min=0.1,
                 anneal_every=1):
        super().__init__(ops, samples)
        self.set_temperature(temperature, anneal, anneal_rate, anneal_min, anneal_every)

    def backward(self, draw, cost, dcodes=None, state=None):
        tau = draw.kept["tau"]
        y = relaxed(self.ops, draw.logits, draw.kept["gumbels"], tau)   # [S, B, D, K]
        return relaxed_backward(self.ops, dcodes, y, tau)           # [B, D, K]
