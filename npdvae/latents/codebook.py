"""T codebooks of K vectors of C numbers: picked by codes; learned by EMA, by gradient, or as a map of fixed ones."""
from __future__ import annotations

import math

import numpy as np

from npdvae.latents.sphere import unit

LEARNS = ("ema", "gradient", "simvq")
USED = 1e-6                                     # a code of smaller size stays where it is
LLOYD_STEPS = 10


class Codebook:
    """e [T, K, C], parameter latent.codebook; of unit rows where `cosine`.

    learns: "ema", size and sums of a code's vectors decay by `decay` (van den Oord et al. 2017, appendix A);
    "gradient" of sum |h - e|^2; "simvq", e = base W with a fixed base (Zhu et al. 2024).
    """

    def __init__(self, shape, learns, decay, cosine, ops):
        self.shape, self.learns, self.decay, self.cosine, self.ops = shape, learns, decay, cosine, ops

    def init(self, rng, dtype):
        """U(-1/K, 1/K); for simvq base ~ N(0, 1/C) and W ~ U(-1/sqrt(C), 1/sqrt(C))."""
        T, K, C = self.shape
        u = rng.uniform((2, T, K, C))
        if self.learns == "simvq":
            base = np.sqrt(-2 * np.log(u[0]) / C) * np.cos(2 * math.pi * u[1])      # [T, K, C], Box and Muller
            w = (2 * rng.uniform((1, T, C, C))[0] - 1) / math.sqrt(C)               # [T, C, C]
            return {"latent.base": base.astype(dtype), "latent.transform": w.astype(dtype)}
        e = (2 * u[0] - 1) / K                                      # [T, K, C], on the host like all first parameters
        return {"latent.codebook": (e / np.linalg.norm(e, axis=-1, keepdims=True) if self.cosine else e).astype(dtype)}

    def placed(self, e):
        """Codes where they may lie: on the unit sphere where the distance is the cosine."""
        return unit(self.ops, e) if self.cosine else e

    def entries(self, params):
        """e [T, K, C]."""
        if self.learns == "simvq":
            return params["latent.base"] @ params["latent.transform"]
        return params["latent.codebook"]

    def pick(self, e, codes, tables):
        """e[table, code]: codes int [..., D], tables int [D] -> [..., D, C]."""
        T, K, C = e.shape
        index = (codes + K * tables)[..., None]                     # [..., D, 1]
        return self.ops.code_linear(index, e.reshape(T * K, C), self.ops.xp.zeros(C, e.dtype))

    def sums(self, values, codes, tables):
        """Sum of the values of each code, the adjoint of `pick`: [..., D, C], codes int [..., D] -> [T, K, C]."""
        (T, K, _), C = self.shape, values.shape[-1]
        index = (codes + K * tables).reshape(-1, 1)                 # [N, 1]
        blank = self.ops.xp.zeros((T * K, C), values.dtype)
        _, total, _ = self.ops.code_linear_backward(values.reshape(-1, C), index, blank)
        return total.reshape(T, K, C)

    def gradients(self, params, moved):
        """Of sum |h - e|^2, by name: moved = sums of (h - e) [T, K, C]."""
        if self.learns == "simvq":
            return {"latent.transform": params["latent.base"].swapaxes(1, 2) @ (-2 * moved)}    # [T, C, C]
        return {"latent.codebook": -2 * moved} if self.learns == "gradient" else {}

    # ---- moving averages ------------------------------------------------------------------------------------------

    def init_state(self, vectors):
        """Size of each code, its share of the `vectors` of an example; the sums are made of it and e."""
        if self.learns != "ema":
            return None
        T, K, C = self.shape
        return {"size": self.ops.xp.full((T, K), vectors / K), "sums": self.ops.xp.zeros((T, K, C))}

    def advance(self, params, state, moved, counts):
        """size <- decay size + (1 - decay) n, sums <- decay sums + (1 - decay) sum h, per example.

        moved = sums of (h - e) [T, K, C] and counts n [T, K] are means over the batch; sums = size e before.
        """
        size = self.decay * state["size"] + (1 - self.decay) * counts
        return {"size": size, "sums": size[..., None] * self.entries(params) + (1 - self.decay) * moved}

    def revive(self, state, share, vectors):
        """Codes of less than `share` of the mean size start again at the vectors [T, K, C], with the mean size."""
        size, sums, xp = state["size"], state["sums"], self.ops.xp
        mean = size.mean(-1, keepdims=True)                         # [T, 1]
        dead = size < share * mean                                  # [T, K]
        return {"size": xp.where(dead, mean, size), "sums": xp.where(dead[..., None], mean[..., None] * vectors, sums)}

    def refresh(self, params, state):
        """Parameters with e = sums / size, on the sphere where it lies there."""
        if self.learns == "simvq":
            return params
        e = params["latent.codebook"]
        if self.learns == "ema":
            size = state["size"][..., None]                         # [T, K, 1]
            moved = state["sums"] / self.ops.xp.maximum(size, USED)
            e = self.ops.xp.where(size > USED, moved, e).astype(e.dtype)
        return {**params, "latent.codebook": self.placed(e)}


def kmeans(book, h, rng):
    """K centres of vectors h [N, C] by Lloyd's steps from K of them; an empty cluster keeps its centre: [K, C]."""
    K, ops = book.shape[1], book.ops
    if len(h) < K:
        raise ValueError(f"start=kmeans needs an encoder output for each of {K} categories, got {len(h)}")
    e = h[rng.permutation(len(h))[:K]]                              # [K, C]
    for _ in range(LLOYD_STEPS):
        one_hot = ops.one_hot(ops.nearest(h[:, None], e[None])[:, 0], K, h.dtype)       # [N, K]
        size = one_hot.sum(0)[:, None]                              # [K, 1]
        e = book.placed(np.where(size > 0, one_hot.T @ h / np.maximum(size, 1), e))
    return e
