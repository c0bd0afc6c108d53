"""Numba kernels for formulas of npdvae.estimators.parts: float32 arrays in, what the formula of that name gives out."""
from __future__ import annotations

import numpy as np

from npdvae.kernels.cpu import conditional_gumbels as conditional
from npdvae.kernels.cpu import copula, pair_surrogate, swapped, tree_pair
from npdvae.kernels.cpu import distinct_codes as distinct
from npdvae.kernels.cpu import weighted_score as scores

f4 = np.float32
FORMULAS: dict = {}


def kernel(name, arguments):
    """The kernel of a formula for arrays that are all float32 (or integers, or bits) and not empty; else None."""
    arrays = [a for a in arguments if isinstance(a, np.ndarray)]
    fits = all(a.dtype == f4 or a.dtype.kind in "iub" for a in arrays) and all(a.size for a in arrays)
    return FORMULAS.get(name) if fits else None


def formula(function):
    """Decorator: enter a function under its own name."""
    FORMULAS[function.__name__] = function
    return function


def rows(a, axes=1):
    """[..., K] -> contiguous [N, K]; the last `axes` axes are kept."""
    a = np.ascontiguousarray(a)
    return a.reshape((-1,) + a.shape[a.ndim - axes:])


def given(log_p, codes, v):
    """Rows of log_p that repeat along those of v, codes [N], v [N, k K]; the shape of the result."""
    check_codes("conditional_gumbels", codes, log_p.shape[-1])
    shape = np.broadcast_shapes(codes.shape, v.shape[:-1])
    lead = log_p.shape[:-1]
    if shape[len(shape) - len(lead):] != lead:
        log_p = np.broadcast_to(log_p, (*shape, log_p.shape[-1]))
    return (rows(log_p), np.ascontiguousarray(np.broadcast_to(codes, shape)).reshape(-1),
            rows(np.broadcast_to(v, (*shape, v.shape[-1]))), (*shape, -1, log_p.shape[-1]))


@formula
def conditional_gumbels(log_p, codes, v):
    log_p, codes, v, shape = given(log_p, codes, v)
    noisy = np.empty_like(v)
    conditional.forward(log_p, codes, v, noisy)
    return noisy.reshape(shape)                                     # [S, B, D, k, K]


