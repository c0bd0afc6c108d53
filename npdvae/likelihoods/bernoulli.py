"""Bernoulli pixels: cost = -log p(x | z) = the binary cross-entropy of pixel logits (eq. 75)."""
from npdvae.data.baselines import collapsed_baseline, irreducible_cost
from npdvae.data.binarize import binarize
from npdvae.likelihoods import register
from npdvae.likelihoods.base import Likelihood


@register
class Bernoulli(Likelihood):
    """p(x_p = 1 | z) = sigmoid(a_p). No parameters."""

    name = "bernoulli"
    shown = "pixel probabilities"

    def forward(self, params, a, x):
        if a.shape[1] == 1:
            return self.ops.bce_shared(a.squeeze(1), x)                  # [S, B]
        return self.ops.bce(a, x)                                   # [S, B]

    def backward(self, params, dcost, a, x, weights=None):
        if a.shape[1] == 1:
            return self.ops.bce_shared_backward(dcost, a.squeeze(1), x)[:, None], {}     # [S, 1, P]
        return self.ops.bce_backward(dcost, a, x), {}               # [S, B, P]

    def mean(self, params, a):
        return self.ops.sigmoid(a)

    def sample(self, params, a, rng):
        return binarize(self.mean(params, a), "dynamic", rng)

    def collapsed(self, train, test, levels):
        return collapsed_baseline(train, test, levels)

    def floor(self, test, levels):
        return irreducible_cost(test, levels)
