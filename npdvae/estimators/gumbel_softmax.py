"""Gumbel-softmax (Concrete): relaxed rows are decoded and differentiated as they are."""
from npdvae.estimators import register
from npdvae.estimators.base import Draw
from npdvae.estimators.parts.concrete import sampled_kl, sampled_kl_backward
from npdvae.estimators.parts.gumbel_noise import GumbelNoise
from npdvae.estimators.parts.relaxation import relaxed, relaxed_backward


@register
class GumbelSoftmax(GumbelNoise):
    """J(y) f'(y) / tau at y = softmax((phi + G) / tau) (Jang et al. 2017; Maddison et al. 2017).

    Unbiased for E[f(y)], which is not E[f(z)]: the training cost is no ELBO. anneal may be `learned`: tau follows the
    gradient of E[f(y)] (Jang et al. 2017, section 2), not beside kl `concrete`. kl `concrete`: that of the rows, to
    Concrete(0, prior_temperature) as prior, makes cost and KL a bound of the relaxed model. Cost: S evaluations and S
    backwards.
    """

    name = "gumbel_softmax"
    relaxed = True
    annealings = ("constant", "exponential", "linear", "learned")

    def __init__(self, ops=None, samples=1, temperature=0.5, anneal="constant", anneal_rate=0.0, anneal_min=0.1,
                 anneal_every=1, kl="analytic", prior_temperature=0.5):
        super().__init__(ops, samples)
        self.set_temperature(temperature, anneal, anneal_rate, anneal_min, anneal_every)
        self.set_kl(kl, float(prior_temperature))

    def set_kl(self, kl, prior_temperature):
        """Options of the KL; ValueError where they contradict each other or do nothing."""
        for good, what in (
                (kl in ("analytic", "concrete"), f"kl must be one of analytic, concrete, got {kl!r}"),
                (0 < prior_temperature < float("inf"), f"prior_temperature must be positive, got {prior_temperature}"),
                (kl == "concrete" or prior_temperature == 0.5, "prior_temperature does nothing without kl=concrete"),
                (kl == "analytic" or self.anneal != "learned", "a learned temperature does not follow kl=concrete")):
            if not good:
                raise ValueError(f"estimator {self.name}: {what}")
        self.kl, self.prior_temperature, self.has_kl = kl, prior_temperature, kl == "concrete"

    def tau(self, state, dtype):
        if self.anneal == "learned" and state is not None:
            return self.ops.xp.exp(state["log_temperature"]).astype(dtype)
        return super().tau(state, dtype)

    def from_noise(self, logits, u, v=None, state=None, context=None):
        kept = {"gumbels": self.ops.gumbel(u), **self.keep(logits, state)}
        return Draw(relaxed(self.ops, logits, kept["gumbels"], kept["tau"]), logits, kept)

    def backward(self, draw, cost, dcodes=None, state=None):
        return relaxed_backward(self.ops, dcodes, draw.codes, draw.kept["tau"])     # [B, D, K]

    def log_rows(self, draw):
        """log y [S, B, D, K], where y itself may be 0."""
        return self.ops.log_softmax((draw.logits + draw.kept["gumbels"]) / draw.kept["tau"])

    def rows_kl(self, draw):
        tau = draw.kept["tau"]
        return sampled_kl(self.ops, draw.kept["gumbels"], self.log_rows(draw), tau, self.prior_temperature).mean(0)

    def rows_kl_backward(self, draw):
        return sampled_kl_backward(self.ops, self.log_rows(draw), draw.kept["tau"], self.prior_temperature).mean(0)

    def init(self, rng, latents, categories, context_size=0):
        state = super().init(rng, latents, categories, context_size)
        if self.anneal == "learned":
            state["log_temperature"] = self.ops.xp.log(state["temperature"])
        return state

    def learn(self, draw, cost, dcodes, state):
        if self.anneal != "learned":
            return {}
        noisy = draw.logits + draw.kept["gumbels"]                  # [S, B, D, K]
        dscaled = self.ops.softmax_backward(dcodes, draw.codes)     # [S, B, D, K], w.r.t. noisy / tau
        S, B = noisy.shape[:2]
        return {"log_temperature": -(dscaled * noisy).sum() / draw.kept["tau"] / (S * B)}

    def advance(self, draw, cost, state):
        state = super().advance(draw, cost, state)
        if self.anneal == "learned":
            state["temperature"] = self.ops.xp.exp(state["log_temperature"])
        return state