@formula
def conditional_gumbels_backward(dnoisy, log_p, codes, v):
    log_p, codes, v, shape = given(log_p, codes, v)
    dlog_p = np.empty_like(v)
    dnoisy = np.broadcast_to(dnoisy, (*shape[:-2], v.shape[1] // shape[-1], shape[-1]))
    conditional.backward(np.ascontiguousarray(dnoisy).reshape(v.shape), log_p, codes, v, dlog_p)
    return dlog_p.reshape(shape)                                    # [S, B, D, k, K]


@formula
def conditional_straight_through(log_p, codes, v, dcodes, tau):
    log_p, codes, v, shape = given(log_p, codes, v)
    dlogits = np.empty((len(v), shape[-1]), f4)
    conditional.straight_through(rows(dcodes), log_p, codes, v, f4(tau), dlogits)
    return dlogits.reshape(dcodes.shape)                            # [S, B, D, K]


@formula
def stick_breaking(logits):
    K = logits.shape[-1]
    left, right = np.empty((2, *logits.shape[:-1], K - 1, K), bool)
    tree_pair.stick_breaking(rows(logits), rows(left, 2), rows(right, 2))
    return left, right                                              # [B, D, K-1, K]


@formula
def node_logits(logits, left, right):
    a, slope = np.empty((*logits.shape[:-1], left.shape[-2]), f4), np.empty((*logits.shape[:-1], *left.shape[-2:]), f4)
    tree_pair.node_logits(rows(logits), rows(left, 2), rows(right, 2), rows(a), rows(slope, 2))
    return a, slope                                                 # [B, D, N], [B, D, N, K]


@formula
def leaf_pair(a, left, right, u):
    codes = np.empty((2, *a.shape[:-1]), np.int64)                  # [2, B, D]
    tree_pair.leaf_pair(rows(a), rows(left, 2), rows(right, 2), rows(u), codes.reshape(2, -1))
    return codes


@formula
def leaf_pair_backward(half, codes, a, slope, left, right):
    B, D, _, K = slope.shape
    check_codes("leaf_pair_backward", codes, K)
    dlogits = np.empty((B, D, K), f4)
    codes = np.ascontiguousarray(np.broadcast_to(codes, (2, B, D))).reshape(2, -1)
    tree_pair.leaf_pair_backward(np.repeat(half, D), codes, rows(a), rows(slope, 2), rows(left, 2), rows(right, 2),
                                 rows(dlogits))
    return dlogits


@formula
def weighted_score(coefficient, codes, p):
    codes = np.broadcast_to(codes, (*coefficient.shape, p.shape[1]))
    check_codes("weighted_score", codes, p.shape[-1])
    dlogits = np.empty(p.shape, f4)                                 # [B, D, K]
    scores.weighted_score(np.ascontiguousarray(coefficient), np.ascontiguousarray(codes), np.ascontiguousarray(p),
                          dlogits)
    return dlogits


def check_codes(name, codes, categories):
    """Raise ValueError where a code is no category: kernels index without a check."""
    if codes.min() < 0 or codes.max() >= categories:
        raise ValueError(f"{name}: codes must be in [0, {categories}), got {codes.min()} to {codes.max()}")


@formula
def antithetic_codes(logits, u):
    codes = np.empty(u.shape[:-1], np.int64)                        # [M, B, D]
    copula.antithetic_codes(rows(logits), np.ascontiguousarray(u).reshape(len(u), -1, u.shape[-1]),
                            codes.reshape(len(u), -1))
    return codes


@formula
def pair_ratio(logits, first, other, samples):
    rho = np.empty((len(first), *logits.shape[:2]), f4)             # [N, B, D]
    for codes in (first, other):
        check_codes("pair_ratio", codes, logits.shape[-1])
    first, other = (np.ascontiguousarray(np.broadcast_to(k, rho.shape)).reshape(len(rho), -1) for k in (first, other))
    copula.pair_ratio(rows(logits), first, other, samples, rho.reshape(len(rho), -1))
    return rho


@formula
def swapped_winners(log_e, logits, orders):
    codes = np.empty((len(orders), *logits.shape[:-1]), np.int64)   # [S, B, D]
    swapped.swapped_winners(rows(log_e), rows(logits), np.ascontiguousarray(orders), codes.reshape(len(orders), -1))
    return codes


@formula
def most_probable(log_p, count):
    B, D, K = log_p.shape
    count = min(count, K ** D)
    codes, log_q = np.empty((count, B, D), np.int64), np.empty((count, B), f4)
    if count:
        distinct.most_probable(np.ascontiguousarray(log_p), codes, log_q)
    return codes, log_q


@formula
def without_replacement(log_p, u):
    B, D, K = log_p.shape
    codes = np.empty((min(len(u), K ** D), B, D), np.int64)
    distinct.without_replacement(np.ascontiguousarray(log_p), np.ascontiguousarray(u), codes)
    return codes


@formula
def log_outside(log_p, codes):
    (B, D, K), total = log_p.shape, np.empty(len(log_p), f4)
    if codes.size:
        check_codes("log_outside", codes, K)
    tables = np.empty((D, len(codes), B, K), f4)
    distinct.log_outside(np.ascontiguousarray(log_p), np.ascontiguousarray(codes), tables, total)
    return total, tables


@formula
def draw_outside(log_p, codes, tables, u):
    drawn = np.empty(u.shape, np.int64)                             # [B, D]
    distinct.draw_outside(np.ascontiguousarray(log_p), np.ascontiguousarray(codes), tables, np.ascontiguousarray(u),
                          drawn)
    return drawn


@formula
def chances(log_q, log_rest):
    k, B = log_q.shape
    first, second, left = np.empty((k, B), f4), np.empty((k, k, B), f4), np.empty((k, B), f4)
    distinct.chances(np.ascontiguousarray(log_q), np.ascontiguousarray(log_rest), first, second, left)
    return {"first": first, "second": second, "left": left}


@formula
def surrogate(f, along, w, b, v, c):
    out = np.empty((*along.shape, 2), f4)                           # [..., 2]
    pair_surrogate.forward(flat(f, along), flat(along, along), w, b, np.ascontiguousarray(v.T), c, out.reshape(-1, 2))
    return out


@formula
def surrogate_backward(dout, f, along, w, b, v):
    dw, db, dv, dc = np.zeros(w.shape, f4), np.zeros(b.shape, f4), np.zeros(v.T.shape, f4), np.zeros(2, f4)
    dout = rows(np.broadcast_to(dout, (*along.shape, 2)))           # [N, 2]
    pair_surrogate.backward(dout, flat(f, along), flat(along, along), w, b, np.ascontiguousarray(v.T), dw, db, dv, dc)
    return dw, db, dv.T, dc


def flat(a, like):
    """Written out to a shape, as one row."""
    return np.ascontiguousarray(np.broadcast_to(a, like.shape)).reshape(-1)
