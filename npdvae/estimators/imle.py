"""Implicit maximum likelihood: the code against the one that the same noise gives at logits moved down the cost."""
from npdvae.estimators import register
from npdvae.estimators.parts.second_argmax import SecondArgmax


@register
class IMLE(SecondArgmax):
    """(z - argmax(phi + G - lam g)) / lam, z = argmax(phi + G), g = df/dz (Niepert et al. 2021, algorithm 1).

    Theirs is not divided by lam; divided it estimates the gradient. As lam falls to 0 the mean becomes exact for costs
    multilinear in the one-hot rows, the variance grows like 1 / lam. Cost: S evaluations and S backwards.
    """

    name = "imle"
    needs_dcodes = True

    def __init__(self, ops=None, samples=1, lam=0.3):
        super().__init__(ops)
        if samples < 1:
            raise ValueError(f"estimator imle needs samples >= 1, got {samples}")
        if not 0 < lam < float("inf"):
            raise ValueError(f"estimator imle needs lam > 0, got {lam}")
        self.samples, self.lam = samples, float(lam)

    def evaluations(self, latents, categories):
        return self.samples

    def move(self, draw, cost, dcodes, state):
        return -self.lam * dcodes, -1 / self.lam
