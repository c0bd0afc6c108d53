"""Posterior and KL from the uniform distribution in one pass, and the KL's adjoint; rows [N, K], float32, in nats."""
import math

import numpy as np

from npdvae.kernels.cpu.compiler import SUMS, kernel
from npdvae.kernels.cpu.elementary import exp, log
from npdvae.kernels.cpu.side_by_side import WIDE, columns, products, rows, shifted, summed

f4 = np.float32


@kernel(SUMS)
def posterior(logits, log_q, kl):
    """log-softmax of logits [N, K], and log K - H of it [N], between 0 and log K."""
    (N, K), ceiling = logits.shape, f4(math.log(logits.shape[1]))
    x, q, room = np.empty((K, WIDE), f4), np.empty((K, WIDE), f4), np.empty(WIDE, f4)
    for first in range(0, N, WIDE):
        n = min(WIDE, N - first)
        columns(logits, first, x, n)
        shifted(x, room, n)
        for k in range(K):
            a, b = x[k], q[k]
            for i in range(n):
                b[i] = exp(a[i])
        summed(q, room, n)
        for k in range(K):
            b = q[k]
            for i in range(n):
                b[i] /= room[i]
        for i in range(n):
            room[i] = log(room[i])
        for k in range(K):
            a = x[k]
            for i in range(n):
                a[i] -= room[i]
        rows(x, log_q, first, n)
        products(x, q, room, n)
        for i in range(n):
            d = ceiling + room[i]
            kl[first + i] = f4(0) if d < f4(0) else (ceiling if d > ceiling else d)


@kernel(SUMS)
def plus_kl_backward(dlogits, weight, floor, log_q, kl, total):
    """dlogits [N, K] + weight q (log q + H), without the second term where kl [N] is below the floor."""
    (N, K), q, x = log_q.shape, total.ravel(), log_q.ravel()
    for i in range(q.size):
        q[i] = exp(x[i])
    for n in range(N):
        h = f4(0)
        for k in range(K):
            h -= total[n, k] * log_q[n, k]
        w = weight if kl[n] >= floor else f4(0)
        for k in range(K):
            total[n, k] = dlogits[n, k] + w * total[n, k] * (log_q[n, k] + h)
