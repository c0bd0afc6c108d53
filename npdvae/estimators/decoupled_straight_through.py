"""Decoupled straight-through: one temperature to draw the codes, another for the gradient."""
from npdvae.estimators import register
from npdvae.estimators.parts.hard_codes import HardCodes
from npdvae.estimators.parts.temperature import Tempered
from npdvae.ops.samples import samples_mean


@register
class DecoupledStraightThrough(Tempered, HardCodes):
    """J(softmax(phi / tau_b)) g at z ~ softmax(phi / tau_f) (Shah et al. 2024, arXiv 2410.13331v2).

    temperature is tau_b, forward_temperature tau_f; where tau_f is not 1 the training cost is no ELBO. With both
    at 1 it is straight-through. Cost: S evaluations and S backwards.
    """

    name = "decoupled_straight_through"

    def __init__(self, ops=None, samples=1, temperature=1.0, forward_temperature=0.7, anneal="constant",
                 anneal_rate=0.0, anneal_min=0.1, anneal_every=1):
        super().__init__(ops, samples)
        self.set_temperature(temperature, anneal, anneal_rate, anneal_min, anneal_every)
        if not 0 < forward_temperature < float("inf"):
            raise ValueError(f"estimator {self.name} needs a positive forward_temperature, got {forward_temperature}")
        self.forward_temperature = float(forward_temperature)
        self.relaxed = self.forward_temperature != 1
        self.exact_for = "multilinear" if self.untempered and not self.relaxed else None

    def drawn_from(self, logits):
        return logits / self.forward_temperature

    def backward(self, draw, cost, dcodes=None, state=None):
        p = self.ops.softmax(draw.logits / draw.kept["tau"])        # [B, D, K]
        return self.ops.softmax_backward(samples_mean(dcodes), p)   # [B, D, K]
