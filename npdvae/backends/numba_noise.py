"""Numba kernels for formulas of noise: conditional Gumbels, pairs on trees, antithetic categories, exchanged shares."""
from __future__ import annotations

import numpy as np

from npdvae.backends.numba_arrays import check_codes, f4, rows
from npdvae.kernels.cpu import conditional_gumbels as conditional
from npdvae.kernels.cpu import copula, swapped, tree_pair


def given(log_p, codes, v):
    """Rows of log_p that repeat along those of v, codes [N], v [N, k K]; the shape of the result."""
    check_codes("conditional_gumbels", codes, log_p.shape[-1])
    shape = np.broadcast_shapes(codes.shape, v.shape[:-1])
    lead = log_p.shape[:-1]
    if shape[len(shape) - len(lead):] != lead:
        log_p = np.broadcast_to(log_p, (*shape, log_p.shape[-1]))
    return (rows(log_p), np.ascontiguousarray(np.broadcast_to(codes, shape)).reshape(-1),
            rows(np.broadcast_to(v, (*shape, v.shape[-1]))), (*shape, -1, log_p.shape[-1]))


def conditional_gumbels(log_p, codes, v):
    log_p, codes, v, shape = given(log_p, codes, v)
    noisy = np.empty_like(v)
    conditional.forward(log_p, codes, v, noisy)
    return noisy.reshape(shape)                                     # [S, B, D, k, K]


def conditional_gumbels_backward(dnoisy, log_p, codes, v):
    log_p, codes, v, shape = given(log_p, codes, v)
    dlog_p = np.empty_like(v)
    dnoisy = np.broadcast_to(dnoisy, (*shape[:-2], v.shape[1] // shape[-1], shape[-1]))
    conditional.backward(np.ascontiguousarray(dnoisy).reshape(v.shape), log_p, codes, v, dlog_p)
    return dlog_p.reshape(shape)                                    # [S, B, D, k, K]


def conditional_straight_through(log_p, codes, v, dcodes, tau):
    log_p, codes, v, shape = given(log_p, codes, v)
    dlogits = np.empty((len(v), shape[-1]), f4)
    conditional.straight_through(rows(dcodes), log_p, codes, v, f4(tau), dlogits)
    return dlogits.reshape(dcodes.shape)                            # [S, B, D, K]


def stick_breaking(logits):
    K = logits.shape[-1]
    left, right = np.empty((2, *logits.shape[:-1], K - 1, K), bool)
    tree_pair.stick_breaking(rows(logits), rows(left, 2), rows(right, 2))
    return left, right                                              # [B, D, K-1, K]


def node_logits(logits, left, right):
    a, slope = np.empty((*logits.shape[:-1], left.shape[-2]), f4), np.empty((*logits.shape[:-1], *left.shape[-2:]), f4)
    tree_pair.node_logits(rows(logits), rows(left, 2), rows(right, 2), rows(a), rows(slope, 2))
    return a, slope                                                 # [B, D, N], [B, D, N, K]


def leaf_pair(a, left, right, u):
    codes = np.empty((2, *a.shape[:-1]), np.int64)                  # [2, B, D]
    tree_pair.leaf_pair(rows(a), rows(left, 2), rows(right, 2), rows(u), codes.reshape(2, -1))
    return codes


def leaf_pair_backward(half, codes, a, slope, left, right):
    B, D, _, K = slope.shape
    check_codes("leaf_pair_backward", codes, K)
    dlogits = np.empty((B, D, K), f4)
    codes = np.ascontiguousarray(np.broadcast_to(codes, (2, B, D))).reshape(2, -1)
    tree_pair.leaf_pair_backward(np.repeat(half, D), codes, rows(a), rows(slope, 2), rows(left, 2), rows(right, 2),
                                 rows(dlogits))
    return dlogits


def antithetic_codes(logits, u):
    codes = np.empty(u.shape[:-1], np.int64)                        # [M, B, D]
    copula.antithetic_codes(rows(logits), np.ascontiguousarray(u).reshape(len(u), -1, u.shape[-1]),
                            codes.reshape(len(u), -1))
    return codes


def pair_ratio(logits, first, other, samples):
    rho = np.empty((len(first), *logits.shape[:2]), f4)             # [N, B, D]
    for codes in (first, other):
        check_codes("pair_ratio", codes, logits.shape[-1])
    first, other = (np.ascontiguousarray(np.broadcast_to(k, rho.shape)).reshape(len(rho), -1) for k in (first, other))
    copula.pair_ratio(rows(logits), first, other, samples, rho.reshape(len(rho), -1))
    return rho


def swapped_winners(log_e, logits, orders):
    codes = np.empty((len(orders), *logits.shape[:-1]), np.int64)   # [S, B, D]
    swapped.swapped_winners(rows(log_e), rows(logits), np.ascontiguousarray(orders), codes.reshape(len(orders), -1))
    return codes


KERNELS = (conditional_gumbels, conditional_gumbels_backward, conditional_straight_through, stick_breaking,
           node_logits, leaf_pair, leaf_pair_backward, antithetic_codes, pair_ratio, swapped_winners)
