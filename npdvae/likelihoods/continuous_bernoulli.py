"""Grey pixels in [0, 1] as they are: the continuous Bernoulli (Loaiza-Ganem & Cunningham 2019), on logits."""
from npdvae.likelihoods import register
from npdvae.likelihoods.base import Likelihood

# A'(a) - 1/2 in odd powers of a: B_2n / (2n)!, B_2n the Bernoulli numbers; what is left out is below 3e-16 for |a| < 1
SERIES = (0.08333333333333333, -0.001388888888888889, 3.306878306878307e-05, -8.267195767195768e-07,
          2.08767569878681e-08, -5.284190138687493e-10, 1.3382536530684679e-11,
          -3.3896802963225827e-13, 8.586062056277845e-15)


def log_norm(xp, a):
    """A(a) = log int_0^1 exp(a x) dx = max(a, 0) + log((1 - exp(-|a|)) / |a|): [...], 0 at a = 0."""
    m = xp.where(a.real > 0, a, -a)                                 # |a|, with a derivative for complex steps
    safe = xp.where(m == 0, xp.ones_like(m), m)
    return xp.where(a.real > 0, a, 0 * a) + xp.where(m == 0, 0 * m, xp.log(-xp.expm1(-safe) / safe))


def mean_of(xp, a):
    """A'(a) = 1 / (1 - exp(-a)) - 1 / a, the mean of a pixel: [...]; for |a| < 1 the series, which loses nothing."""
    m = xp.where(a.real > 0, a, -a)
    far = xp.where(m.real < 1, xp.ones_like(m), m)
    big = -1 / xp.expm1(-far) - 1 / far                             # at |a| >= 1
    small, near = xp.where(m.real < 1, a, 0 * a), 0 * a
    for c in reversed(SERIES):
        near = near * small * small + c
    return xp.where(m.real < 1, 0.5 + small * near, xp.where(a.real > 0, big, 1 - big))


@register
class ContinuousBernoulli(Likelihood):
    """cost = sum A(a) - x a. A density on [0, 1]: it may be negative. No parameters."""

    name = "continuous_bernoulli"
    density = grey = True

    def forward(self, params, a, x):
        norm = log_norm(self.ops.xp, a).sum(-1)                     # [S, B or 1]
        return norm - (a.squeeze(1) @ x.T if a.shape[1] == 1 else (a * x).sum(-1))   # [S, B]

    def backward(self, params, dcost, a, x, weights=None):
        if a.shape[1] == 1:
            return (dcost.sum(1, keepdims=True) * mean_of(self.ops.xp, a.squeeze(1)) - dcost @ x)[:, None], {}
        return dcost[..., None] * (mean_of(self.ops.xp, a) - x), {}     # [S, B, P]

    def mean(self, params, a):
        return mean_of(self.ops.xp, a)

    def sample(self, params, a, rng):
        """By the inverse of the CDF (exp(a x) - 1) / (exp(a) - 1), for |a| and mirrored."""
        xp, u = self.ops.xp, rng.uniform((1, *a.shape), a.dtype)[0]     # [N, P]
        m = xp.maximum(abs(a), 1e-4)                                # below, uniform to rounding
        x = 1 + xp.log(u + (1 - u) * xp.exp(-m)) / m
        return xp.where(a > 0, x, 1 - x)
