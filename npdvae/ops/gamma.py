"""Gamma variates as a differentiable function of shape and one uniform (Figurnov et al. 2018), in float64.

P(alpha, g) = sum_n t_n with t_n = g^(alpha + n) e^-g / Gamma(alpha + n + 1) (Abramowitz and Stegun 6.5.29).
"""
from typing import Any

from npdvae.ops.special import digamma, lgamma
from npdvae.types import Array

BISECTIONS, NEWTON = 8, 4                       # leave what rounds in P: 2e-8 of log g at the largest u
MOST = 1e8                                      # shapes beyond, which only a diverging training has, give NaN: the
                                                # series takes some 10 sqrt(alpha) terms
NIL, TERMS = 2.0 ** -64, 8                      # a series ends, at whole eights, below this share of its sum: there
                                                # terms fall faster than any power, and rounding loses what is left


def log_gamma_variate(xp: Any, alpha: Array, u: Array) -> tuple[Array, Array]:
    """log g ~ log Gamma(alpha, 1) by the inverse CDF at u, and d log g / d alpha at fixed u.

    alpha [...], u [...] in (0, 1) -> float64 [...], [...], NaN where not alpha <= MOST. Logarithms, since g underflows
    for alpha < 0.1.
    """
    alpha, u = (a.astype(float) for a in xp.broadcast_arrays(alpha, u))
    alpha = xp.where(alpha <= MOST, alpha, xp.nan)
    factor, slope = lgamma(xp, alpha + 1), digamma(xp, alpha + 1)
    left = (xp.log(u) + factor) / alpha                             # P <= g^alpha / Gamma(alpha + 1)
    right = xp.log(alpha + 6 * xp.sqrt(alpha) + 20)                 # past the largest uniform, 1 - 2^-24
    for _ in range(BISECTIONS):
        middle = (left + right) / 2
        below = cdf(xp, alpha, middle, factor) < u
        left, right = xp.where(below, middle, left), xp.where(below, right, middle)
    log_g = left                                # log P is concave in log g: Newton's steps stay on the left
    for _ in range(NEWTON):
        p = cdf(xp, alpha, log_g, factor)
        log_g = log_g - p * xp.log(p / u) / density(xp, alpha, log_g, factor)
    return log_g, -cdf_slope(xp, alpha, log_g, factor, slope) / density(xp, alpha, log_g, factor)


def density(xp: Any, alpha: Array, log_g: Array, factor: Array) -> Array:
    """Of log g; `factor` = log Gamma(alpha + 1)."""
    return alpha * xp.exp(alpha * log_g - xp.exp(log_g) - factor)


def cdf(xp: Any, alpha: Array, log_g: Array, factor: Array) -> Array:
    """P(alpha, g)."""
    g, t = xp.exp(log_g), xp.exp(alpha * log_g - xp.exp(log_g) - factor)
    total, n = t, 0
    while (t > NIL * total).any():
        for _ in range(TERMS):
            n += 1
            t = t * g / (alpha + n)
            total = total + t
    return total


def cdf_slope(xp: Any, alpha: Array, log_g: Array, factor: Array, slope: Array) -> Array:
    """dP / d alpha = sum_n t_n (log g - digamma(alpha + n + 1)); `slope` = digamma(alpha + 1)."""
    g, t = xp.exp(log_g), xp.exp(alpha * log_g - xp.exp(log_g) - factor)
    psi, p, total, n = slope, t, t * (log_g - slope), 0
    while (t > NIL * p).any():                  # not by terms of either sign, one of which may vanish
        for _ in range(TERMS):
            n += 1
            t, psi = t * g / (alpha + n), psi + 1 / (alpha + n)
            p, total = p + t, total + t * (log_g - psi)
    return total
