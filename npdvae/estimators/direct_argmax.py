"""Direct optimisation through the argmax: the code against the one that the same noise gives at logits plus costs."""
from npdvae.estimators import register
from npdvae.estimators.parts.neighbours import cost_table, neighbours
from npdvae.estimators.parts.second_argmax import SecondArgmax


@register
class DirectArgmax(SecondArgmax):
    """(argmax_k (phi_dk + G_dk + eps f(z_d := k)) - z_d) / eps, z = argmax(phi + G) (Lorberbom et al. 2019).

    The first argmax goes over one latent, the others as drawn. The bias vanishes with eps, the variance grows
    like 1 / eps. Cost: D (K-1) + 1 evaluations, of which the first trains the decoder.
    """

    name = "direct_argmax"

    def __init__(self, ops=None, eps=0.5):
        super().__init__(ops)
        if not eps or abs(eps) == float("inf"):
            raise ValueError(f"estimator direct_argmax needs an eps that is not 0, got {eps}")
        self.eps = float(eps)

    def evaluations(self, latents, categories):
        return latents * (categories - 1) + 1

    def rows(self, codes, logits):
        return neighbours(self.ops.xp, codes.reshape(codes.shape[1:]), logits.shape[-1])     # [1 + D (K-1), B, D]

    def weigh(self, draw, cost):
        return self.ops.xp.eye(len(cost), 1, dtype=cost.dtype)      # [1 + D (K-1), 1]: the code itself

    def move(self, draw, cost, dcodes, state):
        K = draw.logits.shape[-1]
        return self.eps * cost_table(self.ops.xp, cost, draw.codes[0], K), 1 / self.eps
