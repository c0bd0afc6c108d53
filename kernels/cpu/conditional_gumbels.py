"""Gumbel noise given which category won, float32: rows v [N, k K] of k draws, codes [N], log_p [M, K] of row n % M.

With a = log(E_j / p_j) - log E_i for the winner i: log p_j + G~_j = G~_i - softplus(a), G~_i = -log E_i.
"""
import numpy as np

from npdvae.kernels.cpu.compiler import CONTRACT, SUMS, kernel
from npdvae.kernels.cpu.elementary import exp_minus, log, sigmoid, softplus

f4 = np.float32


@kernel(CONTRACT)
def ratios(log_p, codes, v, a, log_winner):
    """a [N, k K] as above, 0 for the winner itself; log E_i [N, k]."""
    x, u, K = a.ravel(), v.ravel(), log_p.shape[1]
    for i in range(x.size):
        x[i] = log(-log(u[i]))
    for n in range(len(v)):
        row = log_p[n % len(log_p)]
        for c in range(v.shape[1] // K):
            draw = a[n, c * K:(c + 1) * K]
            log_winner[n, c] = w = draw[codes[n]]
            for k in range(K):
                draw[k] -= row[k] + w
            draw[codes[n]] = f4(0)


@kernel(CONTRACT)
def forward(log_p, codes, v, noisy):
    """log p + G~ [N, k K]."""
    K = log_p.shape[1]
    log_winner = np.empty((len(v), v.shape[1] // K), f4)
    ratios(log_p, codes, v, noisy, log_winner)
    x = noisy.ravel()
    for i in range(x.size):
        x[i] = softplus(x[i])
    for n in range(len(v)):
        for c in range(v.shape[1] // K):
            draw = noisy[n, c * K:(c + 1) * K]
            draw[codes[n]] = f4(0)
            for k in range(K):
                draw[k] = -draw[k] - log_winner[n, c]


@kernel(CONTRACT)
def backward(dnoisy, log_p, codes, v, dlog_p):
    """sigmoid(a) dnoisy, 0 for the winner: [N, k K]."""
    K = log_p.shape[1]
    ratios(log_p, codes, v, dlog_p, np.empty((len(v), v.shape[1] // K), f4))
    x, d = dlog_p.ravel(), dnoisy.ravel()
    for i in range(x.size):
        x[i] = sigmoid(x[i]) * d[i]
    for n in range(len(v)):
        for c in range(v.shape[1] // K):
            dlog_p[n, c * K + codes[n]] = f4(0)


@kernel(SUMS)
def straight_through(dcodes, log_p, codes, v, tau, dlogits):
    """Mean over k of J(y) g / tau, y = softmax((log p + G~) / tau) ~ exp(-softplus(a) / tau): [N, K]."""
    N, K = dcodes.shape
    draws, y = v.shape[1] // K, np.empty_like(v)
    ratios(log_p, codes, v, y, np.empty((N, draws), f4))
    x = y.ravel()
    for i in range(x.size):
        x[i] = exp_minus(softplus(x[i]) / tau)
    for n in range(N):
        g, out = dcodes[n], dlogits[n]
        for k in range(K):
            out[k] = f4(0)
        for c in range(draws):
            draw = y[n, c * K:(c + 1) * K]
            draw[codes[n]] = f4(1)
            total, inner = f4(0), f4(0)
            for k in range(K):
                total += draw[k]
                inner += draw[k] * g[k]
            scale = f4(1) / total
            inner *= scale
            for k in range(K):
                out[k] += draw[k] * scale * (g[k] - inner)
        for k in range(K):
            out[k] /= draws * tau
