"""ZGR: half straight-through, half DARN."""
from npdvae.estimators import register
from npdvae.estimators.darn import taylor
from npdvae.estimators.parts.hard_codes import HardCodes
from npdvae.ops.samples import samples_mean


@register
class ZGR(HardCodes):
    """J(p) g / 2 + <g_d, s_d> s_d / 2 with the score s = z - p (Shekhovtsov 2023).

    Identical to ReinMax at tau = 1; exact for costs quadratic in each one-hot row.
    Cost: S evaluations and S backwards.
    """

    name = "zgr"
    exact_for = "quadratic"

    def backward(self, draw, cost, dcodes=None, state=None):
        p = self.ops.softmax(draw.logits)                           # [B, D, K]
        straight_through = self.ops.softmax_backward(samples_mean(dcodes), p)       # [B, D, K]
        return (straight_through + taylor(self.ops, p, draw.codes, dcodes, False)) / 2
