"""Softmax and log-softmax over the last axis, shifted by the largest entry (complex: by the largest real part)."""
import numpy as np

from npdvae.types import Array


def softmax(logits: Array) -> Array:
    """Probabilities: logits [..., K] -> [..., K], rows sum to one."""
    e = np.exp(logits - logits.max(-1, keepdims=True))              # [..., K]
    return e / e.sum(-1, keepdims=True)


def softmax_backward(dp: Array, p: Array) -> Array:
    """Adjoint of `softmax`, J(p) dp = p (dp - <p, dp>): dp [..., K], p [..., K] -> [..., K]."""
    return p * (dp - (p * dp).sum(-1, keepdims=True))


def log_softmax(logits: Array) -> Array:
    """Log-probabilities in nats: logits [..., K] -> [..., K]."""
    shifted = logits - logits.max(-1, keepdims=True)                # [..., K]
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


def log_softmax_backward(dlog_p: Array, log_p: Array) -> Array:
    """Adjoint of `log_softmax`: dlog_p [..., K], log_p [..., K] -> [..., K]."""
    return dlog_p - np.exp(log_p) * dlog_p.sum(-1, keepdims=True)
