"""Gapped straight-through: the surrogate's logits are moved so that the drawn category wins by a gap."""
from npdvae.estimators import register
from npdvae.estimators.parts.hard_codes import HardCodes
from npdvae.estimators.parts.relaxation import relaxed_backward
from npdvae.estimators.parts.temperature import Tempered
from npdvae.ops.kernelled import kernelled


@kernelled
def gapped(ops, logits, codes, gap, tau):
    """softmax((phi + m1 - m2) / tau): logits [B, D, K], codes int [S, B or 1, D] -> [S, B, D, K]."""
    z = ops.one_hot(codes, logits.shape[-1], logits.dtype)          # [S, B or 1, D, K]
    top = logits.max(-1, keepdims=True)                             # [B, D, 1]
    m1 = (top - logits) * z                                         # [S, B, D, K]
    m2 = ops.relu(logits - top + gap) * (1 - z)                     # [S, B, D, K]
    return ops.softmax((logits + m1 - m2) / tau)


@register
class GappedStraightThrough(Tempered, HardCodes):
    """J(softmax((phi + m1 - m2) / tau)) g / tau (Fan et al. 2022).

    m1 = (max phi - phi) z lifts the drawn category to the top; m2 = relu(phi - max phi + gap) (1 - z) pushes
    the others below it by the gap. Cost: S evaluations and S backwards.
    """

    name = "gapped_straight_through"

    def __init__(self, ops=None, samples=1, temperature=0.7, gap=1.0, anneal="constant", anneal_rate=0.0,
                 anneal_min=0.1, anneal_every=1):
        super().__init__(ops, samples)
        self.set_temperature(temperature, anneal, anneal_rate, anneal_min, anneal_every)
        if not 0 <= gap < float("inf"):
            raise ValueError(f"estimator gapped_straight_through needs a gap >= 0, got {gap}")
        self.gap = float(gap)

    def backward(self, draw, cost, dcodes=None, state=None):
        tau = draw.kept["tau"]
        y = gapped(self.ops, draw.logits, draw.codes, self.gap, tau)    # [S, B, D, K]
        return relaxed_backward(self.ops, dcodes, y, tau)           # [B, D, K]
