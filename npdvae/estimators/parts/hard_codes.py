"""Estimators that decode S independent hard codes z ~ softmax(phi): one sampler, one enumeration."""
from npdvae.estimators.base import Draw, Estimator
from npdvae.estimators.parts.outcomes import code_tuples
from npdvae.ops.kernelled import kernelled


@kernelled
def drawn(ops, logits, u):
    """Codes of softmax(phi): logits [B, D, K], u [S, B, D] -> int [S, B, D]."""
    return ops.inverse_cdf(ops.softmax(logits), u)


class HardCodes(Estimator):
    """Draws of S hard codes; subclasses are a `backward` that reads d cost / d codes."""

    needs_dcodes = True

    def __init__(self, ops=None, samples=1):
        super().__init__(ops)
        if samples < 1:
            raise ValueError(f"estimator {self.name} needs samples >= 1, got {samples}")
        self.samples = samples

    def evaluations(self, latents, categories):
        return self.samples

    def sample(self, logits, rng, state=None, context=None):
        B, D, _ = logits.shape
        u = rng.uniform((self.samples, B, D), logits.dtype)         # [S, B, D]
        return Draw(drawn(self.ops, self.drawn_from(logits), u), logits, self.keep(logits, state))

    def outcomes(self, logits, state=None, context=None):
        for probability, codes in code_tuples(self.ops, self.drawn_from(logits), self.samples):
            yield probability, Draw(codes, logits, self.keep(logits, state))

    def drawn_from(self, logits):
        """Logits of the distribution that the codes are drawn from."""
        return logits

    def keep(self, logits, state):
        """What `backward` needs besides codes and logits."""
        return {}

    def rows(self, draw):
        """The codes as one-hot rows: [S, B or 1, D, K]."""
        return self.ops.one_hot(draw.codes, draw.logits.shape[-1], draw.logits.dtype)
