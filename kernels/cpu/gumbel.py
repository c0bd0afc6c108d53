"""Gumbel noise from given uniforms, and the codes and relaxed rows that it gives, float32."""
import numpy as np

from npdvae.kernels.cpu.compiler import CONTRACT, SUMS, kernel
from npdvae.kernels.cpu.elementary import log
from npdvae.kernels.cpu.side_by_side import WIDE, columns
from npdvae.kernels.cpu.softmax import exp_shares

f4 = np.float32


@kernel(CONTRACT)
def gumbel(u, g):
    for i in range(u.size):
        g[i] = -log(-log(u[i]))


@kernel(CONTRACT)
def perturbed(logits, u, gumbels, codes):
    """Noise [S N, K] of uniforms u, and argmax(logits + noise): logits [N, K] -> codes int64 [S N], first of equals."""
    (N, K), x, g = logits.shape, u.ravel(), gumbels.ravel()
    for i in range(x.size):
        g[i] = -log(-log(x[i]))
    phi, noise, top, best = np.empty((K, WIDE), f4), np.empty((K, WIDE), f4), np.empty(WIDE, f4), np.empty(WIDE, f4)
    for first in range(0, N, WIDE):
        n = min(WIDE, N - first)
        columns(logits, first, phi, n)
        for start in range(first, len(u), N):
            columns(gumbels, start, noise, n)
            for i in range(n):
                top[i], best[i] = phi[0, i] + noise[0, i], f4(0)
            for k in range(1, K):
                a, b, category = phi[k], noise[k], f4(k)
                for i in range(n):
                    noisy = a[i] + b[i]
                    best[i] = category if noisy > top[i] else best[i]
                    top[i] = noisy if noisy > top[i] else top[i]
            for i in range(n):
                codes[start + i] = np.int64(best[i])


@kernel(SUMS)
def relaxed(logits, gumbels, tau, y):
    """y = softmax((logits + gumbels) / tau): logits [N, K] -> [S N, K]."""
    N, K = logits.shape
    for start in range(0, len(y), N):
        phi, noise, out = logits.ravel(), gumbels[start:start + N].ravel(), y[start:start + N].ravel()
        for i in range(out.size):
            out[i] = (phi[i] + noise[i]) / tau
    for row in range(len(y)):
        top = y[row, 0]
        for k in range(K):
            top = y[row, k] if y[row, k] > top else top
        for k in range(K):
            y[row, k] -= top
    exp_shares(y)


@kernel(SUMS)
def relaxed_backward(dy, y, tau, dlogits):
    """Mean over s of J(y) dy / tau: dy, y [S N, K] -> [N, K]."""
    (N, K), S = dlogits.shape, f4(len(y) // len(dlogits))
    for start in range(0, len(y), N):
        for n in range(N):
            inner = f4(0)
            for k in range(K):
                inner += y[start + n, k] * dy[start + n, k]
            for k in range(K):
                before = dlogits[n, k] if start else f4(0)
                dlogits[n, k] = before + y[start + n, k] * (dy[start + n, k] - inner)
    x = dlogits.ravel()
    for i in range(x.size):
        x[i] /= S * tau
