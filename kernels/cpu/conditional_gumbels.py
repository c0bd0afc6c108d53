"""Gumbel noise given which category won, float32: rows v [N, k K] of k draws, codes [N], log_p [M, K] of row n % M.

With a = log(E_j / p_j) - log E_i for the winner i: log p_j + G~_j = G~_i - softplus(a), G~_i = -log E_i.
"""
import numpy as np

from npdvae.kernels.cpu.compiler import CONTRACT, COUNTED, SUMS, helper, inner, kernel
from npdvae.kernels.cpu.elementary import exp, exp_minus, log, sigmoid, softplus

f4 = np.float32
LANES = 80                                      # rows side by side
LEAST_LOG = f4(-50)                             # of p, above which E_j / (p_j E_i) < 2^104 and its sums stay finite


@kernel(CONTRACT)
def log_ratios(log_p, codes, v, a, log_winner):
    """a [N, k K] as above, without meaning for the winner itself; log E_i [N, k]."""
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


@kernel(CONTRACT)
def forward(log_p, codes, v, noisy):
    """log p + G~ [N, k K]."""
    K = log_p.shape[1]
    log_winner = np.empty((len(v), v.shape[1] // K), f4)
    log_ratios(log_p, codes, v, noisy, log_winner)
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
    log_ratios(log_p, codes, v, dlog_p, np.empty((len(v), v.shape[1] // K), f4))
    x, d = dlog_p.ravel(), dnoisy.ravel()
    for i in range(x.size):
        x[i] = sigmoid(x[i]) * d[i]
    for n in range(len(v)):
        for c in range(v.shape[1] // K):
            dlog_p[n, c * K + codes[n]] = f4(0)


@helper
def turned(a, rows, columns, first, x):
    """Columns first.. of LANES rows of a, a row a lane: x [columns, LANES]."""
    for k in range(columns):
        out = x[k]
        for lane in range(LANES):
            out[lane] = a[rows[lane], first + k]


@inner(CONTRACT, **COUNTED)
def relaxed(x, log_p, codes, tau, winner):
    """exp((G~ - G~_i) / tau) in place of uniforms x [K, LANES], 1 for the winners codes [LANES]; winner: room."""
    y = x.ravel()
    for i in range(y.size):
        y[i] = log(-log(y[i]))
    for lane in range(LANES):
        winner[lane] = x[codes[lane], lane]
    for k in range(len(x)):
        for lane in range(LANES):
            x[k, lane] -= log_p[k, lane] + winner[lane]
    for i in range(y.size):
        y[i] = exp_minus(softplus(y[i]) / tau)
    for lane in range(LANES):
        x[codes[lane], lane] = f4(1)


@inner(CONTRACT, **COUNTED)
def relaxed_ratios(x, one_by_p, codes, tau, winner):
    """The same as (1 + e^a)^(-1 / tau), e^a = E_j / (p_j E_i): one logarithm where tau = 1/2, else two."""
    y = x.ravel()
    for i in range(y.size):
        y[i] = -log(y[i])
    for lane in range(LANES):
        winner[lane] = f4(1) / x[codes[lane], lane]
    for k in range(len(x)):
        for lane in range(LANES):
            x[k, lane] *= one_by_p[k, lane] * winner[lane]
    if tau == f4(0.5):
        for i in range(y.size):
            t = f4(1) / (f4(1) + y[i])
            y[i] = t * t
    else:
        for i in range(y.size):
            y[i] = exp_minus(log(f4(1) + y[i]) / tau)
    for lane in range(LANES):
        x[codes[lane], lane] = f4(1)


@kernel(SUMS)
def straight_through(dcodes, log_p, codes, v, tau, dlogits):
    """Mean over k of J(y) g / tau, y = softmax((log p + G~) / tau) ~ exp(-softplus(a) / tau): [N, K].

    LANES rows side by side, so that every loop is over whole vectors however few categories there are.
    """
    N, K = dcodes.shape
    draws, rows, won = v.shape[1] // K, np.empty(LANES, np.int64), np.empty(LANES, np.int64)
    x, p = np.empty((K, LANES), f4), np.empty((K, LANES), f4)
    g, out = np.empty((K, LANES), f4), np.empty((K, LANES), f4)
    total, inner, winner = np.empty(LANES, f4), np.empty(LANES, f4), np.empty(LANES, f4)
    for start in range(0, N, LANES):
        for lane in range(LANES):
            n = min(start + lane, N - 1)
            won[lane], rows[lane] = codes[n], n % len(log_p)
        turned(log_p, rows, K, 0, p)
        least = f4(0)
        for k in range(K):
            for lane in range(LANES):
                least = min(least, p[k, lane])
        ratios = least >= LEAST_LOG
        for k in range(K if ratios else 0):
            for lane in range(LANES):
                p[k, lane] = exp(-p[k, lane])
        for lane in range(LANES):
            rows[lane] = min(start + lane, N - 1)
        turned(dcodes, rows, K, 0, g)
        for k in range(K):
            for lane in range(LANES):
                out[k, lane] = f4(0)
        for c in range(draws):
            turned(v, rows, K, c * K, x)
            if ratios:
                relaxed_ratios(x, p, won, tau, winner)
            else:
                relaxed(x, p, won, tau, winner)
            for lane in range(LANES):
                total[lane] = inner[lane] = f4(0)
            for k in range(K):
                for lane in range(LANES):
                    total[lane] += x[k, lane]
                    inner[lane] += x[k, lane] * g[k, lane]
            for lane in range(LANES):
                total[lane] = f4(1) / total[lane]
                inner[lane] *= total[lane]
            for k in range(K):
                for lane in range(LANES):
                    out[k, lane] += x[k, lane] * total[lane] * (g[k, lane] - inner[lane])
        for lane in range(min(LANES, N - start)):
            for k in range(K):
                dlogits[start + lane, k] = out[k, lane] / (draws * tau)
