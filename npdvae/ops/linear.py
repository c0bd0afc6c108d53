"""Affine layer y = x W + b, with W laid out [in, out] so that a one-hot input is a row gather."""
import numpy as np

from npdvae.types import Array


def linear(x: Array, weight: Array, bias: Array) -> Array:
    """Affine map.

    x [..., I], weight [I, O], bias [O] -> [..., O].
    """
    y = x.reshape(-1, x.shape[-1]) @ weight + bias                  # [N, O]; one product, whatever the axes
    return y.reshape(*x.shape[:-1], weight.shape[1])                # [..., O]


def linear_backward(dy: Array, x: Array, weight: Array, weights: Array | None = None,
                    need_dx: bool = True) -> tuple[Array | None, Array, Array]:
    """Adjoint of `linear`: dx [..., I], dweight [I, O], dbias [O].

    `weights` [...] multiplies each row in the parameter gradients only, so dx stays unweighted.
    """
    rows = dy.reshape(-1, dy.shape[-1])                             # [N, O]
    dx = (rows @ weight.T).reshape(x.shape) if need_dx else None    # [..., I]
    if weights is not None:
        rows = (weights[..., None] * dy).reshape(rows.shape)        # [N, O]
    dweight = x.reshape(-1, x.shape[-1]).T @ rows                   # [I, O]
    return dx, dweight, rows.sum(0)


def code_linear(codes: Array, weight: Array, bias: Array) -> Array:
    """Affine map of D one-hot rows given as indices: a sum of D rows of the weight.

    codes int [..., D], weight [D*K, O], bias [O] -> [..., O].
    """
    D = codes.shape[-1]
    K = weight.shape[0] // D
    y = bias + weight[codes[..., 0]]                                # [..., O]
    for d in range(1, D):
        y += weight[d * K + codes[..., d]]
    return y


def code_linear_backward(dy: Array, codes: Array, weight: Array, weights: Array | None = None,
                         need_dx: bool = False) -> tuple[Array | None, Array, Array]:
    """Adjoint of `code_linear`: dcodes [..., D, K] (or None), dweight [D*K, O], dbias [O].

    `weights` [...] multiplies each row in the parameter gradients only.
    """
    D = codes.shape[-1]
    K = weight.shape[0] // D
    rows = dy.reshape(-1, dy.shape[-1])                             # [N, O]
    dcodes = (rows @ weight.T).reshape(*dy.shape[:-1], D, K) if need_dx else None   # [..., D, K]
    if weights is not None:
        rows = (weights[..., None] * dy).reshape(rows.shape)        # [N, O]
    columns = codes.reshape(-1, D) + K * np.arange(D)               # [N, D]
    one_hot = np.zeros((len(columns), D * K), dy.dtype)             # [N, D*K]
    np.put_along_axis(one_hot, columns, 1, 1)
    return dcodes, one_hot.T @ rows, rows.sum(0)
