"""Adaptive IMLE: the size of the move follows how many latents change their code."""
from npdvae.estimators import register
from npdvae.estimators.parts.second_argmax import SecondArgmax


@register
class AIMLE(SecondArgmax):
    """(z - argmax(phi + G - lam g)) / lam, lam = beta |phi| / |g|, norms over an example (Minervini et al. 2023).

    beta is learned, in its logarithm: it grows while a sample's gradient has fewer than `target` entries that are not
    zero, and falls where it has more. A code that changes makes two. Cost: S evaluations and S backwards.
    """

    name = "aimle"
    needs_dcodes = True

    def __init__(self, ops=None, samples=1, beta=1.0, target=1.0):
        super().__init__(ops)
        if samples < 1:
            raise ValueError(f"estimator aimle needs samples >= 1, got {samples}")
        if not 0 < beta < float("inf"):
            raise ValueError(f"estimator aimle needs beta > 0, got {beta}")
        if not target > 0:
            raise ValueError(f"estimator aimle needs a target > 0, got {target}")
        self.samples, self.beta, self.target = samples, float(beta), float(target)

    def evaluations(self, latents, categories):
        return self.samples

    def move(self, draw, cost, dcodes, state):
        xp = self.ops.xp
        beta = self.beta if state is None else xp.exp(state["log_beta"]).astype(dcodes.dtype)
        phi, g = (xp.sqrt((x ** 2).sum((-2, -1), keepdims=True)) for x in (draw.logits, dcodes))
        phi = xp.where(phi > 0, phi, 1)                             # [B, 1, 1]
        g = xp.where(g > 0, g, phi)                                 # [S, B, 1, 1]; at g = 0 any lam gives z' = z
        return -beta * phi / g * dcodes, -g / (beta * phi)

    def init(self, rng, latents, categories, context_size=None):
        return {"log_beta": self.ops.xp.log(self.ops.xp.full(1, self.beta))}

    def learn(self, draw, cost, dcodes, state):
        shift, _ = self.move(draw, cost, dcodes, state)
        entries = abs(self.step(draw, shift)).sum((-2, -1))         # [S, B]
        return {"log_beta": entries.mean().reshape(1) - self.target}    # [1]
