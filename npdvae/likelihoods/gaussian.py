"""Grey pixels with Gaussian noise of one scale: cost = sum (x - a)^2 / (2 sigma^2) + log sigma + log(2 pi) / 2."""
import math

import numpy as np

from npdvae.likelihoods import register
from npdvae.likelihoods.base import Likelihood

SQRT_HALF = math.sqrt(0.5)                      # squared error
LEAST = math.log(1e-2)                          # of log sigma: pixels that are constant would drive it down for ever


@register
class Gaussian(Likelihood):
    """The decoder's output is the mean. sigma = sqrt(1/2) is squared error, plus a constant.

    `learned`: log sigma is a parameter, `likelihood.log_sigma` [1], that starts at `sigma`.
    """

    name = "gaussian"
    density = grey = True

    def __init__(self, ops, sigma=SQRT_HALF, learned=False):
        super().__init__(ops)
        if not sigma >= math.exp(LEAST):
            raise ValueError(f"likelihood gaussian needs sigma of at least {math.exp(LEAST):g}, got {sigma}")
        self.sigma, self.learned = sigma, learned

    def settings(self):
        return {"sigma": self.sigma, "learned": self.learned}

    def init(self, dtype):
        return {"likelihood.log_sigma": np.full(1, math.log(self.sigma), dtype)} if self.learned else {}

    def log_sigma(self, params):
        """t = log sigma: a number, or an array [1] that is never below LEAST."""
        if not self.learned:
            return math.log(self.sigma)
        t = params["likelihood.log_sigma"]
        return self.ops.xp.where(t.real > LEAST, t, LEAST).astype(t.dtype)

    def precision(self, t):
        """1 / sigma^2."""
        return math.exp(-2 * t) if isinstance(t, float) else self.ops.xp.exp(-2 * t)

    def squares(self, a, x):
        """|x - a|^2 of a [S, B or 1, P], x [B, P]: [S, B]."""
        if a.shape[1] == 1:                                         # a product of matrices
            a = a.squeeze(1)                                        # [S, P]
            return (x ** 2).sum(-1) - 2 * (a @ x.T) + (a ** 2).sum(-1)[:, None]
        return ((x - a) ** 2).sum(-1)

    def forward(self, params, a, x):
        t = self.log_sigma(params)
        return self.squares(a, x) * (self.precision(t) / 2) + x.shape[-1] * (t + math.log(2 * math.pi) / 2)

    def backward(self, params, dcost, a, x, weights=None):
        t = self.log_sigma(params)
        precision = self.precision(t)
        if a.shape[1] == 1:
            da = (dcost.sum(1, keepdims=True) * a.squeeze(1) - dcost @ x)[:, None] * precision   # [S, 1, P]
        else:
            da = dcost[..., None] * ((a - x) * precision)           # [S, B, P]
        if not self.learned:
            return da, {}
        rows = dcost if weights is None else weights                # [S, B]
        dt = (rows * (x.shape[-1] - self.squares(a, x) * precision)).sum().reshape(1)
        held = (params["likelihood.log_sigma"].real <= LEAST) & (dt.real > 0)       # descent would go below
        return da, {"likelihood.log_sigma": self.ops.xp.where(held, 0, dt).astype(dt.dtype)}

    def mean(self, params, a):
        return a

    def sample(self, params, a, rng):
        u = rng.uniform((1, *a.shape, 2))[0]                        # [N, P, 2]
        return a + self.precision(self.log_sigma(params)) ** -0.5 * self.ops.normal(u)
