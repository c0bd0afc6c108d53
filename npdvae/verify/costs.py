"""Random costs of known classes, each with its gradient in the rows: what estimators are tried on."""
from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from npdvae.backends import load
from npdvae.types import Array, DType

KINDS = ("multilinear", "quadratic", "cubic", "table", "decoder")
DEGREE = {"multilinear": 1, "quadratic": 2, "cubic": 3}             # in each row of the codes
CLASS = {"multilinear": "multilinear", "table": "multilinear", "quadratic": "quadratic", "cubic": "any",
         "decoder": "any"}                                          # the smallest class that holds the cost
ORDER = ("multilinear", "quadratic", "any")                         # each class holds those before it


def make(kind: str, seed: int, batch: int, latents: int, categories: int,
         dtype: DType = np.float64) -> Polynomial | Table | Decoder:
    """A random cost of one kind, another for each example: `cost(codes)` [S, B], `cost.gradient(codes)` [S, B, D, K].

    codes int [S, B or 1, D] or float [S, B or 1, D, K]. Raises ValueError for an unknown kind.
    """
    if kind not in KINDS:
        raise ValueError(f"unknown cost {kind!r}: expected one of {', '.join(KINDS)}")
    rng = np.random.default_rng(seed)
    shape = (batch, latents, categories)
    cost = Table.random(rng, *shape) if kind == "table" else (
        Decoder.random(rng, *shape) if kind == "decoder" else Polynomial.random(rng, *shape, DEGREE[kind]))
    return type(cost)(*(np.asarray(getattr(cost, f.name), dtype) for f in dataclasses.fields(cost)))


def rows(codes: Array, batch: int, categories: int, dtype: DType) -> Array:
    """Codes as rows, hard codes as one-hot ones: int [S, B or 1, D] or float [S, B or 1, D, K] -> [S, B, D, K]."""
    x = (codes[..., None] == np.arange(categories)).astype(dtype) if codes.ndim == 3 else codes
    return np.broadcast_to(x, (len(x), batch, *x.shape[2:]))


@dataclasses.dataclass(frozen=True)
class Polynomial:
    """3 + sum_h v_h prod_d sum_n <w_nhd, x_d>^n, the powers n = 0..degree in each row (the zeroth is 1)."""

    v: np.ndarray                                                   # [B, H]
    w: np.ndarray                                                   # [N, B, H, D, K]

    @classmethod
    def random(cls, rng: np.random.Generator, B: int, D: int, K: int, degree: int, terms: int = 4) -> Any:
        return cls(rng.normal(size=(B, terms)), rng.normal(size=(degree, B, terms, D, K)))

    def powers(self, codes: Array) -> list[Array]:
        x = rows(codes, self.w.shape[1], self.w.shape[-1], self.w.dtype)    # [S, B, D, K]
        return [np.einsum("sbdk,bhdk->sbhd", x, w) for w in self.w]         # N x [S, B, H, D]

    def __call__(self, codes: Array) -> Array:
        factors: Any = 1 + sum(a ** n for n, a in enumerate(self.powers(codes), 1))  # [S, B, H, D]
        return 3 + (self.v * factors.prod(-1)).sum(-1)              # [S, B]

    def gradient(self, codes: Array) -> Array:
        powers = self.powers(codes)
        factors: Any = 1 + sum(a ** n for n, a in enumerate(powers, 1))  # [S, B, H, D]
        D = factors.shape[-1]
        others = np.where(np.eye(D, dtype=bool), 1, factors[..., None, :]).prod(-1)     # [S, B, H, D]
        outer = self.v[..., None] * others
        return sum(np.einsum("sbhd,bhdk->sbdk", outer * n * a ** (n - 1), w)
                   for n, (a, w) in enumerate(zip(powers, self.w), 1))      # [S, B, D, K]


@dataclasses.dataclass(frozen=True)
class Table:
    """A value for each code, extended multilinearly to relaxed rows: sum_c table_c prod_d x_d,c_d."""

    table: np.ndarray                                               # [B, K, ..., K]

    @classmethod
    def random(cls, rng: np.random.Generator, B: int, D: int, K: int) -> Any:
        return cls(3 + rng.normal(size=(B,) + (K,) * D))

    def contract(self, x: Array, leave: int | None = None) -> Array:
        """The table summed against every row but `leave`: x [S, B, D, K] -> [S, B] or [S, B, K]."""
        D = x.shape[2]
        operands: list[Any] = [self.table, [1, *range(2, D + 2)]]
        for d in range(D):
            if d != leave:
                operands += [x[:, :, d], [0, 1, d + 2]]
        kept = [0, 1] if leave is None else [0, 1, leave + 2]
        if D == 1 and leave is not None:
            return np.broadcast_to(self.table, (len(x), *self.table.shape))
        return np.einsum(*operands, kept, optimize=True)

    def __call__(self, codes: Array) -> Array:
        if codes.ndim == 3:
            b = np.arange(len(self.table))
            return self.table[(b, *np.moveaxis(codes, -1, 0))]      # [S, B]
        return self.contract(rows(codes, len(self.table), self.table.shape[-1], self.table.dtype))

    def gradient(self, codes: Array) -> Array:
        x = rows(codes, len(self.table), self.table.shape[-1], self.table.dtype)
        return np.stack([self.contract(x, leave=d) for d in range(x.shape[2])], 2)      # [S, B, D, K]


@dataclasses.dataclass(frozen=True)
class Decoder:
    """Binary cross-entropy of a tanh decoder of one hidden layer, a data row for each example, in nats."""

    weight: np.ndarray                                              # [D K, H]
    bias: np.ndarray                                                # [H]
    out: np.ndarray                                                 # [H, P]
    x: np.ndarray                                                   # [B, P]

    @classmethod
    def random(cls, rng: np.random.Generator, B: int, D: int, K: int, hidden: int = 6, pixels: int = 9) -> Any:
        return cls(rng.normal(size=(D * K, hidden)), rng.normal(size=hidden),
                   rng.normal(size=(hidden, pixels)), rng.integers(0, 2, (B, pixels)))

    def forward(self, codes: Array) -> tuple[tuple[int, ...], Array, Array]:
        K = len(self.weight) // codes.shape[2]
        z = rows(codes, len(self.x), K, self.weight.dtype)          # [S, B, D, K]
        hidden = np.tanh(z.reshape(*z.shape[:2], -1) @ self.weight + self.bias)         # [S, B, H]
        return z.shape, hidden, hidden @ self.out                   # logits [S, B, P]

    def __call__(self, codes: Array) -> Array:
        return load("numpy").bce(self.forward(codes)[2], self.x)    # [S, B]

    def gradient(self, codes: Array) -> Array:
        shape, hidden, logits = self.forward(codes)
        dlogits = load("numpy").sigmoid(logits) - self.x            # [S, B, P]
        dhidden = (dlogits @ self.out.T) * (1 - hidden ** 2)        # [S, B, H]
        return (dhidden @ self.weight.T).reshape(shape)             # [S, B, D, K]
