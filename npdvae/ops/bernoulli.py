"""Bernoulli likelihood on logits: -log p(x | z) summed over pixels, in nats (eq. 54, 57, 75)."""
import numpy as np


def sigmoid(x):
    """Logistic function, stable for any real part; any shape."""
    e = np.exp(np.where(x.real > 0, -x, x))                         # |e| <= 1
    return np.where(x.real > 0, 1 / (1 + e), e / (1 + e))


def softplus(x):
    """log(1 + exp(x)), stable for any real part; any shape."""
    positive = x.real > 0
    return np.where(positive, x, 0) + np.log1p(np.exp(np.where(positive, -x, x)))


def bce(logits, x):
    """Aggregate binary cross-entropy (eq. 10): logits [..., P], x [..., P] -> [...], in nats."""
    return (softplus(logits) - x * logits).sum(-1)


def bce_backward(dcost, logits, x):
    """Adjoint of `bce` w.r.t. the logits: dcost [...], logits [..., P], x [..., P] -> [..., P]."""
    return dcost[..., None] * (sigmoid(logits) - x)


def bce_shared(logits, x):
    """`bce` of every code against every image, one matrix product: logits [S, P], x [B, P] -> [S, B]."""
    return softplus(logits).sum(-1)[:, None] - logits @ x.T         # [S, B]


def bce_shared_backward(dcost, logits, x):
    """Adjoint of `bce_shared` w.r.t. the logits: dcost [S, B], logits [S, P], x [B, P] -> [S, P]."""
    return dcost.sum(1)[:, None] * sigmoid(logits) - dcost @ x      # [S, P]
