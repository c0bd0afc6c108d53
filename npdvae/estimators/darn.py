"""DARN: REINFORCE with a first-order Taylor expansion as its baseline."""
from npdvae.estimators import register
from npdvae.estimators.parts.hard_codes import HardCodes

CENTRES = ("uniform", "probabilities")


@register
class DARN(HardCodes):
    """<g_d, z_d - c> s_d with the score s = z - p (Gregor et al. 2014).

    centre: c = 1/K (uniform) or c = p (probabilities; this is twice ZGR's second half). Exact for costs
    multilinear in the one-hot rows, at K = 2 with the uniform centre for quadratic ones too.
    Cost: S evaluations and S backwards.
    """

    name = "darn"
    exact_for = "multilinear"

    def __init__(self, ops=None, samples=1, centre="uniform"):
        super().__init__(ops, samples)
        if centre not in CENTRES:
            raise ValueError(f"estimator darn: centre must be one of {', '.join(CENTRES)}, got {centre!r}")
        self.centre = centre

    def backward(self, draw, cost, dcodes=None, state=None):
        p, z = self.ops.softmax(draw.logits), self.rows(draw)       # [B, D, K], [S, B or 1, D, K]
        c = p if self.centre == "probabilities" else 1 / p.shape[-1]
        taylor = (dcodes * (z - c)).sum(-1, keepdims=True)          # [S, B, D, 1]
        return (taylor * (z - p)).mean(0)                           # [B, D, K]
