"""Distinct codes of a product of categoricals, float32: the k best, k drawn in turn, and what a set leaves outside."""
import numpy as np

from npdvae.kernels.cpu.categorical import invert
from npdvae.kernels.cpu.compiler import CONTRACT, SUMS, helper, kernel
from npdvae.kernels.cpu.elementary import exp, exp_minus, log, log1p_unit, tanh

f4 = np.float32
LOG_ZERO = f4(-1e30)


@helper
def exp_or_zero(x):
    """e**x for x <= 0, 0 below -87: no denormal number, which would take a hundred times as long."""
    y = exp_minus(-x)
    return y if x > f4(-87) else f4(0)


@helper
def insert(value, index, values, order, n):
    """Put a value into the n smallest so far, ascending, behind its equals: the new n, at most their length."""
    if n == len(values):
        if not value < values[n - 1]:
            return n
        n -= 1
    i = n
    while i > 0 and value < values[i - 1]:
        values[i], order[i] = values[i - 1], order[i - 1]
        i -= 1
    values[i], order[i] = value, index
    return n + 1


@helper
def trace_back(orders, n, K, b, codes):
    """Codes [.., B, D] of example b from choices [D, n] made latent by latent, prefix * K + category."""
    D = len(orders)
    for i in range(n):
        choice = orders[D - 1, i]
        for d in range(D - 1, 0, -1):
            codes[i, b, d] = choice % K
            choice = orders[d - 1, choice // K]
        codes[i, b, 0] = choice


@kernel(CONTRACT)
def most_probable(log_p, codes, log_q):
    """The n best codes of log_p [B, D, K], best first: codes int64 [n, B, D], log_q [n, B]."""
    B, D, K = log_p.shape
    count = len(codes)
    cost, order = np.empty((2, count), f4), np.empty((D, count), np.int64)
    for b in range(B):
        n, cost[1, 0] = 1, f4(0)
        for d in range(D):
            before, after, grown = cost[(d + 1) % 2], cost[d % 2], 0
            for i in range(n):
                for k in range(K):
                    grown = insert(before[i] - log_p[b, d, k], i * K + k, after, order[d], grown)
            n = grown
        trace_back(order, n, K, b, codes)
        for i in range(n):
            log_q[i, b] = -cost[(D - 1) % 2, i]


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

    log_p [K], u [n, K]; race and lead [n K], lead 0 for the first itself.
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
        gap = f4(2) * half / (f4(1) + half)
        race[j] += log(gap if gap > f4(0) else f4(1))   # of no effect for the first itself


@helper
def later(since, race, lead, late):
    """log(exp since + exp race), since alone where lead is 0: all [N]."""
    for j in range(since.size):
        low = since[j] if since[j] < race[j] else race[j]
        high = race[j] if since[j] < race[j] else since[j]
        late[j] = since[j] if lead[j] == f4(0) else high + log1p_unit(exp_minus(high - low))


@kernel(SUMS)
def log_outside(log_p, codes, tables, total):
    """log of the probability outside codes int64 [n, B, D]: total [B], and the tables [D, n, B, K] below prefixes."""
    B, D, K = log_p.shape
    n = len(codes)
    common, outside, top, here = np.empty((n, n), np.int64), np.empty(n, f4), np.empty(n, f4), np.empty((n, K), f4)
    for b in range(B):
        for i in range(n):
            for j in range(n):
                d = 0
                while d < D and codes[i, b, d] == codes[j, b, d]:
                    d += 1
                common[i, j] = d
            outside[i] = LOG_ZERO
        for d in range(D - 1, -1, -1):
            for i in range(n):
                table = tables[d, i, b]
                for k in range(K):
                    table[k] = f4(0)
                for j in range(n):
                    if common[i, j] >= d:
                        table[codes[j, b, d]] = outside[j]
                top[i] = log_p[b, d, 0] + table[0]
                for k in range(K):
                    here[i, k] = log_p[b, d, k] + table[k]
                    top[i] = max(top[i], here[i, k])
                for k in range(K):
                    here[i, k] -= top[i]
            x = here.ravel()
            for j in range(x.size):
                x[j] = exp_or_zero(x[j])
            for i in range(n):
                rest = f4(0)
                for k in range(K):
                    rest += here[i, k]
                outside[i] = top[i] + log(rest)
        total[b] = outside[0]


@helper
def log_sum_exp(x):
    """Of x [K], which is overwritten."""
    top = x[0]
    for k in range(x.size):
        top = max(top, x[k])
    for k in range(x.size):
        x[k] = exp_or_zero(x[k] - top)
    total = f4(0)
    for k in range(x.size):
        total += x[k]
    return top + log(total)


@kernel(SUMS)
def draw_outside(log_p, codes, tables, u, drawn):
    """A code outside the set, from the tables and uniforms [B, D]: drawn int64 [B, D]."""
    B, D, K = log_p.shape
    on, p = np.empty(tables.shape[1], np.bool_), np.empty(K, f4)
    for b in range(B):
        on[:] = True
        for d in range(D):
            for k in range(K):
                least = f4(0)
                for i in range(on.size):
                    if on[i]:
                        least = min(least, tables[d, i, b, k])
                p[k] = log_p[b, d, k] + least
            total = log_sum_exp(p.copy())
            for k in range(K):
                p[k] = exp_or_zero(min(p[k] - total, f4(0)))
            drawn[b, d] = invert(p, u[b, d])
            for i in range(len(codes)):
                on[i] = on[i] and codes[i, b, d] == drawn[b, d]


@kernel(CONTRACT)
def chances(log_q, log_rest, first, second, left):
    """Chances of the first draws given the set: log_q [k, B], log_rest [B] -> [k, B], [k, k, B], [k, B]."""
    k, B = log_q.shape
    whole = (1 << k) - 1
    mass, h, x = np.empty(whole + 1, f4), np.empty(whole + 1, f4), np.empty(k, f4)
    for b in range(B):
        mass[0], h[0] = log_rest[b], f4(0)
        for A in range(1, whole + 1):
            n = 0
            for i in range(k):
                if A >> i & 1:
                    if n == 0:
                        low, high = mass[A ^ (1 << i)], log_q[i, b]
                        low, high = min(low, high), max(low, high)
                        mass[A] = high + log1p_unit(exp_minus(high - low))
                    x[n] = log_q[i, b] + h[A ^ (1 << i)]
                    n += 1
            h[A] = log_sum_exp(x[:n]) - mass[A]
        for i in range(k):
            x[i] = log_q[i, b] + h[whole ^ (1 << i)]
        shares(x, first[:, b])
        for i in range(k):
            for j in range(k):
                x[j] = LOG_ZERO if i == j else log_q[j, b] + h[whole ^ (1 << i) ^ (1 << j)]
            shares(x, second[i, :, b])
            left[i, b] = exp(mass[whole ^ (1 << i)])


@helper
def shares(x, out):
    """exp(x) over its sum: x [k], which is overwritten, into out [k]."""
    top, total = x[0], f4(0)
    for i in range(x.size):
        top = max(top, x[i])
    for i in range(x.size):
        x[i] = exp_or_zero(x[i] - top)
        total += x[i]
    for i in range(x.size):
        out[i] = x[i] / total
