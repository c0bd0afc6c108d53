"""The op table: every function that steps, latents and estimators call, so that they never import a backend."""
from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

from npdvae.types import Array, DType

Map = Callable[[Array], Array]
Two = Callable[[Array, Array], Array]
Three = Callable[[Array, Array, Array], Array]
Gradients = tuple[Array | None, Array, Array]   # of input (None unless asked for), weight, bias
Moments = tuple[Array, Array, Array]            # parameter and both moments


class Linear(Protocol):
    """x [..., I], weight [I, O], bias [O] -> [..., O]."""

    def __call__(self, x: Array, weight: Array, bias: Array) -> Array: ...


class LinearBackward(Protocol):
    """Adjoint of `Linear`; `weights` [...] multiplies rows in the parameter gradients only."""

    def __call__(self, dy: Array, x: Array, weight: Array, weights: Array | None = ...,
                 need_dx: bool = ...) -> Gradients: ...


class CodeLinear(Protocol):
    """`Linear` of the one-hot rows of codes int [..., D]."""

    def __call__(self, codes: Array, weight: Array, bias: Array) -> Array: ...


class CodeLinearBackward(Protocol):
    """Adjoint of `CodeLinear`."""

    def __call__(self, dy: Array, codes: Array, weight: Array, weights: Array | None = ...,
                 need_dx: bool = ...) -> Gradients: ...


class Momentum(Protocol):
    """New parameter and velocity."""

    def __call__(self, p: Array, g: Array, m: Array, lr: float, momentum: float = ...) -> tuple[Array, Array]: ...


class Adaptive(Protocol):
    """New parameter and both moments, `t` counted from 1."""

    def __call__(self, p: Array, g: Array, m: Array, v: Array, t: int, lr: float, beta1: float = ...,
                 beta2: float = ..., eps: float = ...) -> Moments: ...


class Uniform(Protocol):
    """Uniforms in (0, 1) of `shape` [S, B, D, N]."""

    def __call__(self, seed: int, stream: int, step: int, example: int, draw: int, shape: Sequence[int],
                 dtype: DType = ...) -> Array: ...


def no_kernel(name: str, arguments: Sequence[Any]) -> Callable[..., Any] | None:
    """Where formulas are served as they are."""
    return None


class Targets(Protocol):
    """Rows of a data set [B, P] as targets x [B, P], see `npdvae.data.binarize`."""

    def __call__(self, dataset: Any, rows: Array, mode: str, rng: Any, dtype: DType = ...) -> Array: ...


class Ops(NamedTuple):
    """One backend. Arrays are those of `xp`; shapes, arguments and defaults are those of `npdvae.ops`."""

    name: str
    xp: Any                                     # the array module: numpy or cupy
    to_host: Callable[[Any], Array]             # array -> numpy array
    linear: Linear
    linear_backward: LinearBackward
    code_linear: CodeLinear
    code_linear_backward: CodeLinearBackward
    relu: Map
    relu_backward: Two
    leaky_relu: Map
    leaky_relu_backward: Two
    tanh: Map
    tanh_backward: Two
    softmax: Map
    softmax_backward: Two
    log_softmax: Map
    log_softmax_backward: Two
    inverse_cdf: Two
    gumbel_max: Two
    one_hot: Callable[[Array, int, DType], Array]
    log_prob: Two
    log_prob_backward: Callable[[Array, Array, int], Array]
    sigmoid: Map
    softplus: Map
    bce: Two
    bce_backward: Three
    bce_shared: Two
    bce_shared_backward: Three
    entropy: Map
    entropy_backward: Two
    kl_uniform: Map
    kl_uniform_backward: Two
    kl_categorical: Two
    kl_categorical_backward: Callable[[Array, Array, Array], tuple[Array, Array]]
    gumbel: Map
    normal: Map
    nearest: Two
    sgd: Momentum
    adam: Adaptive
    radam: Adaptive
    uniform: Uniform                            # counter-based uniforms, see npdvae.rng.uniform
    targets: Targets
    kernel: Callable[[str, Sequence[Any]], Callable[..., Any] | None] = no_kernel  # parts.kernelled
