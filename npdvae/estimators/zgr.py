"""ZGR: half straight-through, half DARN."""
from npdvae.estimators import register
from npdvae.estimators.parts.hard_codes import HardCodes


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
        score = self.rows(draw) - p                                 # [S, B, D, K]
        darn = (dcodes * score).sum(-1, keepdims=True) * score      # [S, B, D, K]
        return (self.ops.softmax_backward(dcodes.mean(0), p) + darn.mean(0)) / 2   # [B, D, K]
