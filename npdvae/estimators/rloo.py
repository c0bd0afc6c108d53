"""REINFORCE with a leave-one-out baseline over the samples of one example."""
from npdvae.estimators import register
from npdvae.estimators.base import Draw, Estimator
from npdvae.estimators.parts.outcomes import code_tuples


@register
class RLOO(Estimator):
    """1/(S-1) sum_s (f_s - mean f) (z_s - p) (Kool et al. 2019, eq. 7; Salimans & Knowles 2014).

    Cost: S evaluations, S >= 2.
    """

    name = "rloo"
    unbiased = True
    exact_for = "any"

    def __init__(self, ops=None, samples=4):
        super().__init__(ops)
        if samples < 2:
            raise ValueError(f"estimator rloo needs samples >= 2 for its baseline, got {samples}")
        self.samples = samples

    def evaluations(self, latents, categories):
        return self.samples

    def sample(self, logits, rng, state=None, context=None):
        B, D, _ = logits.shape
        p = self.ops.softmax(logits)                                # [B, D, K]
        u = rng.uniform((self.samples, B, D), logits.dtype)         # [S, B, D]
        return Draw(self.ops.inverse_cdf(p, u), logits, {"p": p})

    def outcomes(self, logits, state=None, context=None):
        p = self.ops.softmax(logits)
        for probability, codes in code_tuples(self.ops, logits, self.samples):
            yield probability, Draw(codes, logits, {"p": p})

    def backward(self, draw, cost, dcodes=None, state=None):
        p = draw.kept["p"]                                          # [B, D, K]
        advantage = (cost - cost.mean(0)) / (self.samples - 1)      # [S, B]; sums to zero, so p drops out
        z = self.ops.one_hot(draw.codes, p.shape[-1], p.dtype)      # [S, B or 1, D, K]
        return (advantage[..., None, None] * z).sum(0)              # [B, D, K]
