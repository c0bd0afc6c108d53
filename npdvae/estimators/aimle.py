"""Adaptive IMLE: the size of the move follows how many latents change their code."""
from npdvae.estimators import register
from npdvae.estimators.parts.second_argmax import SecondArgmax
from npdvae.ops.kernelled import kernelled


@kernelled
def sizes(ops, logits, dcodes):
    """Norms over an example, |phi| [B, 1, 1], 1 where it is 0, and |g| [S, B, 1, 1], where it is 0 that of phi."""
    xp = ops.xp
    phi, g = (xp.sqrt((x ** 2).sum((-2, -1), keepdims=True)) for x in (logits, dcodes))
    phi = xp.where(phi > 0, phi, 1)
    return phi, xp.where(g > 0, g, phi)                             # at g = 0 any lam gives z' = z


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
        phi, g = sizes(self.ops, draw.logits, dcodes)               # [B, 1, 1], [S, B, 1, 1]
        return -beta * phi / g * dcodes, -g / (beta * phi)

    def prepare(self, draw, cost, dcodes, state):
        return draw.keeping(moved=self.moved(draw, cost, dcodes, state))

    def moved(self, draw, cost, dcodes, state):
        return draw.kept["moved"] if "moved" in draw.kept else super().moved(draw, cost, dcodes, state)

    def init(self, rng, latents, categories, context_size=None):
        return {"log_beta": self.ops.xp.log(self.ops.xp.full(1, self.beta))}

    def learn(self, draw, cost, dcodes, state):
        step, _ = self.moved(draw, cost, dcodes, state)             # [S, B, D, K]
        entries = abs(step).sum((-2, -1))                           # [S, B]
        return {"log_beta": entries.mean().reshape(1) - self.target}    # [1]
