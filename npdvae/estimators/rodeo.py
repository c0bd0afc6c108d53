"""RODEO: RLOO with control variates that a discrete Stein operator makes of surrogates of the cost."""
from npdvae.estimators import register
from npdvae.estimators.parts.hard_codes import HardCodes
from npdvae.estimators.parts.surrogate import PARAMETERS, parameters, surrogate, surrogate_backward
from npdvae.estimators.parts.surrogate import init as init_surrogate
from npdvae.types import Array


@register
class RODEO(HardCodes):
    """mean_m (f_m - mean_{n != m} (f_n + a A h_n(z_n))) s_m + b A(h'_m s)(z_m) (Shi et al. 2022), s = z - p.

    A h(z) = mean_d sum_k p_dk h(z_d := k) - h(z), the Gibbs Stein operator: E A h = 0. h_m, h'_m: surrogates of f
    from the other samples, mean_{n != m} H(f_n, <g_n, . - z_n>), g = df/dz; `hidden` units (published: 100). a, b
    and H are learned by the gradient of the squared norm of dlogits; a and b start at alpha D and beta D (published:
    0, which is RLOO). For K = 2 this is the published form in the logit's two halves.
    Cost: S evaluations and S backwards, S >= 2.
    """

    name = "rodeo"
    unbiased = True
    exact_for = "any"

    def __init__(self, ops=None, samples=2, hidden=32, alpha=0.5, beta=0.5):
        super().__init__(ops, samples)
        if samples < 2:
            raise ValueError(f"estimator rodeo needs samples >= 2 for its baseline, got {samples}")
        if hidden < 1:
            raise ValueError(f"estimator rodeo needs hidden >= 1 units in its surrogate, got {hidden}")
        self.hidden, self.alpha, self.beta = hidden, float(alpha), float(beta)

    def init(self, rng, latents, categories, context_size=0):
        xp, (alpha, beta) = self.ops.xp, self.coefficients(None, latents, None)
        return {"alpha": xp.full(1, alpha), "beta": xp.full(1, beta), **init_surrogate(xp, rng, self.hidden)}

    def inputs(self, draw, cost, dcodes) -> tuple[Array, Array]:
        """What H reads at the neighbours z_d := k of each code: f_n [S, S-1, B, 1, 1], <g_n, z' - z_n> [.., D, K]."""
        xp, S = self.ops.xp, self.samples
        z = xp.broadcast_to(self.rows(draw), dcodes.shape)          # [S, B, D, K]
        others = xp.asarray([[n for n in range(S) if n != m] for m in range(S)])   # [S, S-1]
        g, source = dcodes[others], z[others]                       # [S, S-1, B, D, K]
        here = (g * (z[:, None] - source)).sum((-2, -1))            # [S, S-1, B]
        along = here[..., None, None] + g - (g * z[:, None]).sum(-1, keepdims=True)
        return cost[others][..., None, None], along

    def forward(self, draw, cost, dcodes, state):
        """dlogits and all that `learn` needs of the way there."""
        if "way" in draw.kept:
            return draw.kept["way"]
        D = draw.logits.shape[1]
        p = self.ops.softmax(draw.logits)                           # [B, D, K]
        score = self.rows(draw) - p                                 # [S, B or 1, D, K]
        inputs = self.inputs(draw, cost, dcodes)
        h = self.surrogate(*inputs, state).mean(1)                  # [S, B, D, K, 2], of z_d := k
        stein = -(score * h[..., 0]).sum((-2, -1)) / D              # [S, B], A h_m(z_m)
        slope = (score * h[..., 1]).sum((-2, -1))[..., None, None]  # [S, B, 1, 1], h'(z) less its local means
        local = (p * h[..., 1]).sum(-1, keepdims=True)              # [S, B, D, 1]
        control = (self.ops.softmax_backward(h[..., 1], p) - (slope + local) * score) / D   # A(h'_m s)(z_m)
        alpha, beta = self.coefficients(state, D, cost.dtype)
        value = cost - self.leave_one_out(cost + alpha * stein)     # [S, B]
        dlogits = (value[..., None, None] * score + beta * control).mean(0)   # [B, D, K]
        return dlogits, (p, score, stein, control, alpha, beta, inputs)

    def surrogate(self, f, along, state):
        """H, or the linear part where nothing is learned: [S, S-1, B, D, K, 2]."""
        if state is None:
            return self.ops.xp.stack([along, along], -1)
        return surrogate(self.ops, f, along, *parameters(state, along.dtype))

    def coefficients(self, state, latents, dtype):
        """a and b: [1] each, or the numbers they start at."""
        if state is None:
            return self.alpha * latents, self.beta * latents
        return state["alpha"].astype(dtype), state["beta"].astype(dtype)

    def leave_one_out(self, f):
        """Mean over the other samples: [S, ...] -> [S, ...]."""
        return (f.sum(0) - f) / (self.samples - 1)

    def prepare(self, draw, cost, dcodes, state):
        return draw.keeping(way=self.forward(draw, cost, dcodes, state))

    def backward(self, draw, cost, dcodes=None, state=None):
        return self.forward(draw, cost, dcodes, state)[0]

    def learn(self, draw, cost, dcodes, state):
        dlogits, (p, score, stein, control, alpha, beta, inputs) = self.forward(draw, cost, dcodes, state)
        xp, S, (B, D, _) = self.ops.xp, self.samples, p.shape
        dr = 2 * dlogits / B                                        # of the mean over b of |dlogits_b|^2
        row = (dr * score).sum(-1, keepdims=True)                   # [S, B, D, 1]
        dvalue = row.sum((-2, -1)) / S                              # [S, B]
        dstein = -alpha * self.leave_one_out(dvalue)                # [S, B]
        dh0 = -dstein[..., None, None] * score / D                  # [S, B, D, K]
        dh1 = (beta / (S * D)) * (self.ops.softmax_backward(dr, p) - row * p - row.sum(-2, keepdims=True) * score)
        dh = xp.stack([dh0, xp.broadcast_to(dh1, dh0.shape)], -1) / (S - 1)   # [S, B, D, K, 2]
        dnet = surrogate_backward(self.ops, dh[:, None], *inputs, *parameters(state, dh.dtype)[:3])
        return {"alpha": -(dvalue * self.leave_one_out(stein)).sum().reshape(1),
                "beta": (dr * control.mean(0)).sum().reshape(1), **dict(zip(PARAMETERS, dnet, strict=True))}
