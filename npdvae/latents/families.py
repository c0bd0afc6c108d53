"""Standard densities p0(e) of location-scale families: noise, log-density, its slope, variance, entropy; in nats.

All six are symmetric about 0. log_density lets complex e through.
"""
import math
from collections.abc import Callable

import numpy as np

from npdvae.ops.special import digamma
from npdvae.ops.table import Ops
from npdvae.types import Array

LOG_TAU = math.log(2 * math.pi)
LEAST = 2.0 ** -23                              # 1 - |e| of the farthest triangular e that 23-bit uniforms give


class Family:
    """What one family knows, on an op table; `noise` makes e [...] of `uniforms` numbers u [..., uniforms]."""

    uniforms = 1
    bounded = False                             # support (-1, 1), else the line
    variance: float
    entropy: float

    def __init__(self, ops: Ops):
        self.ops, self.xp = ops, ops.xp

    def noise(self, u: Array) -> Array:
        """e ~ p0 from uniforms: [..., uniforms] -> [...]."""
        raise NotImplementedError

    def log_density(self, e: Array) -> Array:
        """log p0(e)."""
        raise NotImplementedError

    def slope(self, e: Array) -> Array:
        """d log p0 / de."""
        raise NotImplementedError

    def size(self, e: Array) -> Array:
        """|e|, analytic but at 0."""
        return self.xp.where(e < 0, -e, e)


class Gaussian(Family):
    """exp(-e^2 / 2) / sqrt(2 pi)."""

    uniforms, variance, entropy = 2, 1.0, (LOG_TAU + 1) / 2

    def noise(self, u):
        return self.ops.normal(u)

    def log_density(self, e):
        return -e ** 2 / 2 - LOG_TAU / 2

    def slope(self, e):
        return -e


class StudentT(Family):
    """(1 + e^2 / nu)^-((nu + 1) / 2) / const, by Bailey's (1994) polar method; nu > 2, for a variance."""

    uniforms = 2

    def __init__(self, ops, nu):
        super().__init__(ops)
        if not nu > 2:
            raise ValueError(f"student_t: nu must be above 2 for a finite variance, got {nu}")
        half, psi = (nu + 1) / 2, digamma(np, np.array([(nu + 1) / 2, nu / 2]))
        self.log_norm = math.lgamma(half) - math.lgamma(nu / 2) - math.log(nu * math.pi) / 2
        self.nu, self.variance, self.entropy = nu, nu / (nu - 2), half * float(psi[0] - psi[1]) - self.log_norm

    def noise(self, u):
        radius = self.xp.sqrt(self.nu * self.xp.expm1(-2 / self.nu * self.xp.log(u[..., 0])))
        return radius * self.xp.cos(2 * math.pi * u[..., 1])

    def log_density(self, e):
        return self.log_norm - (self.nu + 1) / 2 * self.xp.log1p(e ** 2 / self.nu)

    def slope(self, e):
        return -(self.nu + 1) * e / (self.nu + e ** 2)


class Laplace(Family):
    """exp(-|e|) / 2."""

    variance, entropy = 2.0, 1 + math.log(2)

    def noise(self, u):
        v = 2 * u[..., 0] - 1                                       # in (-1, 1), never 0
        return -self.xp.sign(v) * self.xp.log1p(-abs(v))

    def log_density(self, e):
        return -self.size(e) - math.log(2)

    def slope(self, e):
        return -self.xp.sign(e)


class Logistic(Family):
    """1 / (4 cosh(e / 2)^2)."""

    variance, entropy = math.pi ** 2 / 3, 2.0

    def noise(self, u):
        return self.xp.log(u[..., 0]) - self.xp.log1p(-u[..., 0])

    def log_density(self, e):
        return -e - 2 * self.ops.softplus(-e)

    def slope(self, e):
        return -self.xp.tanh(e / 2)


class Triangular(Family):
    """1 - |e| on (-1, 1). The score has infinite variance: E[slope^2] = inf, as log(1 / (1 - |e|))."""

    uniforms, bounded, variance, entropy = 2, True, 1 / 6, 0.5

    def noise(self, u):
        return u[..., 0] - (1 - u[..., 1])

    def log_density(self, e):
        return self.xp.log(self.xp.maximum(1 - self.size(e), LEAST))    # e that rounding moved is inside

    def slope(self, e):
        return -self.xp.sign(e) / self.xp.maximum(1 - abs(e), LEAST)


class Uniform(Family):
    """1/2 on (-1, 1). Its ends move with loc and scale, which a score function does not see."""

    bounded, variance, entropy = True, 1 / 3, math.log(2)

    def noise(self, u):
        return 2 * u[..., 0] - 1

    def log_density(self, e):
        return self.xp.full_like(e, -math.log(2))                   # e as drawn: inside, whatever rounding did

    def slope(self, e):
        return self.xp.zeros_like(e)


TABLE: dict[str, Callable[[Ops], Family]] = {
    "gaussian": Gaussian, "laplace": Laplace, "logistic": Logistic, "triangular": Triangular, "uniform": Uniform}


def nodes(family: Family, count: int) -> tuple[Array, Array]:
    """e and weights [2 count] with E[f(e)] = sum weights f(e), the halves apart: a kink at 0 does no harm.

    Double exponential substitution (Takahasi and Mori 1974); float64 arrays of the backend.
    """
    xp, t = family.xp, family.xp.linspace(-4, 4 if family.bounded else 2.5, count)
    far = math.pi / 2 * xp.sinh(t)                                  # [count]
    e = 1 / (1 + xp.exp(-2 * far)) if family.bounded else xp.exp(far)       # (0, 1) or (0, inf)
    slope = e * (1 - e) if family.bounded else e                    # constants leave with w.sum()
    w = xp.exp(family.log_density(e)) * slope * xp.cosh(t)
    w = xp.concatenate([w[::-1], w])                                # [2 count]
    return xp.concatenate([-e[::-1], e]), w / w.sum()


def quantiles(family: Family, n: int, count: int = 4000) -> Array:
    """e at probabilities (i + 1/2) / n, off by less than 2e-4: float64 [n]."""
    e, w = nodes(family, count)
    return family.xp.interp((family.xp.arange(n) + 0.5) / n, family.xp.cumsum(w) - w / 2, e)
