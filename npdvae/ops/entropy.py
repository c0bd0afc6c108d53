"""Entropy of categorical rows (eq. 4, 6, 9) and KL divergence to a prior (eq. 3, 61, 66), in nats.

Everything takes log-probabilities: finite logits give finite log-probabilities, so p log p is 0 and
never NaN where p underflows.
"""
from typing import Any

import numpy as np

from npdvae.types import Array


def entropy(log_p: Array) -> Array:
    """-sum p log p per row: log_p [..., K] -> [...], between 0 and log K."""
    return np.minimum(-(np.exp(log_p) * log_p).sum(-1), log_categories(log_p))      # [...]


def entropy_backward(dh: Array, log_p: Array) -> Array:
    """Gradient of `entropy` w.r.t. the logits behind log_p, -p (log p + H): dh [...], log_p [..., K] -> [..., K]."""
    p = np.exp(log_p)                                               # [..., K]
    h = -(p * log_p).sum(-1, keepdims=True)                         # [..., 1]
    return -dh[..., None] * p * (log_p + h)


def kl_uniform(log_q: Array) -> Array:
    """KL(q || uniform) = log K - H(q) per row (eq. 66): log_q [..., K] -> [...]."""
    return log_categories(log_q) - entropy(log_q)                   # [...]


def kl_uniform_backward(dkl: Array, log_q: Array) -> Array:
    """Gradient of `kl_uniform` w.r.t. the logits of q (eq. 70): dkl [...], log_q [..., K] -> [..., K]."""
    return entropy_backward(-dkl, log_q)


def kl_categorical(log_q: Array, log_p: Array) -> Array:
    """KL(q || p) per row (eq. 3): log_q [..., K], log_p broadcast against it -> [...], never negative."""
    return np.maximum((np.exp(log_q) * (log_q - log_p)).sum(-1), 0)                 # [...]


def kl_categorical_backward(dkl: Array, log_q: Array, log_p: Array) -> tuple[Array, Array]:
    """Gradients of `kl_categorical` w.r.t. the logits of q and of p: dkl [...] -> [..., K], [..., K].

    The second is not summed over the axes along which log_p was broadcast.
    """
    q = np.exp(log_q)                                               # [..., K]
    ratio = log_q - log_p                                           # [..., K]
    dq = dkl[..., None] * q * (ratio - (q * ratio).sum(-1, keepdims=True))
    dp = dkl[..., None] * (np.exp(log_p) - q)                       # [..., K]
    return dq, dp


def log_categories(log_p: Array) -> np.number[Any]:
    """log K in the type of log_p [..., K], so that rounding takes neither entropy nor KL past its bound."""
    return log_p.dtype.type(np.log(log_p.shape[-1]))
