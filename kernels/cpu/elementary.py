"""exp, log and what is made of them, float32, in plain arithmetic that vectorises; below 2 ulp everywhere.

Polynomials of Cephes (S. Moshier, expf.c, logf.c, tanhf.c). NaN in, NaN out; denormal results are kept.
"""
import numpy as np

from npdvae.kernels.cpu.compiler import helper

f4, i4 = np.float32, np.int32

LOG2E = f4(1.4426950408889634)
LN2_HIGH, LN2_LOW = f4(0.693359375), f4(-2.12194440e-4)     # log 2 in two parts: the first is exact in products
LEAST, MOST = f4(-105), f4(89)                              # exp is 0 below, inf above
TINY, SCALE = f4(1.17549435e-38), f4(2.0 ** 23)             # smallest normal number, and what lifts denormals above it


@helper
def power_of_two(n):
    """2**n for integers -126 <= n <= 127."""
    return i4((i4(n) + i4(127)) << i4(23)).view(np.float32)


@helper
def exp(x):
    """e**x: x = n log 2 + r, |r| <= log(2)/2."""
    c = x if x > LEAST else LEAST                           # NaN too: an integer must come of it
    c = c if c < MOST else MOST
    n = np.floor(c * LOG2E + f4(0.5))
    r = c - n * LN2_HIGH - n * LN2_LOW
    y = f4(1.9875691500e-4)
    y = y * r + f4(1.3981999507e-3)
    y = y * r + f4(8.3334519073e-3)
    y = y * r + f4(4.1665795894e-2)
    y = y * r + f4(1.6666665459e-1)
    y = y * r + f4(5.0000001201e-1)
    y = y * r * r + r + f4(1)
    half = i4(n) >> i4(1)                                   # two factors, since 2**n may be no normal number
    y = y * power_of_two(half) * power_of_two(i4(n) - half)
    return y if x == x else x


@helper
def log(x):
    """Natural logarithm; -inf at 0, NaN below."""
    small = x < TINY
    i = f4(x * SCALE if small else x).view(np.int32)
    e = i4(i - i4(0x3f3504f3)) >> i4(23)                    # mantissa in [sqrt(1/2), sqrt(2))
    m = i4(i - i4(e << i4(23))).view(np.float32) - f4(1)
    z = m * m
    y = f4(7.0376836292e-2)
    y = y * m + f4(-1.1514610310e-1)
    y = y * m + f4(1.1676998740e-1)
    y = y * m + f4(-1.2420140846e-1)
    y = y * m + f4(1.4249322787e-1)
    y = y * m + f4(-1.6668057665e-1)
    y = y * m + f4(2.0000714765e-1)
    y = y * m + f4(-2.4999993993e-1)
    y = y * m + f4(3.3333331174e-1)
    k = f4(e) - (f4(23) if small else f4(0))
    y = m * z * y + k * LN2_LOW - f4(0.5) * z
    y = m + y + k * LN2_HIGH
    if x == f4(0):
        y = f4(-np.inf)
    return y if f4(0) <= x < f4(np.inf) else (x if x > f4(0) else f4(np.nan))


@helper
def log1p_unit(t):
    """log(1 + t) for 0 <= t <= 1: 2 artanh(t / (2 + t)) by its series."""
    s = t / (f4(2) + t)
    v = s * s
    y = f4(0.076923)
    y = y * v + f4(0.09090909)
    y = y * v + f4(0.11111111)
    y = y * v + f4(0.14285715)
    y = y * v + f4(0.2)
    y = y * v + f4(0.33333333)
    return f4(2) * s + f4(2) * s * v * y


@helper
def exp_minus(a):
    """e**-a for a >= 0, at least 1e-38: `exp` with half the length of its chain of dependent operations."""
    c = a if a < f4(87) else f4(87)
    n = np.floor(f4(0.5) - c * LOG2E)
    r = -c - n * LN2_HIGH - n * LN2_LOW
    z = r * r
    low = f4(5.0000001201e-1) + r * f4(1.6666665459e-1)
    middle = f4(4.1665795894e-2) + r * f4(8.3334519073e-3)
    high = f4(1.3981999507e-3) + r * f4(1.9875691500e-4)
    y = (low + z * (middle + z * high)) * z + (r + f4(1))
    y = y * power_of_two(i4(n))
    return y if a == a else a


@helper
def log1p_short(t):
    """log(1 + t) for 0 <= t <= 1 as t + t^2 P(t): no division, a short chain of dependent operations.

    P interpolates (log(1 + t) - t) / t^2 at Chebyshev points in degree 8: off by 2.3e-8 of the result.
    """
    t2 = t * t
    t4 = t2 * t2
    a = f4(-0.49999997) + f4(0.333328419) * t
    b = f4(-0.249865262) + f4(0.198541062) * t
    c = f4(-0.158475657) + f4(0.115618454) * t
    d = f4(-0.0667577251) + f4(0.0252240543) * t
    return t + t2 * (a + b * t2 + t4 * (c + d * t2 + t4 * f4(-0.0044662116)))


@helper
def sigmoid(x):
    """1 / (1 + exp(-x))."""
    t = exp(-abs(x))
    q = f4(1) / (f4(1) + t)
    return q if x >= f4(0) else t * q


@helper
def softplus(x):
    """log(1 + exp(x))."""
    return (x if x > f4(0) else f4(0)) + log1p_unit(exp(-abs(x)))


@helper
def tanh(x):
    """Hyperbolic tangent: a polynomial where 1 - exp(-2|x|) would cancel."""
    z = x * x
    y = f4(-5.70498872745e-3)
    y = y * z + f4(2.06390887954e-2)
    y = y * z + f4(-5.37397155531e-2)
    y = y * z + f4(1.33314422036e-1)
    y = y * z + f4(-3.33332819422e-1)
    near = x + x * z * y
    e = exp(f4(-2) * abs(x))
    far = (f4(1) - e) / (f4(1) + e)
    return near if abs(x) < f4(0.625) else (far if x > f4(0) else -far)
