"""Antithetic categories by sticks in ascending order of the logits, float32: draws, and ratios of their pairs."""
import numpy as np

from npdvae.kernels.cpu.compiler import CONTRACT, COUNTED, helper, inner, kernel
from npdvae.kernels.cpu.elementary import exp, log

f4 = np.float32


@inner(CONTRACT, **COUNTED)
def shares(logits):
    """exp(logits - max of the row): [N, K]."""
    e = np.empty_like(logits)
    for n in range(len(e)):
        top = logits[n, 0]
        for x in logits[n]:
            top = x if x > top else top
        for k in range(e.shape[1]):
            e[n, k] = logits[n, k] - top
    x = e.ravel()
    for i in range(x.size):
        x[i] = exp(x[i])
    return e


@helper
def sticks(logits, e, order, theta):
    """Categories ascending, the first of equals first, into order [K]; sticks of shares e into theta [K]."""
    K = logits.size
    for k in range(K):
        i = k
        while i > 0 and logits[k] < logits[order[i - 1]]:
            order[i] = order[i - 1]
            i -= 1
        order[i] = k
    left = f4(0)
    for i in range(K - 1, -1, -1):
        left += e[order[i]]
        theta[i] = e[order[i]] / left


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
    order, theta, share = np.empty(J + 1, np.int64), np.empty(J + 1, f4), shares(logits)
    e, repelling, others = np.empty((M, N * J), f4), np.empty((M, N, J), f4), np.empty(N * J, f4)
    x, v = e.ravel(), u.ravel()
    for i in range(x.size):
        x[i] = -log(v[i])
    for m in range(M):
        own, out = e[m], repelling[m].ravel()
        for j in range(out.size):
            out[j] = f4(0)
        for i in range(M):
            if i != m:
                other = e[i]
                for j in range(out.size):
                    out[j] += other[j]
        for j in range(out.size):
            others[j] = out[j] / (out[j] + own[j])
            out[j] = others[j]
        for _ in range(M - 2):                  # to the power of M - 1
            for j in range(out.size):
                out[j] *= others[j]
    for n in range(N):
        sticks(logits[n], share[n], order, theta)
        for m in range(M):
            stop = 0
            while stop < J and not repelling[m, n, stop] < theta[stop]:
                stop += 1
            codes[m, n] = order[stop]


@kernel(CONTRACT)
def pair_ratio(logits, first, other, samples, rho):
    """q(z) q(z') / P(z, z') by the earlier of the two sticks: [N, K], int64 [I, N] twice -> rho [I, N]."""
    I, N = first.shape
    K, root = logits.shape[1], f4(1) / f4(samples - 1)
    order, place, table = np.empty((N, K), np.int64), np.empty(K, np.int64), np.empty(K, f4)
    theta, roots, share = np.empty((N, K), f4), np.empty((N, K), f4), shares(logits)
    for n in range(N):
        sticks(logits[n], share[n], order[n], theta[n])
    x, y = theta.ravel(), roots.ravel()
    for i in range(x.size):
        y[i] = x[i] if samples == 2 else exp(log(x[i]) * root)
    for n in range(N):
        before = f4(1)
        for i in range(K - 1):
            t = theta[n, i]
            low = f4(1) - f4(2) * (f4(1) - roots[n, i])
            both = power(low if low > f4(0) else f4(0), samples - 1)
            table[i] = before * (f4(1) - t) / (f4(1) - (both / t if both > f4(0) else f4(0)))
            before *= (f4(1) - t) * (f4(1) - t) / (f4(1) - f4(2) * t + both)
        table[K - 1] = f4(1)
        for i in range(K):
            place[order[n, i]] = i
        for i in range(I):
            rho[i, n] = table[min(place[first[i, n]], place[other[i, n]])]
