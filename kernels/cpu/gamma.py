"""Gamma variates by inverting their distribution function, and their derivatives by the shape; float64 inside.

`npdvae.ops.gamma` for float32, 32 variates side by side.
"""
import math

import numpy as np

from npdvae.kernels.cpu.compiler import CONTRACT, helper, kernel

f4, f8 = np.float32, np.float64
W = 32                                          # variates at a time
BISECTIONS, NEWTON, NIL, TERMS, MOST, LARGE = 8, 4, 2.0 ** -64, 8, 1e8, 12     # as there
HALF_LOG_TAU = 0.5 * math.log(2 * math.pi)


@helper
def lgamma_digamma(x):
    """log Gamma(x) and its derivative, as npdvae.ops.special has them."""
    logs, inverses = 0.0, 0.0
    while x < LARGE:
        logs, inverses, x = logs + np.log(x), inverses + 1 / x, x + 1
    i, log_x = 1 / (x * x), np.log(x)
    tail = (1 / 12 - i * (1 / 360 - i * (1 / 1260 - i * (1 / 1680 - i / 1188)))) / x
    slope = i * (1 / 12 - i * (1 / 120 - i * (1 / 252 - i * (1 / 240 - i / 132))))
    return (x - 0.5) * log_x - x + HALF_LOG_TAU + tail - logs, log_x - 0.5 / x - slope - inverses


@helper
def cdf(alpha, log_g, factor, g, t, total):
    """P(alpha, g) into total: all float64 [W], factor = log Gamma(alpha + 1); g and t are scratch."""
    for i in range(W):
        g[i] = np.exp(log_g[i])
        t[i] = total[i] = np.exp(alpha[i] * log_g[i] - g[i] - factor[i])
    n, more = 0.0, True
    while more:
        for _ in range(TERMS):
            n += 1
            for i in range(W):
                t[i] *= g[i] / (alpha[i] + n)
                total[i] += t[i]
        more = False
        for i in range(W):
            more |= t[i] > NIL * total[i]


@helper
def cdf_slope(alpha, log_g, factor, psi, g, t, p, total):
    """dP / d alpha into total: all float64 [W], psi = digamma(alpha + 1) is used up; g, t and p are scratch."""
    for i in range(W):
        g[i] = np.exp(log_g[i])
        t[i] = p[i] = np.exp(alpha[i] * log_g[i] - g[i] - factor[i])
        total[i] = t[i] * (log_g[i] - psi[i])
    n, more = 0.0, True
    while more:
        for _ in range(TERMS):
            n += 1
            for i in range(W):
                one = 1 / (alpha[i] + n)
                t[i] *= g[i] * one
                psi[i] += one
                p[i] += t[i]
                total[i] += t[i] * (log_g[i] - psi[i])
        more = False
        for i in range(W):
            more |= t[i] > NIL * p[i]


@helper
def density(alpha, log_g, factor):
    """Of log g."""
    return alpha * np.exp(alpha * log_g - np.exp(log_g) - factor)


@kernel(CONTRACT)
def variates(alpha, u, log_g, slope):
    """log g and d log g / d alpha at fixed u: alpha [N], u [S N] -> [S N] twice, NaN where not alpha <= MOST."""
    N, last, scratch = alpha.size, u.size - 1, np.empty((11, W))
    a, v, factor, psi, left, right, middle, g, t, p, dp = scratch
    for start in range(0, u.size, W):
        for i in range(W):
            at = min(start + i, last)
            x = f8(alpha[at % N])
            a[i], v[i] = x if x <= MOST else np.nan, u[at]
            factor[i], psi[i] = lgamma_digamma(a[i] + 1)
            left[i] = (np.log(v[i]) + factor[i]) / a[i]
            right[i] = np.log(a[i] + 6 * np.sqrt(a[i]) + 20)
        for _ in range(BISECTIONS):
            for i in range(W):
                middle[i] = (left[i] + right[i]) / 2
            cdf(a, middle, factor, g, t, p)
            for i in range(W):
                below = p[i] < v[i]
                left[i], right[i] = middle[i] if below else left[i], right[i] if below else middle[i]
        for _ in range(NEWTON):                 # from the left end: log P is concave in log g
            cdf(a, left, factor, g, t, p)
            for i in range(W):
                left[i] -= p[i] * np.log(p[i] / v[i]) / density(a[i], left[i], factor[i])
        cdf_slope(a, left, factor, psi, g, t, p, dp)
        for i in range(min(W, u.size - start)):
            log_g[start + i] = left[i]
            slope[start + i] = -dp[i] / density(a[i], left[i], factor[i])
