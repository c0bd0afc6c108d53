"""Local expectation gradient: each latent in turn is summed out, the others stay as drawn."""
from npdvae.estimators import register
from npdvae.estimators.base import Draw, Estimator
from npdvae.estimators.parts.neighbours import cost_table, neighbours, row_weights
from npdvae.estimators.parts.outcomes import code_tuples


@register
class LocalExpectation(Estimator):
    """p_dk (f(z_d := k) - sum_j p_dj f(z_d := j)) (Titsias & Lazaro-Gredilla 2015); exact at D = 1.

    fresh: the other latents are drawn anew for each category but the drawn one (IndeCateR, De Smet et al. 2023).
    Cost: D (K-1) + 1 evaluations; the decoder's gradient uses all of them.
    """

    name = "local_expectation"
    unbiased = True
    exact_for = "any"

    def __init__(self, ops=None, fresh=False):
        super().__init__(ops)
        self.fresh = fresh

    def evaluations(self, latents, categories):
        return latents * (categories - 1) + 1

    def draw(self, codes, others, logits, p):
        """codes int [B or 1, D], others int [D (K-1), B or 1, D] or None where the other latents stay as drawn."""
        xp, (_, D, K) = self.ops.xp, logits.shape
        rows = neighbours(xp, codes, K)                             # [1 + D (K-1), B or 1, D]
        if others is not None:
            changed = xp.repeat(xp.eye(D, dtype=bool), K - 1, 0)[:, None]       # [D (K-1), 1, D]
            rows = xp.concatenate([rows[:1], xp.where(changed, rows[1:], others)])
        return Draw(rows, logits, {"p": p})

    def sample(self, logits, rng, state=None, context=None):
        p, (B, D, K) = self.ops.softmax(logits), logits.shape       # [B, D, K]
        u = rng.uniform((1, *logits.shape[:2]), logits.dtype)[0]    # [B, D]
        others = None
        if self.fresh:
            others = self.ops.inverse_cdf(p, rng.uniform((D * (K - 1), B, D), logits.dtype))
        return self.draw(self.ops.inverse_cdf(p, u), others, logits, p)

    def outcomes(self, logits, state=None, context=None):
        p = self.ops.softmax(logits)
        _, D, K = logits.shape
        for probability, codes in code_tuples(self.ops, logits, 1 + self.fresh * D * (K - 1)):
            yield probability, self.draw(codes[0], codes[1:] if self.fresh else None, logits, p)

    def weigh(self, draw, cost):
        return row_weights(self.ops.xp, draw.kept["p"], draw.codes[0]).astype(cost.dtype)

    def backward(self, draw, cost, dcodes=None, state=None):
        p = draw.kept["p"]                                          # [B, D, K]
        table = cost_table(self.ops.xp, cost, draw.codes[0], p.shape[-1])   # [B, D, K]
        return self.ops.softmax_backward(table, p)                  # J(p) f(z_d := .)
