"""Gamma variates as a differentiable function of shape and one uniform (Figurnov et al. 2018), in float64.

P(alpha, g) = sum_n t_n with t_n = g^(alpha + n) e^-g / Gamma(alpha + n + 1) (Abramowitz and Stegun 6.5.29).
"""
import math
from typing import Any

from npdvae.ops.special import digamma, lgamma
from npdvae.types import Array

BISECTIONS, NEWTON = 8, 4                       # leave what rounds in P: 2e-8 of log g at the largest u
MOST = 1e8                                      # shapes beyond, which only a diverging training has, give NaN: the
                                                # series takes 16 sqrt(alpha) terms


def log_gamma_variate(xp: Any, alpha: Array, u: Array) -> tuple[Array, Array]:
    """log g ~ log Gamma(alpha, 1) by the inverse CDF at u, and d log g / d alpha at fixed u.

    alpha [...], u [...] in (0, 1) -> float64 [...], [...], NaN where not alpha <= MOST. Logarithms, since g underflows
    for alpha < 0.1.
    """
    alpha, u = (a.astype(float) for a in xp.broadcast_arrays(alpha, u))
    terms = int(100 + 16 * math.sqrt(float(alpha.size and xp.where(alpha <= MOST, alpha, 0).max())))
    alpha = xp.where(alpha <= MOST, alpha, xp.nan)
    factor, slope = lgamma(xp, alpha + 1), digamma(xp, alpha + 1)
    left = (xp.log(u) + factor) / alpha                             # P <= g^alpha / Gamma(alpha + 1)
    right = xp.log(alpha + 6 * xp.sqrt(alpha) + 20)                 # past the largest uniform, 1 - 2^-24
    for _ in range(BISECTIONS):
        middle = (left + right) / 2
        below = cdf(xp, alpha, middle, factor, terms) < u
        left, right = xp.where(below, middle, left), xp.where(below, right, middle)
    log_g = left                                # log P is concave in log g: Newton's steps stay on the left
    for _ in range(NEWTON):
        p = cdf(xp, alpha, log_g, factor, terms)
        log_g = log_g - p * xp.log(p / u) / density(xp, alpha, log_g, factor)
    return log_g, -cdf_slope(xp, alpha, log_g, factor, slope, terms) / density(xp, alpha, log_g, factor)


def density(xp: Any, alpha: Array, log_g: Array, factor: Array) -> Array:
    """Of log g; `factor` = log Gamma(alpha + 1)."""
    return alpha * xp.exp(alpha * log_g - xp.exp(log_g) - factor)


def cdf(xp: Any, alpha: Array, log_g: Array, factor: Array, terms: int) -> Array:
    """P(alpha, g)."""
    g, t = xp.exp(log_g), xp.exp(alpha * log_g - xp.exp(log_g) - factor)
    total = t
    for n in range(1, terms):
        t = t * g / (alpha + n)
        total = total + t
    return total


def cdf_slope(xp: Any, alpha: Array, log_g: Array, factor: Array, slope: Array, terms: int) -> Array:
    """dP / d alpha = sum_n t_n (log g - digamma(alpha + n + 1)); `slope` = digamma(alpha + 1)."""
    g, t = xp.exp(log_g), xp.exp(alpha * log_g - xp.exp(log_g) - factor)
    psi, total = slope, t * (log_g - slope)
    for n in range(1, terms):
        t, psi = t * g / (alpha + n), psi + 1 / (alpha + n)
        total = total + t * (log_g - psi)
    return total
