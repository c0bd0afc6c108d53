"""Vector quantisation (van den Oord et al. 2017): each latent is the nearest code of a codebook; straight through."""
from __future__ import annotations

from typing import Any, NamedTuple

from npdvae.latents import register
from npdvae.latents.codebook import LEARNS, Codebook, kmeans
from npdvae.latents.quantiser import Quantiser
from npdvae.latents.sphere import dot, rotation_backward, unit, unit_backward

STARTS = ("kmeans", "uniform")


class Kept(NamedTuple):
    """What the backward needs."""

    codes: Any                                  # int [B, D]
    h: Any                                      # [B, P, C], as the encoder gives it
    v: Any                                      # [B, P, C], as it is quantised: h, or h / |h|
    errors: Any                                 # [B, P, Q, C], what each level leaves over
    u: Any                                      # uniforms [T, K] of revived codes, or None


@register
class VQ(Quantiser):
    """P = D / `levels` vectors of `size` numbers, one code each, or `levels` Q codes that add up (residual).

    Descends cost + |sg h - e|^2 + commitment |h - sg e|^2, sums over P, Q and C. The cost reaches the encoder as if
    the decoder had read h (or by `rotation`), never the codebook. One codebook for all positions, or `grouped`.
    Codes of less than `revive` of the mean use start again at an encoder output.
    """

    name = "vq"

    def __init__(self, latents, categories=8, ops=None, prior="uniform", size=8, codebook="ema", commitment=0.25,
                 decay=0.99, start="kmeans", revive=0.0, cosine=False, grouped=False, levels=1, rotation=False):
        super().__init__(latents, categories, ops, prior)
        for good, what in (
                (size >= 1, f"size must be at least 1, got {size}"),
                (codebook in LEARNS, f"codebook must be one of {', '.join(LEARNS)}, got {codebook}"),
                (commitment >= 0, f"commitment must not be negative, got {commitment}"),
                (0 < decay < 1, f"decay must be between 0 and 1, got {decay}"),
                (start in STARTS, f"start must be one of {', '.join(STARTS)}, got {start}"),
                (0 <= revive < 1, f"revive must be a share in [0, 1), got {revive}"),
                (levels >= 1 and latents % levels == 0, f"levels must divide latents = {latents}, got {levels}"),
                (not revive or codebook == "ema", "revive reads the sizes of codebook=ema"),
                (not cosine or levels == 1, "cosine has one level"),
                (not cosine or codebook != "simvq", "cosine and codebook=simvq exclude each other"),
                (not rotation or size > 1, "rotation needs vectors of size 2 or more")):
            if not good:
                raise ValueError(f"latent vq: {what}")
        self.size, self.commitment, self.revive, self.rotation, self.levels = size, commitment, revive, rotation, levels
        self.positions = latents // levels                          # P
        self.groups = self.positions if grouped else 1              # G
        self.book = Codebook((levels * self.groups, categories, size), codebook, decay, cosine, ops)
        level = ops.xp.arange(latents) % levels                     # of latent d = p Q + l
        self.tables = level * self.groups + (ops.xp.arange(latents) // levels if grouped else 0)    # [D]
        self.width = self.features = self.positions * size
        self.one_codebook, self.divisible = levels == self.groups == 1, not revive
        self.starts_from = 2000 if start == "kmeans" and codebook != "simvq" else 0
        self.settings = {"size": size, "codebook": codebook, "commitment": commitment, "decay": decay, "revive": revive,
                         "cosine": cosine, "grouped": grouped, "levels": levels, "rotation": rotation}

    def spec(self):
        return {**super().spec(), "settings": self.settings}

    def init(self, rng, dtype):
        return {**super().init(rng, dtype), **self.book.init(rng, dtype)}

    def start(self, params, h, rng):
        """Codebooks by k-means, level by level: h [N, E], on the host."""
        left, e = self.vectors(h), params["latent.codebook"].copy()
        for level in range(self.levels):
            for g in range(self.groups):
                some = left[:, g] if self.groups > 1 else left.reshape(-1, self.size)
                e[level * self.groups + g] = kmeans(self.book, some, rng)
            left = left - self.nearest(e, left, level)[1]
        return {**params, "latent.codebook": e}

    def init_state(self, rng, context_size):
        return self.book.init_state(self.positions // self.groups)

    # ---- the training step ----------------------------------------------------------------------------------------

    def vectors(self, h):
        """What is quantised: h [B, P*C] -> [B, P, C]."""
        h = h.reshape(len(h), self.positions, self.size)
        return unit(self.ops, h) if self.book.cosine else h

    def nearest(self, e, v, level):
        """Codes of a level and their vectors: v [B, P, C] -> int [B, P], [B, P, C]."""
        here = e[level * self.groups:(level + 1) * self.groups]     # [G, K, C]
        codes = self.ops.nearest(v.reshape(-1, self.groups, self.size), here).reshape(v.shape[:2])
        return codes, self.book.pick(e, codes, self.tables[level::self.levels])

    def walk(self, params, v):
        """Level by level: v [B, P, C] -> codes int [B, D], what each level leaves over [B, P, Q, C]."""
        e, codes, errors = self.book.entries(params), [], []
        for level in range(self.levels):
            k, q = self.nearest(e, v, level)
            v = v - q
            codes.append(k)
            errors.append(v)
        return self.ops.xp.stack(codes, -1).reshape(len(v), self.latents), self.ops.xp.stack(errors, 2)

    def forward(self, params, h, rng, state=None, context=None):
        v = self.vectors(h)
        codes, errors = self.walk(params, v)
        T, K, _ = self.book.shape
        u = rng.uniform((1, 1, T * K)).reshape(T, K) if self.revive else None
        return codes[None], Kept(codes, h.reshape(v.shape), v, errors, u)      # [1, B, D]

    def rows(self, params, z):
        q = self.book.pick(self.book.entries(params), z, self.tables)           # [..., D, C]
        q = q.reshape(*z.shape[:-1], self.positions, self.levels, self.size).sum(-2)    # [..., P, C]
        return q.reshape(*z.shape[:-1], self.features)

    def backward(self, params, kept, cost, dz, state=None, kl_weight=1.0, scale=1.0):
        d = dz[0].reshape(kept.v.shape)                             # [B, P, C]
        if self.rotation:
            d = rotation_backward(self.ops, d, kept.v, self.rows(params, kept.codes).reshape(d.shape))
        d = d + 2 * self.commitment * kept.errors.sum(2)
        if self.book.cosine:
            d = unit_backward(self.ops, d, kept.h)
        grads = {} if self.book.learns == "ema" else self.book.gradients(params, scale * self.moved(kept))
        return (scale * d).reshape(len(d), self.width), {**grads, **self.prior_gradients(params, kept, scale)}

    def moved(self, kept):
        """Sums of (h - e) over the vectors of each code: [T, K, C]."""
        return self.book.sums(kept.errors.reshape(*kept.codes.shape, self.size), kept.codes, self.tables)

    def advance(self, params, kept, cost, dz, state):
        if state is None:
            return {}, None
        B = len(kept.codes)
        ones = self.ops.xp.ones((*kept.codes.shape, 1), kept.v.dtype)           # [B, D, 1]
        counts = self.book.sums(ones, kept.codes, self.tables)[..., 0]          # [T, K]
        state = self.book.advance(params, state, self.moved(kept) / B, counts / B)
        return {}, self.book.revive(state, self.revive, self.strays(kept)) if self.revive else state

    def strays(self, kept):
        """A vector of the batch for each code, of its own level and group, by the uniforms of the draw: [T, K, C]."""
        xp, (T, _, C) = self.ops.xp, self.book.shape
        seen = xp.concatenate([kept.v[:, :, None], kept.errors[:, :, :-1]], 2).reshape(-1, C)   # [B*P*Q, C]
        n = (kept.u * (len(seen) // T)).astype("i8")                # [T, K], below B*P/G
        table = xp.arange(T)[:, None]
        index = (n * self.groups + table % self.groups) * self.levels + table // self.groups
        return self.ops.code_linear(index[..., None], seen, xp.zeros(C, seen.dtype))

    def refresh(self, params, state):
        return self.book.refresh(params, state)

    # ---- evaluation -----------------------------------------------------------------------------------------------

    def quantise(self, params, h):
        return self.walk(params, self.vectors(h))[0]

    def distances(self, params, h):
        """Of what the levels before leave over."""
        v = self.vectors(h)
        _, errors = self.walk(params, v)
        left = self.ops.xp.concatenate([v[:, :, None], errors[:, :, :-1]], 2)   # [B, P, Q, C]
        left = left.reshape(len(v), self.latents, self.size).swapaxes(0, 1)     # [D, B, C]
        e = self.book.entries(params)[self.tables]                  # [D, K, C]
        squared = dot(left, left) - 2 * left @ e.swapaxes(1, 2) + (e * e).sum(-1)[:, None]      # [D, B, K]
        return squared.swapaxes(0, 1)
