"""What a likelihood is: the cost of the decoder's output, its adjoint, and the image that it shows."""
from __future__ import annotations

from typing import ClassVar

from npdvae.ops.table import Ops
from npdvae.types import Array, DType, Params


class Likelihood:
    """cost[s, b] = -log p(x_b | z_sb) in nats, of the decoder's output a [S, B, P], or [S, 1, P] for shared codes.

    Parameters of its own, if any, are named likelihood....
    """

    name: ClassVar[str]
    density: bool = False                       # of real-valued pixels: costs may be negative, bits mean nothing

    def __init__(self, ops: Ops):
        self.ops = ops

    def init(self, dtype: DType) -> Params:
        """Fresh parameters by name, NumPy arrays of `dtype`."""
        return {}

    def forward(self, params: Params, a: Array, x: Array) -> Array:
        """a [S, B or 1, P], x [B, P] -> cost [S, B]."""
        raise NotImplementedError

    def backward(self, params: Params, dcost: Array, a: Array, x: Array,
                 weights: Array | None = None) -> tuple[Array, Params]:
        """Adjoint: dcost [S, B] -> da [S, B or 1, P], gradients by name.

        Where `weights` [S, B] are given, they take the place of dcost in the gradients of the parameters.
        """
        raise NotImplementedError

    def mean(self, params: Params, a: Array) -> Array:
        """E[x | z], the image to show: a [..., P] -> [..., P]."""
        raise NotImplementedError
