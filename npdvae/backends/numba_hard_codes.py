"""Numba kernels for formulas of hard codes and of gradients that read df/dz at them."""
from __future__ import annotations

import numpy as np

from npdvae.backends.numba_arrays import F4, check_codes, common, f4, flat, rows, written
from npdvae.kernels.cpu import hard_codes


def fitting(codes, categories, shape):
    """Codes as int64 [S N] of a shape [S, B, D]."""
    check_codes("codes", codes, categories)
    return flat(written(np.asarray(codes, np.int64), shape))


def drawn(logits, u):
    codes = np.empty(u.shape, np.int64)                             # [S, B, D]
    hard_codes.drawn(rows(logits), flat(u), codes.reshape(-1))
    return codes


def taylor(p, codes, dcodes, uniform):
    dlogits = np.empty(p.shape, F4)                                 # [B, D, K]
    hard_codes.taylor(rows(p), fitting(codes, p.shape[-1], dcodes.shape[:-1]), rows(dcodes), uniform, rows(dlogits))
    return dlogits


def gapped(logits, codes, gap, tau):
    shape = common(logits.shape[:-1], codes.shape)
    y = np.empty((*shape, logits.shape[-1]), F4)                    # [S, B, D, K]
    hard_codes.gapped(rows(logits), fitting(codes, logits.shape[-1], shape), f4(gap), f4(tau), rows(y))
    return y


def second_step(logits, shift, gumbels, codes):
    step = np.empty(common(shift.shape, gumbels.shape), F4)         # [S, B, D, K]
    hard_codes.second_step(rows(logits), rows(written(shift, step.shape)), rows(written(gumbels, step.shape)),
                           fitting(codes, logits.shape[-1], step.shape[:-1]), rows(step))
    return step


def log_midpoint(log_p, codes):
    shape = common(log_p.shape[:-1], codes.shape)
    log_pb = np.empty((*shape, log_p.shape[-1]), F4)                # [S, B, D, K]
    hard_codes.log_midpoint(rows(log_p), fitting(codes, log_p.shape[-1], shape), rows(log_pb))
    return log_pb


def sizes(logits, dcodes):
    phi, g = np.empty(len(logits), F4), np.empty(dcodes.shape[:2], F4)
    hard_codes.sizes(logits.reshape(len(logits), -1), rows(dcodes.reshape(*g.shape, -1)), phi, g.reshape(-1))
    return phi[:, None, None], g[..., None, None]                   # [B, 1, 1], [S, B, 1, 1]


KERNELS = (drawn, taylor, gapped, second_step, log_midpoint, sizes)
