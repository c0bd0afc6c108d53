"""Exact gradient by enumeration of all K**D codes, decoded once for the whole batch."""
from npdvae.estimators import register
from npdvae.estimators.base import Draw, Estimator
from npdvae.estimators.parts.outcomes import MOST_CODES, all_codes, codes_log_prob


@register
class Exact(Estimator):
    """dlogits_dk = p_dk (E[f | z_d = k] - E f), the gradient itself (the tutorial's eq. 71 before any sampling).

    Cost: K**D evaluations, shared by the batch.
    """

    name = "exact"
    unbiased = True
    exact_for = "any"
    shared = True

    def check(self, latents, categories):
        super().check(latents, categories)
        if categories ** latents > MOST_CODES:
            raise ValueError(f"estimator exact enumerates categories**latents = {categories}**{latents} codes, "
                             f"more than {MOST_CODES}; choose a sampling estimator such as rloo")

    def evaluations(self, latents, categories):
        return categories ** latents

    def sample(self, logits, rng, state=None, context=None):
        _, D, K = logits.shape
        codes = all_codes(self.ops.xp, D, K)                        # [C, D]
        q = self.ops.xp.exp(codes_log_prob(self.ops, logits, codes))   # [C, B]
        return Draw(codes[:, None], logits, {"q": q})

    def outcomes(self, logits, state=None, context=None):
        yield self.ops.xp.ones(len(logits), logits.dtype), self.sample(logits, None)

    def weigh(self, draw, cost):
        return draw.kept["q"]                                       # [C, B]

    def backward(self, draw, cost, dcodes=None, state=None):
        xp, (B, D, K) = self.ops.xp, draw.logits.shape
        advantage = draw.kept["q"] * (cost - (draw.kept["q"] * cost).sum(0))   # [C, B]
        table = advantage.T.reshape((B,) + (K,) * D)                # [B, K, ..., K], as all_codes counts
        rows = [table.sum(tuple(i + 1 for i in range(D) if i != d)) for d in range(D)]   # D x [B, K]
        return xp.stack(rows, 1)                                    # [B, D, K]
