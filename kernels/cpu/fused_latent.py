"""The categorical latent of a fused step: posterior, KL and codes in one pass, examples side by side."""
import numpy as np

from npdvae.kernels.cpu.calls import job
from npdvae.kernels.cpu.compiler import SUMS, inner
from npdvae.kernels.cpu.elementary import exp, log
from npdvae.kernels.cpu.fused_pixels import words
from npdvae.kernels.cpu.target import LANES
from npdvae.kernels.cpu.vectors import transpose

f4 = np.float32


@inner(SUMS)
def normalise(h, shifted, q, D, K):
    """Rows of logits h [D K] to log-probabilities and probabilities."""
    for d in range(D):
        top = h[d * K]
        for k in range(d * K, d * K + K):
            top = h[k] if h[k] > top else top
        for k in range(d * K, d * K + K):
            shifted[k] = h[k] - top
    for k in range(D * K):
        q[k] = exp(shifted[k])
    for d in range(D):
        total = f4(0)
        for k in range(d * K, d * K + K):
            total += q[k]
        shift = log(total)
        for k in range(d * K, d * K + K):
            q[k] /= total
            shifted[k] -= shift


@job(SUMS)
def prior(a, mem, scratch):
    D, K, logits, log_p = a[2:6]
    n = D * K
    normalise(mem[logits:logits + n], mem[log_p:log_p + n], mem[scratch:scratch + n], D, K)


@inner(SUMS)
def posterior(log_q, q, top, D, K, G):
    """As `normalise` for G examples side by side, in place: log_q and q [D K, G], top [G] is overwritten."""
    for d in range(D):
        for i in range(G):
            top[i] = log_q[d * K * G + i]
        for k in range(d * K, d * K + K):
            row = log_q[k * G:k * G + G]
            for i in range(G):
                top[i] = row[i] if row[i] > top[i] else top[i]
        for k in range(d * K, d * K + K):
            row = log_q[k * G:k * G + G]
            for i in range(G):
                row[i] -= top[i]
    for j in range(D * K * G):
        q[j] = exp(log_q[j])
    for d in range(D):
        total = top
        for i in range(G):
            total[i] = f4(0)
        for k in range(d * K, d * K + K):
            row = q[k * G:k * G + G]
            for i in range(G):
                total[i] += row[i]
        for k in range(d * K, d * K + K):
            row = q[k * G:k * G + G]
            for i in range(G):
                row[i] /= total[i]
        for i in range(G):
            total[i] = log(total[i])
        for k in range(d * K, d * K + K):
            row = log_q[k * G:k * G + G]
            for i in range(G):
                row[i] -= total[i]


@inner(SUMS)
def divergence(log_q, q, prior, floor, kl, d, K, G):
    """KL of latent d from the prior: log_q and q [D K, G], prior [D K] -> kl [G], in nats.

    Rows of log_q are overwritten by the gradient of the KL at the logits, 0 where it is below the floor (free bits).
    """
    for i in range(G):
        kl[i] = f4(0)
    for k in range(d * K, d * K + K):
        l, p = log_q[k * G:k * G + G], q[k * G:k * G + G]
        for i in range(G):
            kl[i] += p[i] * (l[i] - prior[k])
    for k in range(d * K, d * K + K):
        l, p = log_q[k * G:k * G + G], q[k * G:k * G + G]
        for i in range(G):
            l[i] = p[i] * (l[i] - prior[k] - kl[i]) if max(kl[i], f4(0)) >= floor else f4(0)
    for i in range(G):
        kl[i] = max(kl[i], f4(0))


@inner(SUMS)
def invert_all(q, u, edge, code, last, d, K, G):
    """`categorical.invert` for G examples side by side: q [D K, G], u [G] -> code [G], float; edge, last [G] work."""
    for i in range(G):
        edge[i], code[i], last[i] = f4(0), f4(0), f4(0)
    for k in range(K):
        p, category, counts = q[(d * K + k) * G:(d * K + k + 1) * G], f4(k), f4(k < K - 1)
        for i in range(G):
            last[i] = category if p[i] > f4(0) else last[i]
            edge[i] += p[i]
            code[i] += counts if edge[i] <= u[i] else f4(0)
    for i in range(G):
        code[i] = code[i] if code[i] < last[i] else last[i]


@job(SUMS)
def latent(c, a, mem, ints, examples, step, example, keys, scratch, i_scratch):
    group, D, K, S, h, ld_h, dkl, q, log_p, kl, codes, numbers, free_bits = a[2:15]
    first, G, prior = c * group, -(-group // LANES) * LANES, mem[log_p:log_p + D * K]
    if first >= examples:
        return
    n, columns = min(group, examples - first), -(-D * K // LANES) * LANES
    at_l, at_q, ld_words = scratch, scratch + columns * G, 4 * (-(-D // LANES) * LANES)
    l, p, work = mem[at_l:at_l + D * K * G], mem[at_q:at_q + D * K * G], at_q + columns * G
    top, u, edge = mem[work:work + G], mem[work + G:work + 2 * G], mem[work + 2 * G:work + 3 * G]
    code, last = mem[work + 3 * G:work + 4 * G], mem[work + 4 * G:work + 5 * G]
    for i in range(0, G, LANES):
        for j in range(0, columns, LANES):
            transpose(mem, h + (first + i) * ld_h + j, ld_h, at_l + j * G + i, G)
    posterior(l, p, top, D, K, G)
    for d in range(D):
        divergence(l, p, prior, mem[free_bits], top, d, K, G)
        for i in range(n):
            mem[kl + (first + i) * D + d] = top[i]
    for s in range(S):
        if s % 4 == 0:
            for i in range(n):
                words(step, example + first + i, ints, numbers, D, s // 4, keys[0], keys[2], i_scratch + i * ld_words)
        for d in range(D):
            for i in range(n):
                u[i] = (f4(ints[i_scratch + i * ld_words + 4 * d + s % 4]) + f4(0.5)) * f4(2.0 ** -23)
            invert_all(p, u, edge, code, last, d, K, G)
            for i in range(n):
                ints[codes + ((first + i) * S + s) * D + d] = d * K + np.int32(code[i])
    whole = n // LANES * LANES                  # rows beyond n may be another worker's
    for i in range(0, whole, LANES):
        for j in range(0, columns, LANES):
            transpose(mem, at_l + j * G + i, G, dkl + (first + i) * ld_h + j, ld_h)
            transpose(mem, at_q + j * G + i, G, q + (first + i) * ld_h + j, ld_h)
    for i in range(whole, n):
        row = (first + i) * ld_h
        for j in range(D * K):
            mem[dkl + row + j], mem[q + row + j] = l[j * G + i], p[j * G + i]
