"""VIMCO: the gradient of the importance-weighted bound, each sample's baseline made of the others."""
from npdvae.estimators import register
from npdvae.estimators.parts.hard_codes import HardCodes
from npdvae.estimators.parts.log_sum_exp import log_sum_exp
from npdvae.estimators.parts.outcomes import draw_log_prob
from npdvae.estimators.parts.score import weighted_score


@register
class VIMCO(HardCodes):
    """-sum_s [(L - L_-s) - w_s / sum w] (z_s - p) (Mnih & Rezende 2016), for the cost -log p(x, z).

    w = p(x, z) / q(z), L = log mean w; L_-s is L with w_s replaced by the geometric mean of the other weights.
    Cost: S evaluations, S >= 2.
    """

    name = "vimco"
    objective = "importance_weighted"
    unbiased = True
    exact_for = "any"
    needs_dcodes = False

    def __init__(self, ops=None, samples=4):
        super().__init__(ops, samples)
        if samples < 2:
            raise ValueError(f"estimator vimco needs samples >= 2 for its baseline, got {samples}")

    def log_weights(self, draw, cost):
        """log w = log p(x, z) - log q(z): [S, B]."""
        return -cost - draw_log_prob(self.ops, draw)

    def weigh(self, draw, cost):
        return self.ops.softmax(self.log_weights(draw, cost).T).T   # [S, B]

    def backward(self, draw, cost, dcodes=None, state=None):
        xp, S = self.ops.xp, self.samples
        log_w = self.log_weights(draw, cost)                        # [S, B]
        geometric = (log_w.sum(0) - log_w) / (S - 1)                # [S, B], mean of the others
        itself = xp.eye(S, dtype=bool)[:, :, None]                  # [S, S, 1]
        replaced = xp.where(itself, geometric[:, None], log_w)      # [S, S, B]
        signal = log_sum_exp(xp, log_w, 0) - log_sum_exp(xp, replaced, 1)   # [S, B], L - L_-s
        coefficient = signal - self.weigh(draw, cost)               # [S, B]
        return -weighted_score(self.ops, coefficient, draw.codes, self.ops.softmax(draw.logits))    # [B, D, K]
