"""GO: the derivative of the cumulative distribution times the cost's difference to the next category."""
from npdvae.estimators import register
from npdvae.estimators.base import Draw, Estimator
from npdvae.estimators.parts.outcomes import code_tuples


@register
class GO(Estimator):
    """-(dF(z_d) / dphi_dk) / p_d(z_d) (f(z_d + 1) - f(z)), F(z) = P(z_d <= z) (Cong et al. 2019, table 1).

    dF(z) / dphi_k = p_k ([k <= z] - F(z)); the last category counts as its own next. Made for ordered
    categories: a rare one divides by its probability, so the variance has no bound. Cost: D + 1 evaluations.
    """

    name = "go"
    unbiased = True
    exact_for = "any"

    def evaluations(self, latents, categories):
        return latents + 1

    def draw(self, codes, logits):
        """codes int [1, B or 1, D]."""
        xp, (_, D, K) = self.ops.xp, logits.shape
        nexts = xp.minimum(codes + xp.eye(D, dtype=codes.dtype)[:, None], K - 1)    # [D, B or 1, D]
        return Draw(xp.concatenate([codes, nexts]), logits)

    def sample(self, logits, rng, state=None, context=None):
        B, D, _ = logits.shape
        u = rng.uniform((1, B, D), logits.dtype)                    # [1, B, D]
        return self.draw(self.ops.inverse_cdf(self.ops.softmax(logits), u), logits)

    def outcomes(self, logits, state=None, context=None):
        for probability, codes in code_tuples(self.ops, logits, 1):
            yield probability, self.draw(codes, logits)

    def weigh(self, draw, cost):
        return self.ops.xp.eye(len(cost), 1, dtype=cost.dtype)      # [1 + D, 1]: the code itself

    def backward(self, draw, cost, dcodes=None, state=None):
        xp, z, K = self.ops.xp, draw.codes[0][..., None], draw.logits.shape[-1]     # [B or 1, D, 1]
        p = self.ops.softmax(draw.logits)                           # [B, D, K]
        up_to = (xp.arange(K) <= z).astype(p.dtype)                 # [B or 1, D, K]
        here = xp.take_along_axis(p, xp.broadcast_to(z, (*p.shape[:2], 1)), 2)      # [B, D, 1]
        slope = p * (up_to - (p * up_to).sum(-1, keepdims=True))    # [B, D, K]
        change = (cost[1:] - cost[0]).T[..., None]                  # [B, D, 1]
        return -slope / xp.where(here > 0, here, 1) * change        # [B, D, K]; 1 where the code is impossible
