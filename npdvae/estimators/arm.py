"""ARM: augment, REINFORCE, merge; for binary latents."""
from npdvae.estimators import register
from npdvae.estimators.base import Draw, Estimator
from npdvae.estimators.parts.antithetic import bit_cells, bit_logits, bit_logits_backward, bit_pair


@register
class ARM(Estimator):
    """(f(b) - f(b')) (u - 1/2) for the logit a of a bit, b = [u > sigma(-a)] and b' = [u < sigma(a)].

    Yin & Zhou 2019, theorem 1. Cost: 2 evaluations.
    """

    name = "arm"
    unbiased = True
    exact_for = "any"
    binary = True

    def evaluations(self, latents, categories):
        return 2

    def sample(self, logits, rng, state=None, context=None):
        B, D, _ = logits.shape
        u = rng.uniform((1, B, D), logits.dtype)[0]                 # [B, D]
        return Draw(bit_pair(self.ops, bit_logits(logits), u), logits, {"centred": u - 0.5})

    def outcomes(self, logits, state=None, context=None):
        for probability, codes, centred in bit_cells(self.ops, bit_logits(logits), nodes=2):
            yield probability, Draw(codes, logits, {"centred": centred})

    def backward(self, draw, cost, dcodes=None, state=None):
        da = (cost[0] - cost[1])[:, None] * draw.kept["centred"]    # [B, D]
        return bit_logits_backward(self.ops, da)                    # [B, D, 2]
