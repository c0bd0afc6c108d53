"""What a likelihood is: the cost of the decoder's output, its adjoint, and the image that it shows."""
from __future__ import annotations

from typing import Any, ClassVar

from npdvae.ops.table import Ops
from npdvae.rng import Generator
from npdvae.types import Array, DType, Params


class Likelihood:
    """cost[s, b] = -log p(x_b | z_sb) in nats, of the decoder's output a [S, B, P], or [S, 1, P] for shared codes.

    Parameters of its own, if any, are named likelihood....
    """

    name: ClassVar[str]
    density: bool = False                       # of real-valued pixels: costs may be negative, bits mean nothing
    shown: str = "pixel means"                  # what `mean` gives, in titles of pictures
    grey: bool = False                          # whether targets are pixels as they are, unless --binarize says so

    def __init__(self, ops: Ops):
        self.ops = ops

    def settings(self) -> dict[str, Any]:
        """The options in force, by name: with its own name, all that its numbers depend on."""
        return {}

    def outputs(self, pixels: int) -> int:
        """Outputs of the decoder for so many pixels P: the last axis of a, here [..., P]."""
        return pixels

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

    def sample(self, params: Params, a: Array, rng: Generator) -> Array:
        """Images drawn from p(x | z): a [N, P] -> [N, P]."""
        raise NotImplementedError

    def collapsed(self, train: Array, test: Array, levels: int) -> float | None:
        """Cost of the best model whose pixels do not depend on z, on test images, in nats; None where it is not known.

        Images [N, P] are of `levels` grey levels.
        """
        return None

    def floor(self, test: Array, levels: int) -> float | None:
        """What no model's cost on grey targets goes below, in nats; None where there is no such thing."""
        return None
