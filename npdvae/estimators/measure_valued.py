"""Measure-valued derivative: differences of costs between a category and another drawn from the rest."""
import itertools

from npdvae.estimators import register
from npdvae.estimators.base import Draw, Estimator
from npdvae.estimators.parts.neighbours import cost_table, neighbours, row_weights
from npdvae.estimators.parts.outcomes import code_tuples


@register
class MeasureValued(Estimator):
    """p_k (1 - p_k) [f(z_d := k) - f(z_d := j)], j ~ p_d given j != k (Pflug 1989; Rosca et al. 2019).

    The j of all k come from one pair: z_d and a second category drawn given that it is not z_d; j = z_d where
    k is not z_d, the second where it is. P(j) = p_j + p_k p_j / (1 - p_k) = p_j / (1 - p_k).
    Cost: D (K-1) + 1 evaluations; the decoder's gradient uses all of them.
    """

    name = "measure_valued"
    unbiased = True
    exact_for = "any"

    def evaluations(self, latents, categories):
        return latents * (categories - 1) + 1

    def second_probabilities(self, logits, codes):
        """p given that z_d is excluded: codes int [B or 1, D] -> [B, D, K]; anything at K = 1, where p (1 - p) = 0."""
        K = logits.shape[-1]
        excluded = self.ops.one_hot(codes, K, logits.dtype) > 0     # [B or 1, D, K]
        lowest = self.ops.xp.finfo(logits.dtype).min / 2            # logits minus their largest stay finite
        return self.ops.softmax(self.ops.xp.where(excluded, lowest, logits))

    def draw(self, codes, second, logits, p):
        """codes, second int [B or 1, D]."""
        rows = neighbours(self.ops.xp, codes, logits.shape[-1])     # [1 + D (K-1), B or 1, D]
        return Draw(rows, logits, {"p": p, "second": second})

    def sample(self, logits, rng, state=None, context=None):
        p = self.ops.softmax(logits)                                # [B, D, K]
        u = rng.uniform((2, *logits.shape[:2]), logits.dtype)       # [2, B, D]
        codes = self.ops.inverse_cdf(p, u[0])                       # [B, D]
        second = self.ops.inverse_cdf(self.second_probabilities(logits, codes), u[1])
        return self.draw(codes, second, logits, p)

    def outcomes(self, logits, state=None, context=None):
        xp, (B, D, K) = self.ops.xp, logits.shape
        p = self.ops.softmax(logits)
        for probability, codes in code_tuples(self.ops, logits, 1):
            given = self.second_probabilities(logits, codes[0])     # [B, D, K]
            for shift in itertools.product(range(min(1, K - 1), K), repeat=D):
                second = (codes[0] + xp.asarray(shift)) % K         # [1, D]
                index = xp.broadcast_to(second[..., None], (B, D, 1))
                yield probability * xp.take_along_axis(given, index, 2).prod((1, 2)), \
                    self.draw(codes[0], second, logits, p)

    def weigh(self, draw, cost):
        return row_weights(self.ops.xp, draw.kept["p"], draw.codes[0]).astype(cost.dtype)

    def backward(self, draw, cost, dcodes=None, state=None):
        xp, p, codes = self.ops.xp, draw.kept["p"], draw.codes[0]   # [B, D, K], [B or 1, D]
        K = p.shape[-1]
        table = cost_table(xp, cost, codes, K)                      # [B, D, K]
        j = xp.where(xp.arange(K) == codes[..., None], draw.kept["second"][..., None], codes[..., None])
        negative = xp.take_along_axis(table, xp.broadcast_to(j, p.shape), 2)   # [B, D, K]
        return p * (1 - p) * (table - negative)
