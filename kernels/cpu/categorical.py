"""Sampling categories from given noise, and log-probabilities of codes; rows [N, K], float32."""
import numpy as np

from npdvae.kernels.cpu.compiler import CONTRACT, helper, kernel

f4 = np.float32


@helper
def invert(p, u):
    """Index of the first edge above u among the edges of p [K], never a category of probability zero."""
    edge, code, last = f4(0), 0, 0
    for k in range(p.size):
        if p[k] > f4(0):
            last = k
        edge += p[k]
        if edge <= u:
            code = k + 1
    return min(code, last)


@kernel(CONTRACT)
def inverse_cdf(p, u, codes):
    """p [M, K], u [N] -> codes int64 [N], row n against row n % M."""
    for n in range(u.size):
        codes[n] = invert(p[n % len(p)], u[n])


@kernel(CONTRACT)
def gumbel_max(logits, gumbels, codes):
    """argmax(logits + gumbels): [M, K], [N, K] -> int64 [N], row n against row n % M; the first of equals."""
    N, K = gumbels.shape
    for n in range(N):
        row = logits[n % len(logits)]
        best = 0
        for k in range(1, K):
            if row[k] + gumbels[n, k] > row[best] + gumbels[n, best]:
                best = k
        codes[n] = best


@kernel(CONTRACT)
def log_prob(log_p, codes, log_q):
    """Sum of D picked entries: log_p [M, D, K], codes int64 [N, D] -> log_q [N], row n against row n % M."""
    N, D = codes.shape
    for n in range(N):
        total = f4(0)
        for d in range(D):
            total += log_p[n % len(log_p), d, codes[n, d]]
        log_q[n] = total


@kernel(CONTRACT)
def one_hot(codes, rows):
    """rows [N, K] = 1 at codes int64 [N], 0 elsewhere."""
    N, K = rows.shape
    x = rows.ravel()
    for i in range(x.size):
        x[i] = f4(0)
    for n in range(N):
        if 0 <= codes[n] < K:
            rows[n, codes[n]] = f4(1)
