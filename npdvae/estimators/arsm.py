"""ARSM: augment, REINFORCE, swap, merge; ARM for categoricals."""
import itertools

from npdvae.estimators import register
from npdvae.estimators.base import Draw, Estimator
from npdvae.estimators.parts.simplex_cells import nodes, swaps
from npdvae.ops.kernelled import kernelled

MOST_CATEGORIES = 4                             # beyond, the regions of the noise are too many to enumerate


@kernelled
def swapped_winners(ops, log_e, logits, orders):
    """argmin_i (log_e_order(i) - phi_i): log_e and logits [B, D, K], orders int [S, K] -> [S, B, D]."""
    swapped = ops.xp.moveaxis(log_e[..., orders], 2, 0)             # [S, B, D, K]
    return (swapped - logits).argmin(-1)


@register
class ARSM(Estimator):
    """sum_m (1/K - w_m) (f_mk - mean_j f_mj) for the logit of category k (Yin, Yue & Zhou 2019, theorem 2).

    f_mj is the cost at argmin_i (log w_i - phi_i) with shares m and j of w ~ Dirichlet(1, ..., 1) exchanged in every
    latent. Cost: K (K-1) / 2 + 1 evaluations.
    """

    name = "arsm"
    unbiased = True
    exact_for = "any"

    def evaluations(self, latents, categories):
        return categories * (categories - 1) // 2 + 1

    def sample(self, logits, rng, state=None, context=None):
        xp, (B, D, K) = self.ops.xp, logits.shape
        log_e = -self.ops.gumbel(rng.uniform((1, B, D, K), logits.dtype)[0])    # log of exponentials: [B, D, K]
        codes = swapped_winners(self.ops, log_e, logits, xp.asarray(swaps(K)))      # [S, B, D]
        return Draw(codes, logits, {"w": self.ops.softmax(log_e)})

    def outcomes(self, logits, state=None, context=None):
        """Nodes of a quadrature, exact for mean and covariance; None for more than 4 categories."""
        return self.enumerate(logits) if logits.shape[-1] <= MOST_CATEGORIES else None

    def enumerate(self, logits):
        """Yields (probability [B], Draw): regions of the noise with the same codes, latent by latent."""
        xp, (B, D, K) = self.ops.xp, logits.shape
        weight, w, codes = nodes(xp, logits.reshape(-1, K).astype(float))
        weight, w, codes = (x.reshape(B, D, *x.shape[1:]) for x in (weight, w, codes))  # [B, D, R], + [K], + [S]
        latent = xp.arange(D)
        for index in itertools.product(range(weight.shape[2]), repeat=D):
            index = xp.asarray(index)
            probability = weight[:, latent, index].prod(-1)         # [B]
            if (probability > 0).any():
                yield probability, Draw(xp.moveaxis(codes[:, latent, index], -1, 0), logits, {"w": w[:, latent, index]})

    def bounds(self, logits, cost_range):
        """Bounds (low, high) of the estimate where costs differ by at most `cost_range`: 2 x [B, D, K]."""
        high = self.ops.xp.full(logits.shape, 2 * cost_range * (1 - 1 / logits.shape[-1]) ** 2)
        return -high, high

    def backward(self, draw, cost, dcodes=None, state=None):
        xp, K = self.ops.xp, draw.logits.shape[-1]
        pairs = {(i, j): n for n, (i, j) in enumerate(itertools.combinations(range(K), 2), 1)}
        row = xp.asarray([[pairs.get((min(m, j), max(m, j)), 0) for j in range(K)] for m in range(K)])
        f = cost[row]                                               # [K, K, B]
        advantage = f - f.mean(1, keepdims=True)                    # [K, K, B]
        return xp.einsum("bdm,mkb->bdk", 1 / K - draw.kept["w"], advantage).astype(cost.dtype)
