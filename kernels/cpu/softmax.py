"""Softmax and log-softmax of rows [N, K], float32."""
import numpy as np

from npdvae.kernels.cpu.compiler import COUNTED, SUMS, inner, kernel
from npdvae.kernels.cpu.elementary import exp, log

f4 = np.float32


@inner(SUMS, **COUNTED)
def shifted_exp(logits, shifted, e):
    """shifted = logits - max of the row, e = exp(shifted); [N, K]."""
    N, K = logits.shape
    for n in range(N):
        top = logits[n, 0]
        for k in range(K):
            top = logits[n, k] if logits[n, k] > top else top
        for k in range(K):
            shifted[n, k] = logits[n, k] - top
    s, q = shifted.ravel(), e.ravel()
    for i in range(s.size):
        q[i] = exp(s[i])


@inner(SUMS, **COUNTED)
def exp_shares(x):
    """Rows of x [N, K] become exp(x) over its sum, in place."""
    y = x.ravel()
    for i in range(y.size):
        y[i] = exp(y[i])
    shares(x)


@inner(SUMS)
def shares(x):
    """Rows of x [N, K] are divided by their sums, in place."""
    N, K = x.shape
    for n in range(N):
        total = f4(0)
        for k in range(K):
            total += x[n, k]
        for k in range(K):
            x[n, k] /= total


@kernel(SUMS)
def softmax(logits, p):
    shifted_exp(logits, np.empty_like(logits), p)
    shares(p)


@kernel(SUMS)
def softmax_backward(dp, p, dlogits):
    N, K = p.shape
    for n in range(N):
        inner = f4(0)
        for k in range(K):
            inner += p[n, k] * dp[n, k]
        for k in range(K):
            dlogits[n, k] = p[n, k] * (dp[n, k] - inner)


@kernel(SUMS)
def log_softmax(logits, log_p):
    N, K = logits.shape
    e = np.empty_like(logits)
    shifted_exp(logits, log_p, e)
    for n in range(N):
        total = f4(0)
        for k in range(K):
            total += e[n, k]
        for k in range(K):
            log_p[n, k] -= log(total)


@kernel(SUMS)
def log_softmax_backward(dlog_p, log_p, dlogits):
    N, K = log_p.shape
    for n in range(N):
        total = f4(0)
        for k in range(K):
            total += dlog_p[n, k]
        for k in range(K):
            dlogits[n, k] = dlog_p[n, k] - exp(log_p[n, k]) * total
