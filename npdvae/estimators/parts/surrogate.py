"""RODEO's surrogate H of the cost: two numbers in, two functions out, one hidden layer and a skip."""
import math

SLOPE = 0.3                                     # of the leaky rectifier, as published


def init(xp, rng, hidden):
    """Fresh H: the output weights are 0, so that H(f, l) = l; dict of arrays."""
    w = 2 * rng.uniform((3, hidden)) - 1                            # [3, H]
    return {"hidden_weight": w[:2] / math.sqrt(2), "hidden_bias": w[2] / math.sqrt(2),
            "output_weight": xp.zeros((hidden, 2)), "output_bias": xp.zeros(2)}


def forward(ops, f, along, state):
    """H(f, l) = l + W' leaky(W [f, l] + b) + b': f, l [...] -> [..., 2], and what backward needs; no state: l."""
    if state is None:
        return ops.xp.stack([along, along], -1), None
    x = ops.xp.stack([f, along], -1)                                # [..., 2]
    pre = ops.linear(x, state["hidden_weight"].astype(x.dtype), state["hidden_bias"].astype(x.dtype))   # [..., H]
    unit = ops.xp.maximum(pre, SLOPE * pre)
    out = ops.linear(unit, state["output_weight"].astype(x.dtype), state["output_bias"].astype(x.dtype))
    return along[..., None] + out, (x, pre, unit)


def backward(ops, dout, kept, state):
    """Gradients of the entries of `init`: dout [..., 2], broadcast to H's own shape -> dict."""
    x, pre, unit = kept
    dout = ops.xp.broadcast_to(dout, (*pre.shape[:-1], 2))          # [..., 2]
    dunit, doutput_weight, doutput_bias = ops.linear_backward(dout, unit, state["output_weight"].astype(x.dtype))
    dpre = ops.xp.where(pre > 0, dunit, SLOPE * dunit)
    _, dhidden_weight, dhidden_bias = ops.linear_backward(dpre, x, state["hidden_weight"].astype(x.dtype),
                                                          need_dx=False)
    return {"hidden_weight": dhidden_weight, "hidden_bias": dhidden_bias,
            "output_weight": doutput_weight, "output_bias": doutput_bias}
