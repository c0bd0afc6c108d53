"""Local expectation gradient: each latent in turn is summed out, the others stay as drawn."""
from npdvae.estimators import register
from npdvae.estimators.base import Draw, Estimator
from npdvae.estimators.parts.neighbours import cost_table, neighbours, row_weights
from npdvae.estimators.parts.outcomes import code_tuples


@register
class LocalExpectation(Estimator):
    """p_dk (f(z_d := k) - sum_j p_dj f(z_d := j)) (Titsias & Lazaro-Gredilla 2015); exact at D = 1.

    Cost: D (K-1) + 1 evaluations; the decoder's gradient uses all of them.
    """

    name = "local_expectation"
    unbiased = True
    exact_for = "any"

    def evaluations(self, latents, categories):
        return latents * (categories - 1) + 1

    def draw(self, codes, logits, p):
        """codes int [B or 1, D]."""
        rows = neighbours(self.ops.xp, codes, logits.shape[-1])     # [1 + D (K-1), B or 1, D]
        return Draw(rows, logits, {"p": p})

    def sample(self, logits, rng, state=None, context=None):
        p = self.ops.softmax(logits)                                # [B, D, K]
        u = rng.uniform((1, *logits.shape[:2]), logits.dtype)[0]    # [B, D]
        return self.draw(self.ops.inverse_cdf(p, u), logits, p)

    def outcomes(self, logits, state=None, context=None):
        p = self.ops.softmax(logits)
        for probability, codes in code_tuples(self.ops, logits, 1):
            yield probability, self.draw(codes[0], logits, p)

    def weigh(self, draw, cost):
        return row_weights(self.ops.xp, draw.kept["p"], draw.codes[0]).astype(cost.dtype)

    def backward(self, draw, cost, dcodes=None, state=None):
        p = draw.kept["p"]                                          # [B, D, K]
        table = cost_table(self.ops.xp, cost, draw.codes[0], p.shape[-1])   # [B, D, K]
        return self.ops.softmax_backward(table, p)                  # J(p) f(z_d := .)
