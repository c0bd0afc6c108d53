"""log Gamma and its first two derivatives, by recurrence up to x >= 12 and the asymptotic series from there.

Source: Abramowitz and Stegun 6.1.41, 6.3.18, 6.4.12. x > 0 [...], any float type; complex lets through.
"""
import math
from collections.abc import Callable
from typing import Any

from npdvae.types import Array

LARGE = 12                                      # from here the first term left out is below 3e-15 of the function


def raised(xp: Any, x: Array, term: Callable[[Array], Array]) -> tuple[Array, Array]:
    """x + n with the least n <= 12 that makes it large, and the sum of term over x, ..., x + n - 1."""
    total = xp.zeros_like(x)
    for _ in range(LARGE):
        small = x < LARGE
        total, x = total + xp.where(small, term(x), 0), xp.where(small, x + 1, x)
    return x, total


def lgamma(xp: Any, x: Array) -> Array:
    """log Gamma(x)."""
    x, logs = raised(xp, x, xp.log)
    i = 1 / x ** 2
    tail = (1 / 12 - i * (1 / 360 - i * (1 / 1260 - i * (1 / 1680 - i / 1188)))) / x
    return (x - 0.5) * xp.log(x) - x + 0.5 * math.log(2 * math.pi) + tail - logs


def digamma(xp: Any, x: Array) -> Array:
    """d log Gamma(x) / dx."""
    x, inverses = raised(xp, x, lambda x: 1 / x)
    i = 1 / x ** 2
    tail = i * (1 / 12 - i * (1 / 120 - i * (1 / 252 - i * (1 / 240 - i / 132))))
    return xp.log(x) - 0.5 / x - tail - inverses


def trigamma(xp: Any, x: Array) -> Array:
    """d digamma(x) / dx."""
    x, squares = raised(xp, x, lambda x: 1 / x ** 2)
    i = 1 / x ** 2
    tail = i / x * (1 / 6 - i * (1 / 30 - i * (1 / 42 - i * (1 / 30 - i * (5 / 66 - i * 691 / 2730)))))
    return 1 / x + i / 2 + tail + squares
