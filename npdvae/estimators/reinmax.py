"""ReinMax: straight-through made second-order accurate by Heun's method."""
from npdvae.estimators import register
from npdvae.estimators.parts.hard_codes import HardCodes
from npdvae.estimators.parts.temperature import Tempered


@register
class ReinMax(Tempered, HardCodes):
    """J(pb) g / (1 - w) - w J(p) g, pb = (1 - w) softmax(phi / tau) + w z, p = softmax(phi), w = 1 / (2 alpha).

    alpha = 1 is Heun's method (Liu et al. 2023, algorithm 2); others weigh the same two slopes 1 - w and w, as
    Runge-Kutta methods do (Wang & Bui 2026): (1 - w) J(p) g + w <g, s> s at tau = 1, s = z - p, from straight-through
    (alpha large) towards DARN with c = p (1/2). Exact at tau = 1 for costs multilinear in the one-hot rows, with alpha
    = 1 quadratic in each. Cost: S evaluations and S backwards.
    """

    name = "reinmax"

    def __init__(self, ops=None, samples=1, temperature=1.0, anneal="constant", anneal_rate=0.0, anneal_min=0.1,
                 anneal_every=1, alpha=1.0):
        super().__init__(ops, samples)
        self.set_temperature(temperature, anneal, anneal_rate, anneal_min, anneal_every)
        if not 0.5 < alpha < float("inf"):
            raise ValueError(f"estimator reinmax needs alpha > 0.5, got {alpha}")
        self.alpha = float(alpha)
        self.exact_for = None if not self.untempered else "quadratic" if alpha == 1 else "multilinear"

    def backward(self, draw, cost, dcodes=None, state=None):
        p, w = self.ops.softmax(draw.logits), 1 / (2 * self.alpha)  # [B, D, K]
        pb = (1 - w) * self.ops.softmax(draw.logits / draw.kept["tau"]) + w * self.rows(draw)   # [S, B, D, K]
        second = self.ops.softmax_backward(dcodes, pb) / (1 - w)    # [S, B, D, K]
        return second.mean(0) - w * self.ops.softmax_backward(dcodes.mean(0), p)    # [B, D, K]
