"""Bets against "the mean is zero" and against "the mean is at least delta": evidence valid at any number of looks.

A gambler's wealth that starts at one and is a (super)martingale under a hypothesis exceeds 1/alpha with
probability at most alpha, however often one looks (Ville's inequality). Wealth is kept as logarithms.
"""
from __future__ import annotations

import math
from typing import Any

import numpy as np

from npdvae.types import Array

FRACTIONS = 0.5 ** np.arange(1, 11)                                 # the grid of bets, J = 10


class Bounded:
    """Bets on x in [low, high], zero strictly inside: wealth prod_t (1 +- lambda x_t) (Waudby-Smith & Ramdas 2024).

    low, high, sigma, delta [N], one entry for each coordinate; delta > 0 is the bias that must not go unseen.
    """

    def __init__(self, low: Array, high: Array, sigma: Array, delta: float):
        floor = 1e-3 * (high - low)                                 # x of one sign only: any bet up to 1/floor is safe
        down, up = np.maximum(-low, floor), np.maximum(high, floor)
        self.zero = np.concatenate([np.outer(FRACTIONS, 1 / down), -np.outer(FRACTIONS, 1 / up)])   # [2J, N]
        best = delta / (sigma ** 2 + delta ** 2)                    # Kelly's bet when the mean is zero
        self.delta = delta
        self.above = np.minimum(best, 0.5 / np.maximum(high - delta, floor))
        self.below = np.minimum(best, 0.5 / np.maximum(-low - delta, floor))

    def against_zero(self, x: Array) -> Array:
        """Log increments against E x = 0: x [n, N] -> [n, 2J, N]."""
        return np.log1p(x[:, None] * self.zero)

    def against_bias(self, x: Array) -> Array:
        """Log increments against E x >= delta and E x <= -delta: x [n, N] -> [n, 2, N]."""
        return np.stack([np.log1p(self.above * (self.delta - x)), np.log1p(self.below * (self.delta + x))], 1)


class Spread:
    """Bets on x of variance at most sigma^2, unbounded: wealth prod_t exp(phi(lambda x_t) - lambda^2 sigma^2 / 2).

    phi(y) = log(1 + y + y^2 / 2) for y > 0, odd (Catoni 2012), so that E exp phi(y) <= 1 + E y + E y^2 / 2.
    """

    def __init__(self, sigma: Array, delta: float):
        bets = np.outer(2 * FRACTIONS, 1 / sigma)
        self.zero = np.concatenate([bets, -bets])                   # [2J, N]
        self.price = (self.zero * sigma) ** 2 / 2
        self.delta, self.bet = delta, delta / sigma ** 2
        self.bet_price = (self.bet * sigma) ** 2 / 2

    def against_zero(self, x: Array) -> Array:
        """Log increments against E x = 0: x [n, N] -> [n, 2J, N]."""
        return catoni(x[:, None] * self.zero) - self.price

    def against_bias(self, x: Array) -> Array:
        """Log increments against E x >= delta and E x <= -delta: x [n, N] -> [n, 2, N].

        phi increases, so a mean beyond delta only lowers the wealth against it.
        """
        sides = np.stack([self.delta - x, self.delta + x], 1)
        return catoni(self.bet * sides) - self.bet_price


def catoni(y: Array) -> Array:
    """Catoni's narrowest influence function: any shape."""
    a = np.abs(y)
    return np.sign(y) * np.log1p(a + a ** 2 / 2)


class Wealth:
    """Logarithms of the wealth of all bets over the samples seen so far."""

    def __init__(self, bets: Bounded | Spread, coordinates: int):
        self.bets, self.samples = bets, 0
        self.zero = np.zeros((2 * len(FRACTIONS), coordinates))
        self.bias = np.zeros((2, coordinates))

    def add(self, x: Array) -> None:
        """Further samples: x [n, N]."""
        self.zero += self.bets.against_zero(x).sum(0)
        self.bias += self.bets.against_bias(x).sum(0)
        self.samples += len(x)

    def evidence(self) -> float:
        """log E_n: mean wealth over coordinates, signs and bets against a mean of zero."""
        return log_mean_exp(self.zero)

    def verdict(self, alpha: float, beta: float) -> str | None:
        """FAIL when E_n >= 1/alpha, PASS when every bet against a bias has reached 1/beta, else None."""
        if self.evidence() >= -math.log(alpha):
            return "FAIL"
        return "PASS" if self.bias.min() >= -math.log(beta) else None


def log_mean_exp(w: Array, axis: int | None = None) -> Any:
    """log mean exp, shifted by the largest entry."""
    top = w.max(axis, keepdims=True)
    return np.squeeze(top, axis) + np.log(np.exp(w - top).mean(axis))


def detectable(samples: int, coordinates: int, alpha: float) -> float:
    """Smallest bias, in standard deviations, whose wealth would be expected to have reached 1/alpha by now."""
    needed = math.log(2 * len(FRACTIONS) * coordinates / alpha)
    return math.sqrt(2 * needed / samples) if samples else math.inf
