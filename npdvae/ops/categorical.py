"""Categorical variables: sampling from given noise, one-hot rows, log-probability (eq. 13, 14, 80)."""
import numpy as np

from npdvae.types import Array, DType


def inverse_cdf(p: Array, u: Array) -> Array:
    """Sample by inverting the cumulative distribution: p [..., K], u [...] in (0, 1) -> int [...].

    Compares u with K-1 edges (the last cumulative sum may round below u) and never returns a
    category of probability zero.
    """
    edges = np.cumsum(p, -1)[..., :-1]                              # [..., K-1]
    codes = (edges <= u[..., None]).sum(-1)                         # [...]
    last = p.shape[-1] - 1 - (p[..., ::-1] > 0).argmax(-1)          # last category with p > 0
    return np.minimum(codes, last)


def gumbel_max(logits: Array, gumbels: Array) -> Array:
    """Sample as argmax(logits + Gumbel noise): [..., K], [..., K] -> int [...]."""
    return (logits + gumbels).argmax(-1)


def one_hot(codes: Array, categories: int, dtype: DType) -> Array:
    """Indices to one-hot rows: int [...] -> [..., K]."""
    return (codes[..., None] == np.arange(categories)).astype(dtype)


def log_prob(log_p: Array, codes: Array) -> Array:
    """Log-probability of codes under independent rows (eq. 80), in nats.

    log_p [..., D, K], codes int [S, ..., D] -> [S, ...].
    """
    rows = np.broadcast_to(log_p, codes.shape + log_p.shape[-1:])   # [S, ..., D, K]
    return np.take_along_axis(rows, codes[..., None], -1)[..., 0].sum(-1)


def log_prob_backward(dlog_q: Array, codes: Array, categories: int) -> Array:
    """Adjoint of `log_prob` w.r.t. log_p, before any sum over S: [S, ...], int [S, ..., D] -> [S, ..., D, K]."""
    return dlog_q[..., None, None] * one_hot(codes, categories, dlog_q.dtype)
