"""Codes drawn without replacement as the first arrivals of a race, float32, latent by latent."""
import numpy as np

from npdvae.kernels.cpu.best_codes import insert, trace_back
from npdvae.kernels.cpu.compiler import CONTRACT, helper, kernel
from npdvae.kernels.cpu.elementary import exp_minus, log, log1p_unit, tanh

f4 = np.float32
LOG_ZERO = f4(-1e30)


@kernel(CONTRACT)
def without_replacement(log_p, u, codes):
    """The first n arrivals, each code at an exponential time of rate q: u [k, B, D, K] -> codes int64 [n, B, D]."""
    B, D, K = log_p.shape
    count = len(codes)
    time, log_q, order = np.empty((2, count), f4), np.empty((2, count), f4), np.empty((D, count), np.int64)
    race, lead, since, late = np.empty(count * K, f4), np.empty(count * K, f4), np.empty(count * K, f4), np.empty(
        count * K, f4)
    for b in range(B):
        n, time[1, 0], log_q[1, 0] = 1, LOG_ZERO, f4(0)
        for d in range(D):
            now, then = d % 2, (d + 1) % 2
            arrivals(log_p[b, d], u[:n, b, d], log_q[then], race[:n * K], lead[:n * K])
            for i in range(n):
                for k in range(K):
                    since[i * K + k] = time[then, i]
            later(since[:n * K], race[:n * K], lead[:n * K], late[:n * K])
            grown = 0
            for j in range(n * K):
                grown = insert(late[j], j, time[now], order[d], grown)
            n = grown
            for i in range(n):
                log_q[now, i] = log_q[then, order[d, i] // K] + log_p[b, d, order[d, i] % K]
        trace_back(order, n, K, b, codes)


@helper
def arrivals(log_p, u, log_q, race, lead):
    """Below each of n prefixes of log q: log of the time behind the first arrival (race), and by how much (lead).

    log_p [K], u [n, K]; race and lead [n K], lead 0 and race not to be read for the first itself.
    """
    n, K = u.shape
    for i in range(n):
        for k in range(K):
            race[i * K + k] = u[i, k]
    for j in range(race.size):
        race[j] = log(-log(race[j]))
    for i in range(n):
        first = f4(np.inf)
        for k in range(K):
            race[i * K + k] -= log_p[k]
            first = min(first, race[i * K + k])
        for k in range(K):
            lead[i * K + k] = race[i * K + k] - first
            race[i * K + k] -= log_q[i]
    for j in range(race.size):
        half = tanh(f4(0.5) * lead[j])          # 1 - exp(-t) = 2 h / (1 + h), h = tanh(t / 2)
        race[j] += log(f4(2) * half / (f4(1) + half))   # the first itself has no lead: not read


@helper
def later(since, race, lead, late):
    """log(exp since + exp race), since alone where lead is 0: all [N]."""
    for j in range(since.size):
        low = since[j] if since[j] < race[j] else race[j]
        high = race[j] if since[j] < race[j] else since[j]
        late[j] = since[j] if lead[j] == f4(0) else high + log1p_unit(exp_minus(high - low))
