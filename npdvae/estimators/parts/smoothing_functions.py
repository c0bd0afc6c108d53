"""Smoothing transformations of a bit: zeta in [0, 1] from uniforms, and its derivative by the bit's logit.

Each is a function (xp, one, p, t, rho, beta) -> zeta, dzeta / da, all [S, B, D]: one = [u < p], t = u / p where one,
(1 - u) / (1 - p) elsewhere, both uniform given the bit; rho a second uniform; p = sigmoid(a). Larger beta, less smooth.
"""


def f1(xp, one, p, t, rho, beta):
    """0, or exponential towards 1 (spike and exponential, Rolfe 2016)."""
    drop = xp.expm1(-beta)
    zeta = 1 + xp.log1p(t * drop) / beta
    return xp.where(one, zeta, 0), xp.where(one, -(1 - p) * t * drop / (beta * (1 + t * drop)), 0)


def f2(xp, one, p, t, rho, beta):
    """0, or a power towards 1: density (1 - zeta)^(1 / beta - 1) / beta."""
    power = t ** beta
    return xp.where(one, 1 - power, 0), xp.where(one, beta * (1 - p) * power, 0)


def f3(xp, one, p, t, rho, beta):
    """A power from either end to 1 - p: increasing in 1 - u, of slope beta at 1 - p and 0 at both ends (beta > 1)."""
    power = t ** beta
    return xp.where(one, 1 - p * power, (1 - p) * power), p * (1 - p) * (beta - 1) * power


def overlapping_exponential(xp, one, p, t, rho, beta):
    """Exponentials from both ends (DVAE++, Vahdat et al. 2018): density beta e^(-beta zeta) / (1 - e^-beta)."""
    drop = xp.expm1(-beta)
    near = -xp.log1p(rho * drop) / beta                             # its distribution function is rho
    return overlap(xp, one, p, rho, near, xp.expm1(-beta * (1 - near)) / drop,
                   xp.exp(-beta * near) * beta / -drop, xp.exp(-beta * (1 - near)) * beta / -drop)


def overlapping_power(xp, one, p, t, rho, beta):
    """Powers from both ends (DVAE#, Vahdat et al. 2018): density zeta^(1 / beta - 1) / beta."""
    near = xp.maximum(rho ** beta, xp.finfo(rho.dtype).tiny)        # the density is infinite at 0
    return overlap(xp, one, p, rho, near, (1 - near) ** (1 / beta),
                   near ** (1 / beta - 1) / beta, (1 - near) ** (1 / beta - 1) / beta)


def overlap(xp, one, p, rho, near, mass, density, other):
    """zeta is `near` to the end that the bit names; by the implicit function theorem (F0 - F1) p (1 - p) / density.

    rho, density: distribution function and density from that end; mass, other: those from the other end.
    """
    own = xp.where(one, p, 1 - p)
    slope = p * (1 - p) * (rho + mass - 1) / (own * density + (1 - own) * other)
    return xp.where(one, 1 - near, near), slope


FUNCTIONS = {"f1": f1, "f2": f2, "f3": f3, "overlapping_exponential": overlapping_exponential,
             "overlapping_power": overlapping_power}


def smooth(xp, function, p, u, rho, beta):
    """zeta and dzeta / da of bits of probability p [B, D] at uniforms u, rho [S, B, D]: 2 x [S, B, D]."""
    one = u < p                                                     # [S, B, D]
    t = xp.where(one, u, 1 - u) / xp.where(one, p, 1 - p)
    return FUNCTIONS[function](xp, one, p, t, rho, beta)
