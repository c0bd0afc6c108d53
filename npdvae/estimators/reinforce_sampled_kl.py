"""REINFORCE for the whole negative ELBO: the KL is sampled with the code instead of taken analytically."""
from npdvae.estimators import register
from npdvae.estimators.parts.outcomes import draw_log_prob
from npdvae.estimators.reinforce import Reinforce

ENTROPIES = ("sampled", "analytic")


@register
class ReinforceSampledKL(Reinforce):
    """mean_s (f_s + log q(z_s) + 1 - baseline) (z_s - p), f = -log p(x, z) (Ranganath et al. 2014).

    entropy analytic: mean_s (f_s - baseline) (z_s - p) + p (log p + H), the entropy's gradient in closed form.
    Cost: S evaluations, S >= 1; baselines as in reinforce, of f + log q + 1, with entropy analytic of f.
    """

    name = "reinforce_sampled_kl"
    objective = "sampled_kl"

    def __init__(self, ops=None, baseline="running_mean", samples=1, baseline_value=None, decay=None, hidden=None,
                 normalise=None, entropy="sampled"):
        super().__init__(ops, baseline, samples, baseline_value, decay, hidden, normalise)
        if entropy not in ENTROPIES:
            raise ValueError(f"estimator {self.name}: entropy must be one of {', '.join(ENTROPIES)}, got {entropy!r}")
        self.entropy = entropy

    def signal(self, draw, cost):
        return cost if self.entropy == "analytic" else cost + draw_log_prob(self.ops, draw) + 1   # [S, B]

    def backward(self, draw, cost, dcodes=None, state=None):
        dlogits = super().backward(draw, cost, dcodes, state)       # [B, D, K]
        if self.entropy == "sampled":
            return dlogits
        log_p = self.ops.log_softmax(draw.logits)                   # [B, D, K]
        return dlogits + self.ops.entropy_backward(-self.ops.xp.ones_like(log_p[..., 0]), log_p)
