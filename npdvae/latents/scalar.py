"""Scalar quantisers: each latent is one number rounded to K levels; no codebook. FSQ, LFQ and BSQ."""
from __future__ import annotations

import math
from typing import Any, NamedTuple

from npdvae.latents import register
from npdvae.latents.quantiser import Quantiser
from npdvae.latents.sphere import unit, unit_backward


class Kept(NamedTuple):
    """What the backward needs."""

    codes: Any                                  # int [B, D]
    h: Any                                      # [B, D]
    y: Any                                      # [B, D], what is rounded: tanh h, h, or h / |h|


class Scalar(Quantiser):
    """z = `radius` (2 code / (K - 1) - 1), K levels from -radius to radius, of y = squash(h); straight through."""

    spherical = False                           # whether y lies on the unit sphere

    def __init__(self, latents, categories, ops, prior):
        super().__init__(latents, categories, ops, prior)
        if categories < 2:
            raise ValueError(f"latent {self.name} needs 2 categories or more, got {categories}")
        self.width = self.features = latents
        self.radius = 1 / math.sqrt(latents) if self.spherical else 1.0

    def squash(self, h):
        """y [B, D], near the levels."""
        raise NotImplementedError

    def squash_backward(self, dy, kept):
        """Adjoint of `squash`: [B, D]."""
        raise NotImplementedError

    def pull(self, kept):
        """d / dy of what the loss has besides the cost, per example: [B, D]."""
        return 0.0

    def level(self, codes, dtype):
        """z of codes: int [..., D] -> [..., D]."""
        return self.radius * (2 * codes.astype(dtype) / (self.categories - 1) - 1)

    def rounded(self, y, shift=0.0):
        """The nearest level, of equals the higher: y [B, D] -> int [B, D]; `shift` in levels.

        Of two levels the sign decides, whatever the radius.
        """
        steps = (self.categories - 1) / 2 * y + self.categories / 2 + shift
        return self.ops.xp.clip(self.ops.xp.floor(steps), 0, self.categories - 1).astype("i8")

    def rows(self, params, z):
        return self.level(z, params["decoder.0.weight"].dtype)      # [..., D], as the decoder computes

    def forward(self, params, h, rng, state=None, context=None):
        y = self.squash(h)
        codes = self.rounded(y, self.shift(rng, y))
        return codes[None], Kept(codes, h, y)                       # [1, B, D]

    def shift(self, rng, y):
        """Noise before rounding, in levels."""
        return 0.0

    def backward(self, params, kept, cost, dz, state=None, kl_weight=1.0, scale=1.0):
        dh = self.squash_backward(dz[0] + self.pull(kept), kept)    # [B, D]
        return scale * dh, self.prior_gradients(params, kept, scale)

    def quantise(self, params, h):
        return self.rounded(self.squash(h))

    def distances(self, params, h):
        y = self.squash(h)[..., None]                               # [B, D, 1]
        return (y - self.level(self.ops.xp.arange(self.categories), y.dtype)) ** 2


@register
class FSQ(Scalar):
    """Finite scalar quantisation (Mentzer et al. 2024), y = tanh h, in symmetric form: every level can be reached.

    `dither`: in training, uniform noise of one level's width before rounding; exact for a cost affine in z.
    """

    name = "fsq"

    def __init__(self, latents, categories=8, ops=None, prior="uniform", dither=False):
        super().__init__(latents, categories, ops, prior)
        self.dither = dither

    def spec(self):
        return {**super().spec(), "settings": {"dither": self.dither}}

    def squash(self, h):
        return self.ops.tanh(h)

    def squash_backward(self, dy, kept):
        return self.ops.tanh_backward(dy, kept.y)

    def shift(self, rng, y):
        return rng.uniform((1, *y.shape), y.dtype)[0] - 0.5 if self.dither else 0.0


class Binary(Scalar):
    """K = 2 and the entropy losses with p = sigmoid(4 T radius y), T the `inverse_temperature`:

    entropy_weight (mean_b sum_d H(p_bd) - mix sum_d H(mean_b p_bd)): sure of each code, and all codes in use. The
    first is the entropy over all 2^D codes, the second bounds its own from above; their sum may be negative.
    """

    def __init__(self, latents, categories=2, ops=None, prior="uniform", commitment=0.25, entropy_weight=0.1, mix=1.0,
                 inverse_temperature=1.0):
        super().__init__(latents, categories, ops, prior)
        if categories != 2:
            raise ValueError(f"latent {self.name} is binary: categories must be 2, got {categories}")
        for option, value in (("commitment", commitment), ("entropy_weight", entropy_weight), ("mix", mix)):
            if value < 0:
                raise ValueError(f"latent {self.name}: {option} must not be negative, got {value}")
        if inverse_temperature <= 0:
            raise ValueError(f"latent {self.name}: inverse_temperature must be positive, got {inverse_temperature}")
        self.settings = {"commitment": commitment, "entropy_weight": entropy_weight, "mix": mix,
                         "inverse_temperature": inverse_temperature}
        self.commitment, self.entropy_weight, self.mix = commitment, entropy_weight, mix
        self.slope = 4 * inverse_temperature * self.radius
        self.couples_batch, self.divisible = entropy_weight > 0, entropy_weight == 0

    def spec(self):
        return {**super().spec(), "settings": self.settings}

    def pull(self, kept):
        """2 commitment (y - z), and of the entropies slope p (1 - p) (mix log-odds(mean p) - a) with a = slope y."""
        xp, sigmoid = self.ops.xp, self.ops.sigmoid
        a = self.slope * kept.y                                          # [B, D], log-odds of p
        p, q = sigmoid(a), sigmoid(-a)                              # q = 1 - p without cancellation
        tiny = float(xp.finfo(a.dtype).tiny)
        odds = xp.log(xp.maximum(p.mean(0), tiny)) - xp.log(xp.maximum(q.mean(0), tiny))     # [D]
        entropies = self.slope * p * q * (self.mix * odds - a)
        return 2 * self.commitment * (kept.y - self.level(kept.codes, a.dtype)) + self.entropy_weight * entropies


@register
class LFQ(Binary):
    """Lookup-free quantisation (Yu et al. 2024): z = sign h."""

    name = "lfq"

    def squash(self, h):
        return h

    def squash_backward(self, dy, kept):
        return dy


@register
class BSQ(Binary):
    """Binary spherical quantisation (Zhao et al. 2024): z = sign(y) / sqrt(D) of y = h / |h|."""

    name = "bsq"
    spherical = True

    def squash(self, h):
        return unit(self.ops, h)

    def squash_backward(self, dy, kept):
        return unit_backward(self.ops, dy, kept.h)
