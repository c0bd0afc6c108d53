"""DisARM, also called U2G: ARM with the uniform averaged out given its pair of codes; for binary latents."""
from npdvae.estimators import register
from npdvae.estimators.base import Draw, Estimator
from npdvae.estimators.parts.antithetic import bit_cells, bit_logits, bit_logits_backward, bit_pair


@register
class DisARM(Estimator):
    """(f(b) - f(b')) / 2 (-1)^b' [b != b'] sigma(|a|) for the logit a of a bit.

    Dong, Mnih & Tucker 2020, section 3; Yin et al. 2020 (U2G). Cost: 2 evaluations.
    """

    name = "disarm"
    unbiased = True
    exact_for = "any"
    binary = True

    def evaluations(self, latents, categories):
        return 2

    def sample(self, logits, rng, state=None, context=None):
        B, D, _ = logits.shape
        u = rng.uniform((1, B, D), logits.dtype)[0]                 # [B, D]
        return Draw(bit_pair(self.ops, bit_logits(logits), u), logits)

    def outcomes(self, logits, state=None, context=None):
        for probability, codes, _ in bit_cells(self.ops, bit_logits(logits)):
            yield probability, Draw(codes, logits)

    def backward(self, draw, cost, dcodes=None, state=None):
        b, other = draw.codes.astype(cost.dtype)                    # [B, D]: (-1)^b' [b != b'] = b - b'
        factor = (b - other) * self.ops.sigmoid(abs(bit_logits(draw.logits)))           # [B, D]
        return bit_logits_backward(self.ops, ((cost[0] - cost[1]) / 2)[:, None] * factor)
