"""The only source of randomness: Philox4x32-10 (Salmon et al. 2011), a counter-based generator.

key = (seed, stream), counter = (step, example, latent, draw): a number depends on what it is for and on
nothing else, so it is the same on every backend, for any split of a batch and any number of threads.
"""
from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from npdvae.types import Array, DType

INIT, SHUFFLE, BINARIZE, LATENT, TEST_BINARIZE, TEST_LATENT, VALIDATION, PRIOR, STATIC = range(9)   # streams

M0, M1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
W0, W1 = 0x9E3779B9, 0xBB67AE85
LOW = np.uint64(0xFFFFFFFF)
HALF = np.uint64(32)


def philox(c0: int | Array, c1: int | Array, c2: int | Array, c3: int | Array, k0: int, k1: int) -> tuple[Array, ...]:
    """Philox4x32-10: four counter words (ints or arrays, broadcast) and two key words -> four uint32 arrays."""
    c0, c1, c2, c3 = (np.asarray(c, np.uint64) for c in (c0, c1, c2, c3))
    for r in range(10):
        key0 = np.uint64((k0 + r * W0) & 0xFFFFFFFF)
        key1 = np.uint64((k1 + r * W1) & 0xFFFFFFFF)
        p0, p1 = M0 * c0, M1 * c2
        c0, c1, c2, c3 = (p1 >> HALF) ^ c1 ^ key0, p1 & LOW, (p0 >> HALF) ^ c3 ^ key1, p0 & LOW
    shape = np.broadcast_shapes(c0.shape, c1.shape, c2.shape, c3.shape)
    return tuple(np.broadcast_to(c, shape).astype(np.uint32) for c in (c0, c1, c2, c3))


def to_uniform(words: Array, dtype: type[Any] = np.float64) -> Array:
    """Words to uniforms strictly inside (0, 1): (k + 1/2) 2^-23, exact in float32; uint32 [...] -> [...]."""
    return ((words >> np.uint32(9)).astype(dtype) + dtype(0.5)) * dtype(2.0 ** -23)


def uniform(seed: int, stream: int, step: int, example: int, draw: int, shape: Sequence[int],
            dtype: DType = np.float64) -> Array:
    """Uniforms [S, B, D, N] of one step: word s*N + n of the blocks from `draw` on, for each (example, latent)."""
    S, B, D, N = shape
    blocks = -(-S * N // 4)
    words = philox(step,
                   (example + np.arange(B))[:, None, None],
                   np.arange(D)[:, None],
                   draw + np.arange(blocks), seed, stream)          # 4 x [B, D, blocks]
    u = to_uniform(np.stack(words, -1), np.dtype(dtype).type).reshape(B, D, blocks * 4)[..., :S * N]
    return np.ascontiguousarray(np.moveaxis(u.reshape(B, D, S, N), 2, 0))   # [S, B, D, N]


class Generator:
    """Counter-based generator of one (seed, stream); successive calls advance `draw`, `at` moves to another step.

    seed and stream are 32-bit. `draw_uniform` is the backend's `uniform`; its arrays are the backend's.
    """

    def __init__(self, seed: int, stream: int = LATENT, *, step: int = 0, example: int = 0,
                 draw_uniform: Callable[..., Array] = uniform):
        for name, value in (("seed", seed), ("stream", stream), ("step", step), ("example", example)):
            if not 0 <= int(value) < 2 ** 32:
                raise ValueError(f"{name} must be between 0 and 2**32 - 1, got {value}")
        self.seed, self.stream, self.step, self.example, self.draw = int(seed), int(stream), int(step), int(example), 0
        self.draw_uniform = draw_uniform

    def at(self, step: int, example: int = 0) -> Generator:
        """The generator of another step; `example` is the global index of the batch's first example."""
        return Generator(self.seed, self.stream, step=step, example=example, draw_uniform=self.draw_uniform)

    def uniform(self, shape: Sequence[int], dtype: DType = np.float64) -> Array:
        """Uniforms in (0, 1) of shape [S, B], [S, B, D] or [S, B, D, N]."""
        full = tuple(shape) + (1,) * (4 - len(shape))
        u = self.draw_uniform(self.seed, self.stream, self.step, self.example, self.draw, full, dtype)
        self.draw += -(-full[0] * full[3] // 4)
        return u.reshape(shape)

    def permutation(self, n: int) -> Array:
        """A random order of range(n): int [n], on the host."""
        words = philox(self.step, np.arange(n), 0, self.draw, self.seed, self.stream)
        self.draw += 1
        key = words[0].astype(np.uint64) << np.uint64(32) | words[1]
        order = np.argsort(key)                 # in a tenth of a stable sort's time, and the same but for ties
        ordered = key[order]
        return np.argsort(key, kind="stable") if (ordered[1:] == ordered[:-1]).any() else order
