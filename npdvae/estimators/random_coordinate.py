"""Random coordinate: the local expectation gradient of one latent drawn at random, D times."""
from npdvae.estimators import register
from npdvae.estimators.base import Draw, Estimator
from npdvae.estimators.parts.outcomes import code_tuples


@register
class RandomCoordinate(Estimator):
    """D p_dk (f(z_d := k) - sum_j p_dj f(z_d := j)) for one d drawn uniformly, 0 for the other latents.

    For K = 2 it is bitflip-1 (arXiv 2208.06124). Its variance stays bounded where posteriors are sharp.
    Cost: K evaluations; the decoder's gradient uses all of them.
    """

    name = "random_coordinate"
    unbiased = True
    exact_for = "any"

    def evaluations(self, latents, categories):
        return categories

    def draw(self, codes, chosen, logits):
        """codes int [B or 1, D], chosen int [B or 1], the latent that is summed out."""
        xp, (_, D, K) = self.ops.xp, logits.shape
        here = xp.arange(D) == chosen[:, None]                      # [B or 1, D]
        rows = xp.where(here, xp.arange(K)[:, None, None], codes)   # [K, B or 1, D]
        here = here[:, None].astype(logits.dtype)                   # [B or 1, 1, D]
        p = (here @ self.ops.softmax(logits)).reshape(-1, K)        # [B, K], of that latent
        return Draw(rows, logits, {"here": here.swapaxes(1, 2), "p": p})

    def sample(self, logits, rng, state=None, context=None):
        B, D, _ = logits.shape
        u = rng.uniform((1, B, D + 1), logits.dtype).reshape(B, D + 1)
        codes = self.ops.inverse_cdf(self.ops.softmax(logits), u[:, :-1])   # [B, D]
        evenly = self.ops.xp.full((B, D), 1 / D, logits.dtype)
        return self.draw(codes, self.ops.inverse_cdf(evenly, u[:, -1]), logits)

    def outcomes(self, logits, state=None, context=None):
        D = logits.shape[1]
        for probability, codes in code_tuples(self.ops, logits, 1):
            for d in range(D):
                yield probability / D, self.draw(codes.reshape(1, D), self.ops.xp.asarray([d]), logits)

    def weigh(self, draw, cost):
        return draw.kept["p"].T.astype(cost.dtype)                  # [K, B]

    def backward(self, draw, cost, dcodes=None, state=None):
        row = self.ops.softmax_backward(cost.T, draw.kept["p"])     # [B, K]
        return draw.logits.shape[1] * draw.kept["here"] * row[:, None]      # [B, D, K]
