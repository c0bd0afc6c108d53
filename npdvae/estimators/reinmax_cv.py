"""ReinMax-CV: ReinMax with straight-through Gumbel as a control variate."""
from npdvae.estimators import register
from npdvae.estimators.parts.gumbel_noise import GumbelNoise, conditional_straight_through
from npdvae.estimators.parts.relaxation import relaxed
from npdvae.estimators.reinmax_rao import log_midpoint
from npdvae.ops.samples import samples_mean


@register
class ReinMaxCV(GumbelNoise):
    """ReinMax + eta (GR_k - straight-through Gumbel), the last two at the logits log((p + z) / 2) (Wang & Bui 2026).

    Straight-through Gumbel uses the noise that drew z, GR_k k = conditional_draws fresh draws given z, both at
    gumbel_temperature; temperature is ReinMax's own tau. z was drawn at phi, so the control has a mean of its own:
    eta trades bias for variance. Cost: S evaluations and S backwards.
    """

    name = "reinmax_cv"

    def __init__(self, ops=None, samples=1, conditional_draws=10, temperature=1.0, gumbel_temperature=0.5, eta=0.5,
                 anneal="constant", anneal_rate=0.0, anneal_min=0.1, anneal_every=1):
        super().__init__(ops, samples)
        self.set_temperature(temperature, anneal, anneal_rate, anneal_min, anneal_every)
        if conditional_draws < 1:
            raise ValueError(f"estimator reinmax_cv needs conditional_draws >= 1, got {conditional_draws}")
        if not 0 < gumbel_temperature < float("inf"):
            raise ValueError(f"estimator reinmax_cv needs a positive gumbel_temperature, got {gumbel_temperature}")
        self.conditional_draws, self.gumbel_temperature, self.eta = conditional_draws, float(gumbel_temperature), eta

    def reinmax(self, draw, log_p, dcodes):
        """ReinMax of each sample: [S, B, D, K]."""
        z = self.ops.one_hot(draw.codes, log_p.shape[-1], log_p.dtype)   # [S, B, D, K]
        pb = (self.ops.softmax(draw.logits / draw.kept["tau"]) + z) / 2
        return 2 * self.ops.softmax_backward(dcodes, pb) - self.ops.softmax_backward(dcodes, self.ops.xp.exp(log_p)) / 2

    def backward(self, draw, cost, dcodes=None, state=None):
        log_p, tau = self.ops.log_softmax(draw.logits), self.gumbel_temperature
        log_pb = log_midpoint(self.ops, log_p, draw.codes)          # [S, B, D, K]
        rao = conditional_straight_through(self.ops, log_pb, draw.codes, draw.kept["v"], dcodes, tau)
        y = relaxed(self.ops, log_pb, draw.kept["gumbels"], tau)    # [S, B, D, K]
        control = rao - self.ops.softmax_backward(dcodes, y) / tau
        return samples_mean(self.reinmax(draw, log_p, dcodes) + self.eta * control)   # [B, D, K]
