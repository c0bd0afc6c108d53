"""REBAR: REINFORCE with the relaxed cost as control variate, reparameterised with and without the code given."""
from npdvae.estimators import register
from npdvae.estimators.base import Draw
from npdvae.estimators.parts.gumbel_noise import GumbelNoise, conditional_gumbels, conditional_gumbels_backward


@register
class REBAR(GumbelNoise):
    """[f(z) - eta f(y~)] (z - p) + eta [d f(y) / d phi - d f(y~) / d phi] (Tucker et al. 2017, eq. 5).

    y = softmax((log p + G) / tau), y~ the same with the noise redrawn given z. eta follows the gradient of the squared
    norm of dlogits, an unbiased estimate of that of the variance. Cost: 3 S evaluations, of which 2 S with a backward.
    """

    name = "rebar"
    unbiased = True
    exact_for = "any"
    conditional_draws = 1

    def __init__(self, ops=None, samples=1, eta=1.0, temperature=0.5, anneal="constant", anneal_rate=0.0,
                 anneal_min=0.1, anneal_every=1):
        super().__init__(ops, samples)
        self.set_temperature(temperature, anneal, anneal_rate, anneal_min, anneal_every)
        self.start = float(eta)

    def evaluations(self, latents, categories):
        return 3 * self.samples

    def from_noise(self, logits, u, v=None, state=None, context=None):
        ops, tau = self.ops, self.tau(state, logits.dtype)
        log_p, gumbels = ops.log_softmax(logits), ops.gumbel(u)     # [B, D, K], [S, B, D, K]
        codes = ops.gumbel_max(log_p, gumbels)                      # [S, B, D]
        z = ops.one_hot(codes, logits.shape[-1], logits.dtype)      # [S, B, D, K]
        y = ops.softmax((log_p + gumbels) / tau)
        y_given = ops.softmax(conditional_gumbels(ops, log_p, codes, v)[..., 0, :] / tau)
        return Draw(ops.xp.concatenate([z, y, y_given]), logits, {"hard": codes, "v": v, "tau": tau})   # [3 S, B, D, K]

    def weigh(self, draw, cost):
        xp, S = self.ops.xp, len(cost) // 3
        return xp.concatenate([xp.full((S, 1), 1 / S, cost.dtype), xp.zeros((2 * S, 1), cost.dtype)])

    def parts(self, draw, cost, dcodes):
        """REINFORCE and the control variate, dlogits being their sum with weights 1, eta: 2 x [B, D, K]."""
        if "parts" in draw.kept:
            return draw.kept["parts"]
        ops, kept, S = self.ops, draw.kept, len(cost) // 3
        log_p = ops.log_softmax(draw.logits)                        # [B, D, K]
        z, y, y_given = (draw.codes[i:i + S] for i in (0, S, 2 * S))    # 3 x [S, B, D, K]
        score = z - ops.xp.exp(log_p)
        f, f_given = (cost[i:i + S, :, None, None] for i in (0, 2 * S))
        dnoisy = ops.softmax_backward(dcodes[S:2 * S], y) / kept["tau"]
        dgiven = ops.softmax_backward(dcodes[2 * S:], y_given) / kept["tau"]
        dgiven = conditional_gumbels_backward(ops, dgiven[..., None, :], log_p, kept["hard"], kept["v"])[..., 0, :]
        control = ops.log_softmax_backward(dnoisy - dgiven, log_p) - f_given * score
        return (f * score).mean(0), control.mean(0)

    def prepare(self, draw, cost, dcodes, state):
        return draw.keeping(parts=self.parts(draw, cost, dcodes))

    def backward(self, draw, cost, dcodes=None, state=None):
        reinforce, control = self.parts(draw, cost, dcodes)
        return reinforce + self.eta(state, cost.dtype) * control    # [B, D, K]

    def eta(self, state, dtype):
        """The weight of the control variate: [1], or a number without a state."""
        return self.start if state is None else state["eta"].astype(dtype)

    def init(self, rng, latents, categories, context_size=0):
        return {**super().init(rng, latents, categories, context_size), "eta": self.ops.xp.full(1, self.start)}

    def learn(self, draw, cost, dcodes, state):
        reinforce, control = self.parts(draw, cost, dcodes)
        dlogits = reinforce + self.eta(state, cost.dtype) * control
        return {"eta": 2 * (dlogits * control).sum((1, 2)).mean(keepdims=True)}     # [1]
