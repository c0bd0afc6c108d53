"""What continuous latents share: z [S, B, D] from noise and parameters h, gradients of the cost and of the KL added."""
from __future__ import annotations

from typing import Any

from npdvae.latents.base import Latent
from npdvae.ops.table import Ops
from npdvae.types import Array


class Reparameterised(Latent):
    """S `samples` of each example; a latent's KL below `free_bits` nats costs a constant (Kingma et al. 2016).

    Subclasses keep a posterior q, and kl [B, D] as it joins the cost.
    """

    def __init__(self, latents: int, ops: Ops, samples: int, free_bits: float):
        super().__init__(latents, ops)
        if samples < 1:
            raise ValueError(f"latent {self.name}: samples must be at least 1, got {samples}")
        if free_bits < 0:
            raise ValueError(f"free bits must not be negative, got {free_bits}")
        self.samples, self.free_bits, self.features = samples, free_bits, latents

    def choose(self, option: str, value: str, known: tuple[str, ...]) -> str:
        """The value of an option; ValueError where it is not one of those known."""
        if value not in known:
            raise ValueError(f"latent {self.name}: {option} must be one of {', '.join(known)}, got {value!r}")
        return value

    def spec(self):
        return {"free_bits": self.free_bits, "settings": {"samples": self.samples}}

    def kl(self, params, kept, weights):
        return kept.kl.sum(-1)                                      # [B]

    def backward(self, params, kept, cost, dz, state=None, kl_weight=1.0, scale=1.0):
        """Through the cost and the KL: dh [B, E]."""
        if self.free_bits:
            kl = kept.q.kl                                          # [B, D]
            kl_weight = self.ops.xp.where(kl >= self.free_bits, kl_weight, 0.0).astype(kl.dtype)    # [B, D]
        parts = [of_cost + kl_weight * of_kl
                 for of_cost, of_kl in zip(self.cost_gradient(kept, cost, dz), self.kl_gradient(kept), strict=True)]
        return scale * self.ops.xp.concatenate(parts, -1), {}       # [B, E]

    def cost_gradient(self, kept: Any, cost: Array, drows: Array) -> tuple[Array, ...]:
        """Of the expected cost, by each parameter: [B, D] each."""
        raise NotImplementedError

    def kl_gradient(self, kept: Any) -> tuple[Array, ...]:
        """Of the KL, by each parameter: [B, D] each."""
        raise NotImplementedError

    def set_latent(self, z: Array, d: int, values: Array) -> Array:
        """z [D] with latent d at each of the values [n]: [n, D]."""
        rows = self.ops.xp.repeat(z[None], len(values), 0)          # [n, D]
        rows[:, d] = values
        return rows

    def check_z(self, z):
        """z float [N, D], as it is before `rows`."""
        if z.dtype.kind != "f" or z.shape[1:] != (self.latents,):
            raise ValueError(f"z must be float [N, {self.latents}], got {z.dtype} {list(z.shape)}")
        if not self.ops.xp.isfinite(z).all():
            raise ValueError("z must be finite")
        return z
