"""Numba kernels for formulas of the posterior, its KL, relaxed rows, smoothed bits and continuous z."""
from __future__ import annotations

import numpy as np

from npdvae.backends.numba_arrays import F4, common, f4, flat, repeating, rows, written
from npdvae.kernels.cpu import gamma, gumbel, location_scale, smoothing
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
                                  flat(kl), rows(total))
    return total


def power_rows(p, u, beta):
    found, slope = np.empty((*u.shape, 2), F4), np.empty(u.shape, F4)
    smoothing.power_rows(flat(p), flat(u), f4(beta), rows(found), slope.reshape(-1))
    return found, slope                                             # [S, B, D, 2], [S, B, D]


def bits_backward(dcodes, slope):
    dlogits = np.empty(dcodes.shape[1:], F4)                        # [B, D, 2]
    smoothing.bits_backward(rows(dcodes), flat(slope), rows(dlogits))
    return dlogits


def analytic_kl(loc, s, variance, entropy):
    kl = np.empty(loc.shape, F4)                                    # [B, D]
    location_scale.analytic_kl(flat(loc), flat(s), f4(variance), f4(entropy), kl.reshape(-1))
    return kl


def moved(loc, s, e):
    z = np.empty(e.shape, F4)                                       # [S, B, D]
    location_scale.moved(flat(loc), flat(s), flat(e), z.reshape(-1))
    return z


def variates(alpha, u):
    log_g, slope = np.empty(u.shape, F4), np.empty(u.shape, F4)     # [S, B, D]
    gamma.variates(flat(alpha), flat(u), log_g.reshape(-1), slope.reshape(-1))
    return log_g, slope


KERNELS = (analytic_kl, moved, variates, perturbed, relaxed, relaxed_backward, posterior, plus_kl_backward, power_rows,
           bits_backward)
