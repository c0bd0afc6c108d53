"""DARN: REINFORCE with a first-order Taylor expansion as its baseline."""
from npdvae.estimators import register
from npdvae.estimators.parts.hard_codes import HardCodes
from npdvae.ops.kernelled import kernelled

CENTRES = ("uniform", "probabilities")


@kernelled
def taylor(ops, p, codes, dcodes, uniform):
    """Mean over s of <g, z - c> (z - p): p [B, D, K], codes int [S, B or 1, D], g [S, B, D, K] -> [B, D, K]."""
    K, dtype = p.shape[-1], p.dtype
    z, c = ops.one_hot(codes, K, dtype), 1 / K if uniform else p    # [S, B or 1, D, K]
    slope = (dcodes * (z - c)).sum(-1, keepdims=True)               # [S, B, D, 1]
    return (slope * (z - p)).mean(0)


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
        return taylor(self.ops, self.ops.softmax(draw.logits), draw.codes, dcodes, self.centre == "uniform")
