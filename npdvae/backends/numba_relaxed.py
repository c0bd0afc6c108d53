"""Numba kernels for formulas of the posterior, its KL, and relaxed rows."""
from __future__ import annotations

import numpy as np

from npdvae.backends.numba_arrays import F4, common, f4, repeating, rows, written
from npdvae.kernels.cpu import gumbel
from npdvae.kernels.cpu import posterior as of_posterior


def perturbed(logits, u):
    shape = common(logits.shape, u.shape)
    gumbels, codes = np.empty(shape, F4), np.empty(shape[:-1], np.int64)
    gumbel.perturbed(repeating(logits, shape[:-1], 1), rows(written(u, shape)), rows(gumbels), codes.reshape(-1))
    return gumbels, codes                                           # [S, B, D, K], [S, B, D]


def relaxed(logits, gumbels, tau):
    y = np.empty(common(logits.shape, gumbels.shape), F4)           # [S, B, D, K]
    gumbel.relaxed(repeating(logits, y.shape[:-1], 1), rows(written(gumbels, y.shape)), f4(tau), rows(y))
    return y


def relaxed_backward(dy, y, tau):
    dlogits = np.empty(y.shape[1:], F4)                             # [B, D, K]
    gumbel.relaxed_backward(rows(written(dy, y.shape)), rows(y), f4(tau), rows(dlogits))
    return dlogits


def posterior(logits):
    log_q, kl = np.empty(logits.shape, F4), np.empty(logits.shape[:-1], F4)
    of_posterior.posterior(rows(logits), rows(log_q), kl.reshape(-1))
    return log_q, kl                                                # [B, D, K], [B, D]


def plus_kl_backward(dlogits, kl_weight, free_bits, log_q, kl):
    total = np.empty(log_q.shape, F4)                               # [B, D, K]
    of_posterior.plus_kl_backward(rows(written(dlogits, log_q.shape)), f4(kl_weight), f4(free_bits), rows(log_q),
                             np.ascontiguousarray(kl).reshape(-1), rows(total))
    return total


KERNELS = (perturbed, relaxed, relaxed_backward, posterior, plus_kl_backward)
