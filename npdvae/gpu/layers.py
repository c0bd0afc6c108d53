"""What stands behind a layer's product, and its adjoint: launches that encoder and decoder share."""
from __future__ import annotations

from npdvae.kernels.cuda.constants import IDENTITY
from npdvae.kernels.cuda.launch import code_bins, column_sums, elementwise, strips


def add_bias(on, y, bias, kind):
    """y [n, O] = activation(y + bias [O]), in place."""
    on.launch("bias_activation", elementwise(y.size), y, bias, *y.shape, kind)


def add_bias_backward(on, dy, y, grad, kind, alpha=1.0, weights=None):
    """dy [n, O] times the activation's derivative at y (None: the identity), in place; grad [O] = alpha times its sum
    over rows, weighted [n] where given."""
    n, O = dy.shape
    R = strips(n)
    part, kind = on.part if R > 1 else grad, IDENTITY if y is None else kind
    on.launch("bias_activation_backward", column_sums(O, R), dy, y, weights, part, n, O, kind, alpha)
    if R > 1:
        on.launch("sum_strips", elementwise(O), part, grad, R, O)


def code_linear(on, codes, weight, bias, y, K, kind):
    """y [N, O] = activation(bias + rows of weight [D K, O] that codes [N, D] choose)."""
    on.launch("code_linear", elementwise(y.size), codes, weight, bias, y, *codes.shape, K, y.shape[1], kind)


def code_linear_backward(on, dy, codes, grad, K, alpha=1.0):
    """Its weight's gradient [D K, O]: alpha times rows of dy [N, O], added to the bins of their codes [N, D]."""
    (N, O), D, R = dy.shape, codes.shape[1], strips(len(dy))
    part = on.part if R > 1 else grad
    on.launch("code_linear_backward", code_bins(O, D, K, R), dy, codes, None, part, N, D, K, O, alpha)
    if R > 1:
        on.launch("sum_strips", elementwise(grad.size), part, grad, R, grad.size)


def weigh_rows(on, dy, weights):
    """dy [n, O] times the weight [n] of each row, in place."""
    on.launch("weigh_rows", elementwise(dy.size), dy, weights, *dy.shape)
