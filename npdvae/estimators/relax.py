"""RELAX: REINFORCE with a learned surrogate of the cost as control variate."""
from npdvae.estimators import register
from npdvae.estimators.base import Draw
from npdvae.estimators.parts import relax_surrogate
from npdvae.estimators.parts.baselines import RunningMean
from npdvae.estimators.parts.gumbel_noise import GumbelNoise, conditional_gumbels, conditional_gumbels_backward


@register
class RELAX(GumbelNoise):
    """[f(z) - c(y~)] (z - p) + d c(y) / d phi - d c(y~) / d phi (Grathwohl et al. 2018, eq. 7).

    y = softmax((log p + G) / tau), y~ the same with the noise redrawn given z. c = m + sd net(y, context), m and sd
    the running mean of past costs and of their deviation within a batch, at least 1 nat; context: the images. net
    follows the gradient of the squared norm of dlogits, an unbiased estimate of that of the variance. Without a state
    c is 0. Cost: S evaluations.
    """

    name = "relax"
    unbiased = True
    exact_for = "any"
    needs_dcodes = False
    conditional_draws = 1

    def __init__(self, ops=None, samples=1, hidden=256, temperature=0.5, anneal="constant", anneal_rate=0.0,
                 anneal_min=0.1, anneal_every=1):
        super().__init__(ops, samples)
        self.set_temperature(temperature, anneal, anneal_rate, anneal_min, anneal_every)
        if hidden < 1:
            raise ValueError(f"estimator relax needs hidden >= 1, got {hidden}")
        self.hidden, self.running = int(hidden), RunningMean(self.ops)

    def from_noise(self, logits, u, v=None, state=None, context=None):
        draw = super().from_noise(logits, u, v, state, context)
        return Draw(draw.codes, logits, {**draw.kept, "context": context})

    def relaxed_rows(self, draw):
        """y above y~: [2 S, B, D, K]."""
        ops, kept, log_p = self.ops, draw.kept, self.ops.log_softmax(draw.logits)
        given = conditional_gumbels(ops, log_p, draw.codes, kept["v"])[..., 0, :]       # [S, B, D, K]
        return ops.softmax(ops.xp.concatenate([log_p + kept["gumbels"], given]) / kept["tau"])

    def scale(self, state, dtype):
        """sd, at least 1 nat: [1]."""
        xp = self.ops.xp
        return xp.maximum(xp.sqrt(self.running.mean(state, "square_sum")), 1).astype(dtype)

    def parts(self, draw, cost, state):
        """dlogits [B, D, K], and what its gradient needs of the way there."""
        if "parts" in draw.kept:
            return draw.kept["parts"]
        ops, kept, S = self.ops, draw.kept, len(cost)
        log_p = ops.log_softmax(draw.logits)                        # [B, D, K]
        score = ops.one_hot(draw.codes, log_p.shape[-1], log_p.dtype) - ops.xp.exp(log_p)   # [S, B, D, K]
        y = self.relaxed_rows(draw)                                      # [2 S, B, D, K]
        x, net = y.reshape(*y.shape[:2], -1), relax_surrogate.parameters(state, cost.dtype)
        c, h = relax_surrogate.forward(ops, x, kept["context"], net)      # [2 S, B], [2 S, B, H]
        scale, mean = self.scale(state, cost.dtype), self.running.mean(state, "cost_sum").astype(cost.dtype)
        dy = scale * relax_surrogate.slope(h, net).reshape(y.shape)       # [2 S, B, D, K]
        dnoisy = ops.softmax_backward(dy, y) / kept["tau"]          # [2 S, B, D, K]
        dgiven = conditional_gumbels_backward(ops, dnoisy[S:, ..., None, :], log_p, draw.codes, kept["v"])[..., 0, :]
        path = ops.log_softmax_backward(dnoisy[:S] - dgiven, log_p) # [S, B, D, K]
        signal = cost - mean - scale * c[S:]                        # [S, B]
        return (signal[..., None, None] * score + path).mean(0), (log_p, score, y, x, h, net, scale)

    def prepare(self, draw, cost, dcodes, state):
        return draw if state is None else draw.keeping(parts=self.parts(draw, cost, state))

    def backward(self, draw, cost, dcodes=None, state=None):
        if state is None:
            p = self.ops.softmax(draw.logits)
            return (cost[..., None, None] * (self.ops.one_hot(draw.codes, p.shape[-1], p.dtype) - p)).mean(0)
        return self.parts(draw, cost, state)[0]

    def learn(self, draw, cost, dcodes, state):
        ops, kept = self.ops, draw.kept
        dlogits, (log_p, score, y, x, h, net, scale) = self.parts(draw, cost, state)
        S, B = cost.shape
        e = 2 * dlogits / (S * B)                                   # [B, D, K], of each sample's share in the loss
        dc = -scale * (e * score).sum((-2, -1))                     # [S, B], w.r.t. net(y~)
        de = e - (ops.xp.exp(log_p) * e).sum(-1, keepdims=True)     # [B, D, K], adjoint of log_softmax_backward
        de = ops.xp.broadcast_to(de, score.shape)                   # [S, B, D, K]
        dgiven = conditional_gumbels_backward(ops, de[..., None, :], log_p, draw.codes, kept["v"])[..., 0, :]
        dslope = ops.softmax_backward(ops.xp.concatenate([de, -dgiven]), y) * (scale / kept["tau"])
        dc = ops.xp.concatenate([0 * dc, dc])                       # [2 S, B]
        return relax_surrogate.backward(dc, dslope.reshape(x.shape), x, kept["context"], h, net)

    def init(self, rng, latents, categories, context_size=0):
        return {**super().init(rng, latents, categories, context_size),
                **relax_surrogate.init(rng, latents * categories, context_size, self.hidden),
                **self.running.init(rng, context_size), "square_sum": self.ops.xp.zeros(1)}

    def advance(self, draw, cost, state):
        advanced = self.running.advance(cost, None, super().advance(draw, cost, state))
        return {**advanced, "square_sum": self.running.append(state, "square_sum", (cost - cost.mean()) ** 2)}
