"""RELAX's surrogate: one tanh layer on relaxed rows and context, its slope in the rows, and the gradients of both.

c = tanh(x W + t V + b) w + a, dc/dx = [(1 - h^2) w] W^T: rows x [S, B, D K], context t [B, C] or None.
"""
import math


def init(rng, rows, context_size, hidden):
    """Uniform weights in +-1/sqrt(inputs): a dict of arrays."""
    inputs = rows + context_size
    w = 2 * rng.uniform((inputs + 2, hidden)) - 1                   # [D K + C + 2, H]
    state = {"code_weight": w[:rows] / math.sqrt(inputs), "hidden_bias": w[-2] / math.sqrt(inputs),
             "output_weight": w[-1] / math.sqrt(hidden), "output_bias": 0 * w[-1, :1]}
    if context_size:
        state["context_weight"] = w[rows:-2] / math.sqrt(inputs)
    return state


def parameters(state, dtype):
    """The network's arrays out of an estimator's state, in the given type."""
    names = ("code_weight", "context_weight", "hidden_bias", "output_weight", "output_bias")
    return {name: state[name].astype(dtype) for name in names if name in state}


def forward(ops, x, context, net):
    """Value and hidden layer: x [S, B, D K], context [B, C] or None -> c [S, B], h [S, B, H]."""
    offset = net["hidden_bias"]                                     # [H]
    if "context_weight" in net:
        size = len(net["context_weight"])
        if context is None or context.shape[-1] != size:
            got = "none" if context is None else f"shape {context.shape}"
            raise ValueError(f"the surrogate reads a context of {size} numbers for each example, got {got}")
        offset = offset + context @ net["context_weight"]           # [B, H]
    h = ops.tanh(x @ net["code_weight"] + offset)                   # [S, B, H]
    return h @ net["output_weight"] + net["output_bias"], h


def slope(h, net):
    """dc / dx: h [S, B, H] -> [S, B, D K]."""
    return ((1 - h * h) * net["output_weight"]) @ net["code_weight"].T


def backward(dc, dslope, x, context, h, net):
    """Gradients by name of sum(dc c) + sum(dslope slope): dc [S, B], dslope [S, B, D K].

    The second term differentiates tanh twice: d(1 - h^2) / dpre = -2 h (1 - h^2).
    """
    w, bend = net["output_weight"], 1 - h * h                       # [H], [S, B, H]
    dbend_w = dslope @ net["code_weight"]                           # [S, B, H], cotangent of bend w
    dpre = bend * w * (dc[..., None] - 2 * h * dbend_w)             # [S, B, H]
    flat_x, flat_slope, flat_dpre, flat_bend = (v.reshape(-1, v.shape[-1]) for v in (x, dslope, dpre, bend * w))
    grads = {"code_weight": flat_x.T @ flat_dpre + flat_slope.T @ flat_bend,
             "hidden_bias": dpre.sum((0, 1)),
             "output_weight": (dc[..., None] * h + dbend_w * bend).sum((0, 1)),
             "output_bias": dc.sum().reshape(1)}
    if "context_weight" in net:
        grads["context_weight"] = context.T @ dpre.sum(0)           # [C, H]
    return grads
