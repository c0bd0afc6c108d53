"""CARMS: REINFORCE leave-one-out on jointly antithetic samples, reweighted to stay unbiased."""
import itertools

from npdvae.estimators import register
from npdvae.estimators.base import Draw, Estimator
from npdvae.estimators.parts import copula
from npdvae.estimators.parts.outcomes import all_codes, coupled_tuples


@register
class CARMS(Estimator):
    """Mean over pairs m < n of (f_m - f_n) / 2 rho_d (z_m - z_n)_d, rho_d = q(z_m) q(z_n) / P(z_m, z_n) per latent.

    Dimitriev & Zhou 2021, with their stick-breaking coupling; P is positive wherever z_m != z_n can be, so nothing is
    clipped. Two samples make it DisARM-IW. Cost: S evaluations, S >= 2.
    """

    name = "carms"
    unbiased = True
    exact_for = "any"

    def __init__(self, ops=None, samples=3):
        super().__init__(ops)
        if samples < 2:
            raise ValueError(f"estimator carms needs samples >= 2, got {samples}")
        self.samples = samples

    def evaluations(self, latents, categories):
        return self.samples

    def sample(self, logits, rng, state=None, context=None):
        B, D, K = logits.shape
        u = rng.uniform((self.samples, B, D, K - 1), logits.dtype)  # [S, B, D, K-1]
        return Draw(copula.antithetic_codes(self.ops, logits, u), logits)

    def outcomes(self, logits, state=None, context=None):
        xp, (B, D, K) = self.ops.xp, logits.shape
        joint = copula.joint(self.ops, logits, all_codes(xp, self.samples, K).T)            # [K**S, B, D]
        joint = xp.moveaxis(joint, 0, -1).reshape(B, D, *(K,) * self.samples)
        for probability, codes in coupled_tuples(xp, joint):
            yield probability, Draw(codes, logits)

    def backward(self, draw, cost, dcodes=None, state=None):
        xp = self.ops.xp
        first, other = xp.asarray(list(itertools.combinations(range(self.samples), 2))).T   # int [N] twice
        codes = xp.broadcast_to(draw.codes, (self.samples, *draw.logits.shape[:2]))    # [S, B, D]
        z = self.ops.one_hot(codes, draw.logits.shape[-1], cost.dtype)  # [S, B, D, K]
        rho = copula.pair_ratio(self.ops, draw.logits, codes[first], codes[other], self.samples)     # [N, B, D]
        factor = ((cost[first] - cost[other]) / 2)[..., None] * rho     # [N, B, D]
        return (factor[..., None] * (z[first] - z[other])).mean(0)  # [B, D, K]
