"""Bernoulli likelihood on logits: -log p(x | z) summed over pixels, in nats (eq. 54, 57, 75)."""
import numpy as np

from npdvae.types import Array


def sigmoid(x: Array) -> Array:
    """Logistic function, stable for any real part; any shape."""
    y = np.exp(np.minimum(x, 0))
    y /= 1 + np.exp(np.minimum(x, -x))                              # complex numbers compare by their real parts
    return y


def softplus(x: Array) -> Array:
    """log(1 + exp(x)), stable for any real part; any shape."""
    e = np.exp(np.minimum(x, -x))                                   # e^-|x|
    u = 1 + e
    e -= u - 1                                                      # what rounding took from u
    e += np.log(u)                                                  # log1p(e^-|x|), vectorised as log1p is not
    e += np.maximum(x, 0)
    return e


def bce(logits: Array, x: Array) -> Array:
    """Aggregate binary cross-entropy (eq. 10): logits [..., P], x [..., P] -> [...], in nats."""
    cost = softplus(logits)                                         # [..., P]
    cost -= x * logits
    return cost.sum(-1)


def bce_backward(dcost: Array, logits: Array, x: Array) -> Array:
    """Adjoint of `bce` w.r.t. the logits: dcost [...], logits [..., P], x [..., P] -> [..., P]."""
    dlogits = sigmoid(logits)                                       # [..., P]
    dlogits -= x
    dlogits *= dcost[..., None]
    return dlogits


def bce_shared(logits: Array, x: Array) -> Array:
    """`bce` of every code against every image, one matrix product: logits [S, P], x [B, P] -> [S, B]."""
    return softplus(logits).sum(-1)[:, None] - logits @ x.T         # [S, B]


def bce_shared_backward(dcost: Array, logits: Array, x: Array) -> Array:
    """Adjoint of `bce_shared` w.r.t. the logits: dcost [S, B], logits [S, P], x [B, P] -> [S, P]."""
    return dcost.sum(1)[:, None] * sigmoid(logits) - dcost @ x      # [S, P]
