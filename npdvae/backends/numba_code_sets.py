"""Numba kernels for formulas of sets of codes, of scores and of RODEO's surrogate."""
from __future__ import annotations

import numpy as np

from npdvae.backends.numba_arrays import check_codes, f4, rows
from npdvae.kernels.cpu import best_codes, code_race, first_draws, outside_codes, pair_surrogate
from npdvae.kernels.cpu import weighted_score as scores


def weighted_score(coefficient, codes, p):
    codes = np.broadcast_to(codes, (*coefficient.shape, p.shape[1]))
    check_codes("weighted_score", codes, p.shape[-1])
    dlogits = np.empty(p.shape, f4)                                 # [B, D, K]
    scores.weighted_score(np.ascontiguousarray(coefficient), np.ascontiguousarray(codes), np.ascontiguousarray(p),
                          dlogits)
    return dlogits


def most_probable(log_p, count):
    B, D, K = log_p.shape
    count = min(count, K ** D)
    codes, log_q = np.empty((count, B, D), np.int64), np.empty((count, B), f4)
    if count:
        best_codes.most_probable(np.ascontiguousarray(log_p), codes, log_q)
    return codes, log_q


def without_replacement(log_p, u):
    B, D, K = log_p.shape
    codes = np.empty((min(len(u), K ** D), B, D), np.int64)
    code_race.without_replacement(np.ascontiguousarray(log_p), np.ascontiguousarray(u), codes)
    return codes


def log_outside(log_p, codes):
    (B, D, K), total = log_p.shape, np.empty(len(log_p), f4)
    if codes.size:
        check_codes("log_outside", codes, K)
    tables = np.empty((D, len(codes), B, K), f4)
    outside_codes.log_outside(np.ascontiguousarray(log_p), np.ascontiguousarray(codes), tables, total)
    return total, tables


def draw_outside(log_p, codes, tables, u):
    drawn = np.empty(u.shape, np.int64)                             # [B, D]
    log_p, codes, u = (np.ascontiguousarray(a) for a in (log_p, codes, u))
    outside_codes.draw_outside(log_p, codes, tables, u, drawn)
    return drawn


def chances(log_q, log_rest):
    k, B = log_q.shape
    first, second, left = np.empty((k, B), f4), np.empty((k, k, B), f4), np.empty((k, B), f4)
    first_draws.chances(np.ascontiguousarray(log_q), np.ascontiguousarray(log_rest), first, second, left)
    return {"first": first, "second": second, "left": left}


def surrogate(f, along, w, b, v, c):
    out = np.empty((*along.shape, 2), f4)                           # [..., 2]
    pair_surrogate.forward(flat(f, along), flat(along, along), w, b, np.ascontiguousarray(v.T), c, out.reshape(-1, 2))
    return out


def surrogate_backward(dout, f, along, w, b, v):
    dw, db, dv, dc = np.zeros(w.shape, f4), np.zeros(b.shape, f4), np.zeros(v.T.shape, f4), np.zeros(2, f4)
    dout = rows(np.broadcast_to(dout, (*along.shape, 2)))           # [N, 2]
    pair_surrogate.backward(dout, flat(f, along), flat(along, along), w, b, np.ascontiguousarray(v.T), dw, db, dv, dc)
    return dw, db, dv.T, dc


def flat(a, like):
    """Written out to a shape, as one row."""
    return np.ascontiguousarray(np.broadcast_to(a, like.shape)).reshape(-1)


KERNELS = (weighted_score, most_probable, without_replacement, log_outside, draw_outside, chances, surrogate,
           surrogate_backward)
