"""Double control variates: RLOO with a linear control variate from the gradients at the other samples."""
from npdvae.estimators import register
from npdvae.estimators.parts.hard_codes import HardCodes


@register
class DoubleCV(HardCodes):
    """mean_s (f_s + b_s - mean_{t != s} (f_t + b_t)) s_s - a J(p) mean g, b_s = a <mean_{t != s} g_t, s_s>.

    s_s = z_s - p, g = df/dz (Titsias & Shi 2022; for K = 2 the published form in the logit's two halves). a is
    learned by the gradient of the squared norm of dlogits, starting at `alpha` (published: 0, which is RLOO).
    Cost: S evaluations and S backwards, S >= 2.
    """

    name = "double_cv"
    unbiased = True
    exact_for = "any"

    def __init__(self, ops=None, samples=2, alpha=-0.75):
        super().__init__(ops, samples)
        if samples < 2:
            raise ValueError(f"estimator double_cv needs samples >= 2 for its baseline, got {samples}")
        self.alpha = float(alpha)

    def init(self, rng, latents, categories, context_size=0):
        return {"alpha": self.ops.xp.full(1, self.alpha)}

    def parts(self, draw, cost, dcodes):
        """dlogits = first + a second: RLOO, and the control variates at a = 1; [B, D, K] each."""
        if "parts" in draw.kept:
            return draw.kept["parts"]
        p, S = self.ops.softmax(draw.logits), self.samples          # [B, D, K]
        score = self.rows(draw) - p                                 # [S, B or 1, D, K]
        others = (dcodes.sum(0) - dcodes) / (S - 1)                 # [S, B, D, K], mean g of the other samples
        control = (others * score).sum((-2, -1))                    # [S, B]
        first, second = (((f - f.mean(0)) / (S - 1))[..., None, None] * score for f in (cost, control))
        return first.sum(0), second.sum(0) - self.ops.softmax_backward(dcodes.mean(0), p)

    def prepare(self, draw, cost, dcodes, state):
        return draw.keeping(parts=self.parts(draw, cost, dcodes))

    def backward(self, draw, cost, dcodes=None, state=None):
        alpha = self.alpha if state is None else state["alpha"].astype(cost.dtype)
        first, second = self.parts(draw, cost, dcodes)
        return first + alpha * second                               # [B, D, K]

    def learn(self, draw, cost, dcodes, state):
        _, second = self.parts(draw, cost, dcodes)
        dlogits = self.backward(draw, cost, dcodes, state)          # of the mean over b of |dlogits_b|^2
        return {"alpha": 2 * (dlogits * second).sum((1, 2)).mean(keepdims=True)}
