"""MuProp: REINFORCE on what a first-order expansion at the mean-field point leaves over."""
from npdvae.estimators import register
from npdvae.estimators.base import Draw
from npdvae.estimators.parts.hard_codes import HardCodes


@register
class MuProp(HardCodes):
    """mean_s [f(z_s) - f(p) - <h, z_s - p>] (z_s - p) + J(p) h, h = df/dz at p (Gu et al. 2016).

    Cost: S + 1 evaluations and one backward; the row at p has weight 0.
    """

    name = "muprop"
    unbiased = True
    exact_for = "any"

    def evaluations(self, latents, categories):
        return self.samples + 1

    def with_mean_field(self, draw):
        """The draw with hard codes as one-hot rows and p as one row more: codes [S + 1, B, D, K]."""
        xp, p = self.ops.xp, self.ops.softmax(draw.logits)          # [B, D, K]
        z = xp.broadcast_to(self.rows(draw), (self.samples, *p.shape))
        return Draw(xp.concatenate([z, p[None]]), draw.logits, {"p": p})

    def sample(self, logits, rng, state=None, context=None):
        return self.with_mean_field(super().sample(logits, rng, state, context))

    def outcomes(self, logits, state=None, context=None):
        for probability, draw in super().outcomes(logits, state, context):
            yield probability, self.with_mean_field(draw)

    def weigh(self, draw, cost):
        weights = self.ops.xp.full((self.samples + 1, 1), 1 / self.samples, cost.dtype)
        weights[-1] = 0
        return weights                                              # [S + 1, 1]

    def backward(self, draw, cost, dcodes=None, state=None):
        p, h = draw.kept["p"], dcodes[-1]                           # [B, D, K], [B, D, K]
        score = draw.codes[:-1] - p                                 # [S, B, D, K]
        taylor = cost[-1] + (h * score).sum((-2, -1))               # [S, B], f(p) + <h, z - p>
        coefficient = cost[:-1] - taylor                            # [S, B]
        return (coefficient[..., None, None] * score).mean(0) + self.ops.softmax_backward(h, p)
