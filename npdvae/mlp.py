"""Multilayer perceptron: linear and activation in turn, forward beside backward; parameters in a flat dict."""
from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from npdvae.ops.table import Ops
from npdvae.rng import Generator
from npdvae.types import Array, DType

ACTIVATIONS = ("relu", "leaky_relu", "tanh")
INITIALISATIONS = ("pytorch", "glorot", "he")


class MLP:
    """Sizes (I, H, ..., O); parameters `<name>.<i>.weight` [in, out] and `<name>.<i>.bias` [out].

    The input is float [..., I], or int codes [..., D], which stand for their I = D*K one-hot entries.
    """

    def __init__(self, name: str, sizes: Sequence[int], activation: str, ops: Ops, initialisation: str = "pytorch"):
        if activation not in ACTIVATIONS:
            raise ValueError(f"unknown activation {activation!r}: expected one of {', '.join(ACTIVATIONS)}")
        if initialisation not in INITIALISATIONS:
            raise ValueError(f"unknown initialisation {initialisation!r}: expected one of {', '.join(INITIALISATIONS)}")
        self.name, self.sizes, self.ops = name, tuple(sizes), ops
        self.activation, self.initialisation = activation, initialisation
        self.activate = getattr(ops, activation)
        self.activate_backward = getattr(ops, activation + "_backward")

    def init(self, rng: Generator, dtype: DType) -> dict[str, Array]:
        """Parameters drawn from rng; "pytorch" is torch.nn.Linear's default, U(-1/sqrt(in), 1/sqrt(in)) for both."""
        params = {}
        for i, (n_in, n_out) in enumerate(zip(self.sizes[:-1], self.sizes[1:])):
            scale = {"pytorch": 1 / math.sqrt(n_in), "glorot": math.sqrt(6 / (n_in + n_out)),
                     "he": math.sqrt(6 / n_in)}[self.initialisation]
            u = rng.uniform((1, n_in, 1, n_out))[0, :, 0]           # [in, out]
            v = rng.uniform((1, 1, 1, n_out))[0, 0, 0]              # [out]
            bias = scale * (2 * v - 1) if self.initialisation == "pytorch" else np.zeros(n_out)
            params[f"{self.name}.{i}.weight"] = (scale * (2 * u - 1)).astype(dtype)
            params[f"{self.name}.{i}.bias"] = bias.astype(dtype)
        return params

    def layers(self, params: dict[str, Array]) -> list[tuple[Array, Array]]:
        """(weight, bias) of each layer in order."""
        return [(params[f"{self.name}.{i}.weight"], params[f"{self.name}.{i}.bias"])
                for i in range(len(self.sizes) - 1)]

    def forward(self, params: dict[str, Array], x: Array) -> tuple[Array, list[Array]]:
        """Output [..., O] of the last linear layer, and the input of every layer, which backward needs."""
        inputs = []
        layers = self.layers(params)
        for i, (weight, bias) in enumerate(layers):
            inputs.append(x)
            linear = self.ops.code_linear if x.dtype.kind in "iu" else self.ops.linear
            x = linear(x, weight, bias)                             # [..., H]
            if i < len(layers) - 1:
                x = self.activate(x)
        return x, inputs

    def backward(self, params: dict[str, Array], inputs: list[Array], dy: Any, weights: Array | None = None,
                 need_dx: bool = False) -> tuple[Array | None, dict[str, Array]]:
        """Adjoint of `forward`: dx [..., I] (dcodes [..., D, K] for codes; None unless asked for), gradients by name.

        `weights` [...] multiplies each row in the parameter gradients only.
        """
        grads = {}
        layers = self.layers(params)
        for i in reversed(range(len(layers))):
            x, (weight, _) = inputs[i], layers[i]
            if i < len(layers) - 1:
                dy = self.activate_backward(dy, inputs[i + 1])      # [..., H]
            linear_backward = self.ops.code_linear_backward if x.dtype.kind in "iu" else self.ops.linear_backward
            dy, dweight, dbias = linear_backward(dy, x, weight, weights, need_dx=need_dx or i > 0)
            grads[f"{self.name}.{i}.weight"], grads[f"{self.name}.{i}.bias"] = dweight, dbias
        return dy, grads
