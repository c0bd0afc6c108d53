"""Soft codes: a categorical latent whose logits are distances to a codebook, and whose rows are embedded by it."""
from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from npdvae.latents import register
from npdvae.latents.categorical import Categorical, Posterior


class Kept(NamedTuple):
    """What the backward of the latent layer needs."""

    draw: Any                                   # the estimator's draw
    q: Posterior
    h: Any                                      # [B, D, C]


@register
class SoftVQ(Categorical):
    """logits_k = -exp(t) |h - e_k|^2, t learned, then any estimator; a row y is decoded as y e (Sonderby et al. 2017).

    Parameters latent.codebook [K, C], shared by all latents, and latent.log_scale [1]. Cost and KL reach both.
    """

    name = "soft_vq"
    one_codebook = True

    def __init__(self, latents, categories=8, estimator="rloo", ops=None, prior="uniform", free_bits=0.0, size=8,
                 **options):
        super().__init__(latents, categories, estimator, ops, prior, free_bits, **options)
        if size < 1:
            raise ValueError(f"latent soft_vq: size must be at least 1, got {size}")
        self.size = size
        self.width = self.features = latents * size
        self.needs_dz = True                                        # the cost reaches the codebook, by any estimator

    def init(self, rng, dtype):
        """e ~ N(0, 1/C) by Box and Muller, t = 0."""
        u = rng.uniform((2, self.categories, self.size))            # [2, K, C]
        e = np.sqrt(-2 * np.log(u[0]) / self.size) * np.cos(2 * math.pi * u[1])
        return {**super().init(rng, dtype), "latent.codebook": e.astype(dtype), "latent.log_scale": np.zeros(1, dtype)}

    # ---- distances ------------------------------------------------------------------------------------------------

    def vectors(self, h):
        """h [B, D*C] -> [B, D, C]."""
        return h.reshape(len(h), self.latents, self.size)

    def logits(self, params, h):
        h, e = self.vectors(h), params["latent.codebook"]
        score = self.ops.linear(h, e.T, -(e * e).sum(-1) / 2)       # [B, D, K]
        return -self.ops.xp.exp(params["latent.log_scale"]) * ((h * h).sum(-1, keepdims=True) - 2 * score)

    def distance_backward(self, params, dlogits, kept):
        """Adjoint of `logits`: dlogits [B, D, K] -> dh [B, D, C], de [K, C], dt [1]."""
        e, h, scale = params["latent.codebook"], kept.h, self.ops.xp.exp(params["latent.log_scale"])
        back = self.ops.linear(dlogits, e, self.ops.xp.zeros(self.size, e.dtype))       # [B, D, C]
        dh = -2 * scale * (dlogits.sum(-1, keepdims=True) * h - back)
        _, product, _ = self.ops.linear_backward(h, dlogits, e, need_dx=False)          # [K, C]
        de = 2 * scale * (product - dlogits.sum((0, 1))[:, None] * e)
        return dh, de, (dlogits * kept.draw.logits).sum().reshape(1)

    # ---- rows -----------------------------------------------------------------------------------------------------

    def rows(self, params, z):
        e = params["latent.codebook"]
        blank = self.ops.xp.zeros(self.size, e.dtype)
        if z.dtype.kind in "iu":
            rows = self.ops.code_linear(z[..., None], e, blank)     # [..., D, C]
        else:
            rows = self.ops.linear(z, e, blank)                     # [..., D, C]
        return rows.reshape(*rows.shape[:-2], self.features)

    def rows_backward(self, params, z, drows):
        """Adjoint of `rows` w.r.t. the codebook: drows [S, B, D*C] -> [K, C]."""
        e, drows = params["latent.codebook"], drows.reshape(-1, self.size)
        if z.dtype.kind in "iu":
            return self.ops.code_linear_backward(drows, z.reshape(-1, 1), e)[1]
        return self.ops.linear_backward(drows, z.reshape(-1, self.categories), e, need_dx=False)[1]

    def dcodes(self, params, kept, dz):
        """d cost / d y_k = dz . e_k, for estimators that read it: dz [S, B, D*C] -> [S, B, D, K]."""
        if not self.estimator.needs_dcodes:
            return None
        e, dz = params["latent.codebook"], dz.reshape(*dz.shape[:2], self.latents, self.size)
        dy = self.ops.linear(dz, e.T, self.ops.xp.zeros(self.categories, e.dtype))      # [S, B, D, K]
        return super().dcodes(params, kept, dy)

    # ---- the training step ----------------------------------------------------------------------------------------

    def decoded(self, codes, B):
        """Codes for each example, since dz is each one's: int [S, B or 1, D] -> [S, B, D]; rows as they are."""
        return self.ops.xp.broadcast_to(codes, (len(codes), B, self.latents)) if codes.dtype.kind in "iu" else codes

    def forward(self, params, h, rng, state=None, context=None):
        _, kept = super().forward(params, h, rng, state, context)
        return self.decoded(kept.draw.codes, len(h)), Kept(kept.draw, kept.q, self.vectors(h))

    def backward(self, params, kept, cost, dz, state=None, kl_weight=1.0, scale=1.0):
        dlogits, grads, learned = self.logits_backward(params, kept, cost, dz, state, kl_weight)
        dh, de, dt = self.distance_backward(params, dlogits, kept)
        weights = self.weigh(params, kept, cost)[..., None].astype(dz.dtype)            # [S, B or 1, 1]
        de = de + self.rows_backward(params, self.decoded(kept.draw.codes, len(dh)), weights * dz)
        grads = {**grads, "latent.codebook": de, "latent.log_scale": dt}
        grads = {k: scale * g for k, g in grads.items()}
        return (scale * dh).reshape(len(dh), self.width), {**grads, **self.named(learned, len(dh) * scale)}
