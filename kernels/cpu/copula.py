"""Antithetic categories by sticks in ascending order of the logits, float32: draws, and ratios of their pairs."""
import numpy as np

from npdvae.kernels.cpu.compiler import CONTRACT, helper, kernel
from npdvae.kernels.cpu.elementary import exp, log

f4 = np.float32


@helper
def sticks(logits, order, theta):
    """Categories ascending, the first of equals first, into order [K]; sticks into theta [K], the last of them 1."""
    K = logits.size
    for k in range(K):
        i = k
        while i > 0 and logits[k] < logits[order[i - 1]]:
            order[i] = order[i - 1]
            i -= 1
        order[i] = k
    left = f4(0)
    for i in range(K - 1, -1, -1):
        e = exp(logits[order[i]] - logits[order[K - 1]])
        left += e
        theta[i] = e / left


@helper
def power(x, n):
    """x**n for a whole n >= 0."""
    y = f4(1)
    for _ in range(n):
        y *= x
    return y


@kernel(CONTRACT)
def antithetic_codes(logits, u, codes):
    """Stick i ends sample m where its repelling uniform is below theta_i: [N, K], u [M, N, K-1] -> int64 [M, N]."""
    M, N, J = u.shape
    order, theta, e = np.empty(J + 1, np.int64), np.empty(J + 1, f4), np.empty((N, J, M), f4)
    for m in range(M):
        for n in range(N):
            for i in range(J):
                e[n, i, m] = u[m, n, i]
    x = e.ravel()
    for i in range(x.size):
        x[i] = -log(x[i])
    for n in range(N):
        sticks(logits[n], order, theta)
        for m in range(M):
            stop = 0
            while stop < J:
                others = f4(0)
                for i in range(M):
                    others += e[n, stop, i] if i != m else f4(0)
                if power(others / (others + e[n, stop, m]), M - 1) < theta[stop]:
                    break
                stop += 1
            codes[m, n] = order[stop]


@kernel(CONTRACT)
def pair_ratio(logits, first, other, samples, rho):
    """q(z) q(z') / P(z, z') by the earlier of the two sticks: [N, K], int64 [I, N] twice -> rho [I, N]."""
    I, N = first.shape
    K, root = logits.shape[1], f4(1) / f4(samples - 1)
    order, place, theta, table = np.empty(K, np.int64), np.empty(K, np.int64), np.empty(K, f4), np.empty(K, f4)
    for n in range(N):
        sticks(logits[n], order, theta)
        before = f4(1)
        for i in range(K - 1):
            t = theta[i]
            low = f4(1) - f4(2) * (f4(1) - (t if samples == 2 else exp(log(t) * root)))
            both = power(low if low > f4(0) else f4(0), samples - 1)
            table[i] = before * (f4(1) - t) / (f4(1) - (both / t if both > f4(0) else f4(0)))
            before *= (f4(1) - t) * (f4(1) - t) / (f4(1) - f4(2) * t + both)
        table[K - 1] = f4(1)
        for i in range(K):
            place[order[i]] = i
        for i in range(I):
            rho[i, n] = table[min(place[first[i, n]], place[other[i, n]])]
