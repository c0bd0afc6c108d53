"""The true gradient of each objective, by enumeration of all codes: what estimators are held against."""
from __future__ import annotations

import itertools
import math

import numpy as np

from npdvae.backends import load
from npdvae.estimators.parts.outcomes import all_codes, codes_log_prob
from npdvae.types import Array, Cost

OBJECTIVES = ("expectation", "sampled_kl", "importance_weighted")
MOST_TERMS = 2 ** 24                                                # codes, or tuples of codes
CHUNK = 4096


def exact_gradient(logits: Array, cost_fn: Cost, *, objective: str = "expectation",
                   samples: int | None = None) -> Array:
    """Gradient of an objective w.r.t. the logits of each example: logits [B, D, K] -> float64 [B, D, K].

    "expectation": E_q[cost] (eq. 71). "sampled_kl": E_q[cost + log q], the prior inside the cost.
    "importance_weighted": -E log mean_s exp(-cost_s) / q(z_s) over `samples` codes (Burda et al. 2016, eq. 8).
    cost_fn(codes int [C, 1, D]) -> [C, B]. Raises ValueError where there are too many codes to enumerate.
    """
    logits = check_logits(logits)
    if objective not in OBJECTIVES:
        raise ValueError(f"unknown objective {objective!r}: expected one of {', '.join(OBJECTIVES)}")
    if objective == "importance_weighted" and not (samples and samples >= 1):
        raise ValueError("objective importance_weighted needs samples >= 1, the number of codes in its bound")
    B, D, K = logits.shape
    terms = (K ** D) ** (samples if objective == "importance_weighted" else 1)
    if terms > MOST_TERMS:
        raise ValueError(f"{terms} codes or tuples of codes to enumerate ({K} categories, {D} latents), "
                         f"more than {MOST_TERMS}; take fewer latents, categories or samples")
    codes = all_codes(np, D, K)                                     # [C, D]
    log_q = codes_log_prob(load("numpy"), logits, codes)            # [C, B]
    cost = evaluate(cost_fn, codes, B)                              # [C, B]
    if objective == "importance_weighted":
        assert samples is not None
        cost = importance_costs(cost, log_q, samples)               # [C, B]
    elif objective == "sampled_kl":
        cost = cost + log_q                                         # d log q adds E[score] = 0
    return score_mean(cost, log_q, logits)


def check_logits(logits: Array) -> Array:
    """Logits as float64 [B, D, K]; ValueError otherwise. One of -inf is a category that is never drawn."""
    logits = np.asarray(logits, np.float64)
    if logits.ndim != 3 or not logits.size:
        raise ValueError(f"logits must have shape [B, D, K], got {logits.shape}")
    if not np.isfinite(logits.max(-1)).all():
        raise ValueError("logits must be finite: some are NaN or infinite")
    return logits


def evaluate(cost_fn: Cost, codes: Array, batch: int) -> Array:
    """Cost of shared codes, in chunks: int [C, D] -> float64 [C, B]."""
    parts = []
    for start in range(0, len(codes), CHUNK):
        part = codes[start:start + CHUNK]
        cost = np.asarray(cost_fn(part[:, None]), np.float64)       # [c, B]
        if cost.shape not in ((len(part), batch), (len(part), 1)):
            raise ValueError(f"cost_fn returned shape {cost.shape} for codes of shape {part[:, None].shape}, "
                             f"expected [S, B] = {(len(part), batch)}")
        parts.append(np.broadcast_to(cost, (len(part), batch)))
    return np.concatenate(parts)


def importance_costs(cost: Array, log_q: Array, samples: int) -> Array:
    """The cost whose expectation has the gradient of the importance-weighted objective: [C, B], [C, B] -> [C, B].

    That gradient is E sum_s (L + w_s / sum w) score_s, L = -log mean w and w = exp(-cost) / q; the samples are
    exchangeable, so it is `samples` times its first term: here the mean of that term over the other samples.
    """
    C = len(cost)
    log_w = -cost - log_q                                           # [C, B]
    total = np.zeros_like(cost)
    for others in itertools.combinations_with_replacement(range(C), samples - 1):
        counts = np.bincount(np.asarray(others, int))               # how often each code is among them
        orders = math.factorial(samples - 1) // math.prod(math.factorial(n) for n in counts)
        probability = orders * np.exp(log_q[list(others)].sum(0))   # [B]
        log_sum = log_w                                             # [C, B]
        for other in others:
            log_sum = np.logaddexp(log_sum, log_w[other])
        total += probability * (math.log(samples) - log_sum + np.exp(log_w - log_sum))
    return samples * total


def score_mean(cost: Array, log_q: Array, logits: Array) -> Array:
    """E_q[cost score], float64 pairwise sums: cost [C, B], log_q [C, B], logits [B, D, K] -> [B, D, K]."""
    B, D, K = logits.shape
    p = load("numpy").softmax(logits)                               # [B, D, K]
    q = np.exp(log_q)
    advantage = q * (cost - (q * cost).sum(0))                      # [C, B]; the score has mean zero
    table = advantage.T.reshape((B,) + (K,) * D)                    # [B, K, ..., K]
    gradient = np.empty((B, D, K))
    for d in range(D):
        row = np.ascontiguousarray(np.moveaxis(table, d + 1, 1)).reshape(B, K, -1).sum(-1)     # [B, K]
        gradient[:, d] = row - p[:, d] * row.sum(-1, keepdims=True)
    return gradient
