"""RODEO's surrogate H of the cost: two numbers in, two functions out, one hidden layer and a skip."""
import math

from npdvae.ops.kernelled import kernelled

SLOPE = 0.3                                     # of the leaky rectifier, as published
PARAMETERS = "hidden_weight", "hidden_bias", "output_weight", "output_bias"


def init(xp, rng, hidden):
    """Fresh H: the output weights are 0, so that H(f, l) = l; dict of arrays."""
    w = 2 * rng.uniform((3, hidden)) - 1                            # [3, H]
    return {"hidden_weight": w[:2] / math.sqrt(2), "hidden_bias": w[2] / math.sqrt(2),
            "output_weight": xp.zeros((hidden, 2)), "output_bias": xp.zeros(2)}


def parameters(state, dtype):
    """H's arrays out of an estimator's state: [2, H], [H], [H, 2], [2]."""
    return [state[name].astype(dtype) for name in PARAMETERS]


@kernelled
def surrogate(ops, f, along, w, b, v, c):
    """H(f, l) = l + v' leaky(w' [f, l] + b) + c: f broadcast to l [...] -> [..., 2]."""
    x = ops.xp.stack([ops.xp.broadcast_to(f, along.shape), along], -1)  # [..., 2]
    pre = ops.linear(x, w, b)                                       # [..., H]
    return along[..., None] + ops.linear(ops.xp.maximum(pre, SLOPE * pre), v, c)


@kernelled
def surrogate_backward(ops, dout, f, along, w, b, v):
    """Gradients of w, b, v, c: dout [..., 2], broadcast to H's own shape."""
    x = ops.xp.stack([ops.xp.broadcast_to(f, along.shape), along], -1)  # [..., 2]
    pre = ops.linear(x, w, b)                                       # [..., H]
    dout = ops.xp.broadcast_to(dout, (*along.shape, 2))             # [..., 2]
    dunit, dv, dc = ops.linear_backward(dout, ops.xp.maximum(pre, SLOPE * pre), v)
    dpre = ops.xp.where(pre > 0, dunit, SLOPE * dunit)
    _, dw, db = ops.linear_backward(dpre, x, w, need_dx=False)
    return dw, db, dv, dc
