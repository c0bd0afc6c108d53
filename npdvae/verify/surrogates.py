"""The losses whose derivative the registry's quantisers hand on: what is stopped is held at its value, in plain NumPy.

Straight through decodes v + (q - v) with the bracket fixed; docs/latents.md states the rest.
"""
from __future__ import annotations

from typing import Any

import numpy as np

from npdvae.latents.scalar import Binary, Scalar
from npdvae.latents.vq import VQ
from npdvae.types import Array, Params
from npdvae.verify.code_claims import ROUNDING, matches
from npdvae.verify.latent_layer import Layer, Proof, proof


def unit(v: Array) -> Array:
    """v / |v|: [..., C]."""
    return v / np.sqrt((v * v).sum(-1, keepdims=True))


class OfVectors:
    """cost(v + sg(q - v)) + commitment |v - sg e|^2 + |sg v - e|^2, the last where the codebook learns by gradient.

    With `rotation` the cost reads |q|/|v| R v with R the rotation from v to q, both fixed.
    """

    def __init__(self, layer: Layer, codes: Array):
        self.layer, self.latent, self.codes = layer, layer.latent, codes        # int [B, D]
        v, e = self.vectors(layer.h), self.picked(layer.params)     # [B, P, C], [B, P, Q, C]
        partial = e.cumsum(2)                                       # [B, P, Q, C]
        self.partial, self.q = partial, partial[:, :, -1]           # [B, P, C]
        self.left = v[:, :, None] - partial + e                     # [B, P, Q, C], what each level quantises
        self.shift = self.q - v
        self.turns = rotations(v, self.q) if self.latent.rotation else None     # [B, P, C, C]

    def vectors(self, h: Array) -> Array:
        v = h.reshape(len(h), self.latent.positions, self.latent.size)
        return unit(v) if self.latent.book.cosine else v

    def picked(self, params: Params) -> Array:
        """The code vectors chosen, e_k: [B, P, Q, C]."""
        simvq = "latent.base" in params
        e = params["latent.base"] @ params["latent.transform"] if simvq else params["latent.codebook"]
        B, D = self.codes.shape
        return e[self.latent.tables, self.codes].reshape(B, -1, self.latent.levels, self.latent.size)

    def loss(self, h: Array, params: Params) -> Any:
        v = self.vectors(h)
        z = v + self.shift if self.turns is None else np.einsum("bpij,bpj->bpi", self.turns, v)
        total = self.layer.cost(z.reshape(1, len(h), -1)).sum()
        total = total + self.latent.commitment * ((v[:, :, None] - self.partial) ** 2).sum()
        if self.latent.book.learns != "ema":
            total = total + ((self.left - self.picked(params)) ** 2).sum()
        return total


def rotations(v: Array, q: Array) -> Array:
    """|q|/|v| times the rotation in the plane of v and q that takes one's direction to the other's: [..., C, C]."""
    a, b = unit(v), unit(q)
    cosine = (a * b).sum(-1)[..., None, None]
    w = unit(b - a * (a * b).sum(-1, keepdims=True))                # orthogonal to a, in the plane
    sine = np.sqrt(1 - cosine ** 2)

    def outer(x: Array, y: Array) -> Array:
        return x[..., :, None] * y[..., None, :]
    plane = outer(a, a) + outer(w, w)
    turn = np.eye(v.shape[-1]) + (cosine - 1) * plane + sine * (outer(w, a) - outer(a, w))
    return np.sqrt((q * q).sum(-1) / (v * v).sum(-1))[..., None, None] * turn


class OfNumbers:
    """cost(y + sg(z - y)), and for LFQ and BSQ commitment |y - sg z|^2 + entropy_weight B (entropies of p)."""

    def __init__(self, layer: Layer, codes: Array):
        self.layer, self.latent, K = layer, layer.latent, layer.latent.categories
        radius = 1 / np.sqrt(layer.latent.latents) if layer.latent.spherical else 1.0
        self.z, self.radius = radius * (2 * codes / (K - 1) - 1), radius        # [B, D]
        self.shift = self.z - self.squashed(layer.h)

    def squashed(self, h: Array) -> Array:
        if self.latent.spherical:
            return unit(h)
        return h if isinstance(self.latent, Binary) else np.tanh(h)

    def loss(self, h: Array, params: Params) -> Any:
        y = self.squashed(h)                                        # [B, D]
        total = self.layer.cost((y + self.shift)[None]).sum()
        if isinstance(self.latent, Binary):
            total = total + self.latent.commitment * ((y - self.z) ** 2).sum()
            p = 1 / (1 + np.exp(-4 * self.latent.settings["inverse_temperature"] * self.radius * y))
            entropies = entropy(p).mean(0) - self.latent.mix * entropy(p.mean(0))   # [D]
            total = total + self.latent.entropy_weight * len(h) * entropies.sum()
        return total


def entropy(p: Array) -> Array:
    """Of a bit: nats."""
    return -(p * np.log(p) + (1 - p) * np.log(1 - p))


def of(layer: Layer, codes: Array) -> OfVectors | OfNumbers:
    """The surrogate of a quantiser of the registry. ValueError for another."""
    if isinstance(layer.latent, VQ):
        return OfVectors(layer, codes)
    if isinstance(layer.latent, Scalar):
        return OfNumbers(layer, codes)
    raise ValueError(f"latent {layer.name}: no surrogate is known; say which loss its gradient is of, as surrogate=")


def surrogate(layer: Layer, loss: Any = None) -> Proof:
    """backward is the derivative of the surrogate, -log p(code) included, by h and by every parameter that learns.

    loss(h, params) is summed over the batch, with the codes and all that is stopped held fixed; None: as known.
    """
    codes = layer.forward(layer.h)[0][0]                            # [B, D]
    loss = loss or of(layer, codes).loss

    def total(h: Array, params: Params) -> Any:
        return loss(h, params) - layer.latent.log_prior(params, codes).sum()
    error = matches(layer, total, fixed=("latent.base",))           # it has a derivative, and stays as it is
    return proof(layer, "gradient = that of its surrogate", "complex step", error, ROUNDING)
