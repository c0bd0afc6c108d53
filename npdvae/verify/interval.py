"""Confidence sequences for a mean: intervals that hold at all times at once, so also when one stops."""
from __future__ import annotations

import math
from typing import Any

import numpy as np

from npdvae.types import Array


class Interval:
    """Running intervals of N means, all of them right at all times with probability at least 1 - miss.

    low, high [N] are known bounds (empirical Bernstein; Waudby-Smith & Ramdas 2024, theorem 2); without them sigma [N]
    bounds the standard deviations (self-normalised; Wang & Ramdas 2023, section 4). Otherwise sigma only sets the bets.
    """

    def __init__(self, sigma: Array, low: Array | None = None, high: Any = None, miss: float = 0.01):
        self.bounded = low is not None
        self.low: Any
        self.width: Any
        self.low, self.width = (low, np.maximum(high - low, 1e-200)) if self.bounded else (0.0, 1.0)
        self.sigma = np.maximum(np.broadcast_to(sigma / self.width, sigma.shape), 1e-100)
        self.need = math.log(2 * len(sigma) / miss)
        self.samples = 0
        self.sums = np.zeros((5, len(sigma)))           # bet, bet^2, bet y, bet^2 y, and what the variance costs
        self.plain = np.zeros(len(sigma))

    def add(self, x: Array) -> None:
        """Further samples: x [n, N]."""
        y = (x - self.low) / self.width                             # [n, N], in [0, 1] where bounded
        after = self.samples + len(x)
        bet = np.sqrt(2 * self.need / (self.sigma ** 2 * after * math.log(1 + after)))
        centre = self.plain / self.samples if self.samples else np.full(len(self.sigma), 0.5 if self.bounded else 0.0)
        if self.bounded:
            bet = np.minimum(bet, 0.5)
            cost = (-np.log1p(-bet) - bet) * ((y - centre) ** 2).sum(0)
        else:
            cost = bet ** 2 * (y ** 2).sum(0)
        self.sums += [len(x) * bet, len(x) * bet ** 2, bet * y.sum(0), bet ** 2 * y.sum(0), cost]
        self.plain, self.samples = self.plain + y.sum(0), after

    def mean(self) -> Array:
        """Sample means: [N]."""
        return self.low + self.width * self.plain / max(self.samples, 1)

    def ends(self) -> tuple[Array, Array]:
        """Both ends: [N], [N]; infinite before the first sample."""
        if not self.samples:
            return np.full(len(self.sigma), -np.inf), np.full(len(self.sigma), np.inf)
        if self.bounded:
            bets, _, weighted, _, cost = self.sums
            centre, margin = weighted / bets, (self.need + cost) / bets
            ends = np.maximum(centre - margin, 0), np.minimum(centre + margin, 1)
        else:
            ends = self.one_side(1), -self.one_side(-1)
        return tuple(self.low + self.width * end for end in ends)

    def one_side(self, sign: int) -> Array:
        """Smallest m with sum bet (y - m) - bet^2 ((y - m)^2 + 2 sigma^2) / 6 <= need; -inf where there is none."""
        bets, squares, weighted, squares_weighted, cost = self.sums
        a = -squares / 6
        b = -bets + sign * squares_weighted / 3
        c = sign * weighted - cost / 6 - self.sigma ** 2 * squares / 3 - self.need
        root = np.sqrt(np.maximum(b ** 2 - 4 * a * c, 0))
        return np.where(b ** 2 < 4 * a * c, -np.inf, (-b - root) / (2 * a))
