"""Entropy and KL divergence of rows of log-probabilities [N, K], float32, in nats."""
import math

import numpy as np

from npdvae.kernels.cpu.compiler import SUMS, kernel
from npdvae.kernels.cpu.elementary import exp

f4 = np.float32


@kernel(SUMS)
def entropy(log_p, h):
    """h [N], between 0 and log K."""
    N, K = log_p.shape
    ceiling = f4(math.log(K))
    for n in range(N):
        total = f4(0)
        for k in range(K):
            total -= exp(log_p[n, k]) * log_p[n, k]
        h[n] = f4(0) if total < f4(0) else (ceiling if total > ceiling else total)


@kernel(SUMS)
def entropy_backward(dh, log_p, dlogits):
    """-dh p (log p + H): dh [N], dlogits [N, K]."""
    N, K = log_p.shape
    for n in range(N):
        h = f4(0)
        for k in range(K):
            dlogits[n, k] = exp(log_p[n, k])
            h -= dlogits[n, k] * log_p[n, k]
        for k in range(K):
            dlogits[n, k] *= -dh[n] * (log_p[n, k] + h)


@kernel(SUMS)
def kl_categorical(log_q, log_p, kl):
    """kl [N] of log_q [N, K] from log_p [M, K], row n against row n % M."""
    N, K = log_q.shape
    for n in range(N):
        total = f4(0)
        for k in range(K):
            total += exp(log_q[n, k]) * (log_q[n, k] - log_p[n % len(log_p), k])
        kl[n] = f4(0) if total < f4(0) else total


@kernel(SUMS)
def kl_categorical_backward(dkl, log_q, log_p, dq, dp):
    """Gradients w.r.t. the logits of both: dkl [N], dq [N, K], dp [N, K]."""
    N, K = log_q.shape
    for n in range(N):
        m = n % len(log_p)
        total = f4(0)
        for k in range(K):
            dq[n, k] = exp(log_q[n, k])
            total += dq[n, k] * (log_q[n, k] - log_p[m, k])
        for k in range(K):
            q = dq[n, k]
            dp[n, k] = dkl[n] * (exp(log_p[m, k]) - q)
            dq[n, k] = dkl[n] * q * (log_q[n, k] - log_p[m, k] - total)
