"""REINFORCE, the score-function estimator, with a choice of baselines."""
from npdvae.estimators import register
from npdvae.estimators.base import Draw, Estimator
from npdvae.estimators.parts.baselines import make
from npdvae.estimators.parts.outcomes import code_tuples, joint_code_tuples


@register
class Reinforce(Estimator):
    """mean_s (f_s - baseline) (z_s - p) (Williams 1992; the tutorial's eq. 81); baselines: see baselines.py.

    Cost: S evaluations, S >= 1. Unbiased, but for nvil with `normalise`, which rescales.
    """

    name = "reinforce"

    def __init__(self, ops=None, baseline="running_mean", samples=1, baseline_value=None, decay=None, hidden=None,
                 normalise=None):
        super().__init__(ops)
        if samples < 1:
            raise ValueError(f"estimator {self.name} needs samples >= 1, got {samples}")
        self.samples, self.baseline_name = samples, baseline
        self.baseline = make(baseline, self.ops, baseline_value=baseline_value, decay=decay, hidden=hidden,
                             normalise=normalise)
        self.couples_batch = self.baseline.couples_batch
        self.unbiased = self.baseline.unbiased
        self.exact_for = "any" if self.unbiased else None

    def settings(self):
        chosen = {option: getattr(self.baseline, option) for option in self.baseline.options}
        return {"samples": self.samples, "baseline": self.baseline_name, **chosen}

    def evaluations(self, latents, categories):
        return self.samples

    def sample(self, logits, rng, state=None, context=None):
        B, D, _ = logits.shape
        p = self.ops.softmax(logits)                                # [B, D, K]
        u = rng.uniform((self.samples, B, D), logits.dtype)         # [S, B, D]
        return Draw(self.ops.inverse_cdf(p, u), logits, {"p": p, "context": context})

    def outcomes(self, logits, state=None, context=None):
        tuples = joint_code_tuples if self.couples_batch else code_tuples
        p = self.ops.softmax(logits)
        for probability, codes in tuples(self.ops, logits, self.samples):
            yield probability, Draw(codes, logits, {"p": p, "context": context})

    def signal(self, draw, cost):
        """What the score is multiplied with, before the baseline: [S, B], in nats."""
        return cost

    def backward(self, draw, cost, dcodes=None, state=None):
        p = draw.kept["p"]                                          # [B, D, K]
        coefficient = self.baseline.coefficient(self.signal(draw, cost), draw.kept["context"], state)   # [S, B]
        z = self.ops.one_hot(draw.codes, p.shape[-1], p.dtype)      # [S, B or 1, D, K]
        return (coefficient[..., None, None] * (z - p)).mean(0)     # [B, D, K]

    def init(self, rng, latents, categories, context_size=0):
        return self.baseline.init(rng, context_size)

    def learn(self, draw, cost, dcodes, state):
        return self.baseline.learn(self.signal(draw, cost), draw.kept["context"], state)

    def advance(self, draw, cost, state):
        return self.baseline.advance(self.signal(draw, cost), draw.kept["context"], state)
