"""The categorical latent of a fused step: posterior, KL and codes in one pass, and the gradient at the logits."""
import numpy as np

from npdvae.kernels.cpu import jobs
from npdvae.kernels.cpu.compiler import SUMS, kernel
from npdvae.kernels.cpu.elementary import exp, log
from npdvae.kernels.cpu.fused_layers import update
from npdvae.kernels.cpu.fused_pixels import words
from npdvae.kernels.cpu.target import LANES
from npdvae.kernels.cpu.vectors import transpose

f4 = np.float32


@kernel(SUMS)
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


@kernel(SUMS)
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


@kernel(SUMS)
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


@kernel(SUMS)
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


@kernel(SUMS)
def latent(c, a, mem, ints, examples, step, example, seed, stream, scratch, i_scratch):
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
                words(step, example + first + i, ints, numbers, D, s // 4, seed, stream, i_scratch + i * ld_words)
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


@kernel(SUMS)
def cost_of(mem, loss, parts, r):
    """Cost of row r: the sum of its parts, in order."""
    total = f4(0)
    for j in range(parts):
        total += mem[loss + r * parts + j]
    return total


@kernel(SUMS)
def score_backward(g, p, mem, ints, codes, S, D, costs, estimator, baseline, mean, others):
    """Score-function estimate from the costs of S codes: g [D K] is overwritten, without 1/B."""
    own = f4(0)
    for s in range(S):
        own += mem[costs + s] / f4(S)
    drift = f4(0)
    for s in range(S):
        f = mem[costs + s]
        if estimator == jobs.RLOO:
            weight = (f - own) / f4(S - 1)
        elif estimator == jobs.LEAVE_ONE_OUT:
            weight = (f - mean) * others / f4(S)
        else:
            weight = (f - baseline) / f4(S)
        mem[costs + s] = weight
        drift += weight
    if estimator == jobs.RLOO:
        drift = f4(0)                           # the weights sum to zero
    for k in range(g.size):
        g[k] = -drift * p[k]
    for s in range(S):
        for d in range(D):
            g[ints[codes + s * D + d]] += mem[costs + s]


@kernel(SUMS)
def through_backward(g, p, q, dcodes, D, K):
    """g += J(p) dcodes row by row, with q = p [D K]."""
    for d in range(D):
        inner = f4(0)
        for k in range(d * K, d * K + K):
            inner += p[k] * dcodes[k]
        for k in range(d * K, d * K + K):
            g[k] += q[k] * (dcodes[k] - inner)


@kernel(SUMS)
def straight_through(g, h, p, mem, ints, codes, S, D, K, dcodes, ld_dcodes, estimator, divide, tau, work):
    """Straight-through or ReinMax from the gradients at S codes, already scaled: g [D K] is overwritten."""
    n = D * K
    warm, rows, half = mem[work:work + n], mem[work + n:work + 2 * n], mem[work + 2 * n:work + 3 * n]
    for k in range(n):
        half[k] = h[k] / tau
    normalise(half, rows, warm, D, K)
    for k in range(n):
        g[k], rows[k] = f4(0), f4(0)
    for s in range(S):
        dz = mem[dcodes + s * ld_dcodes:dcodes + s * ld_dcodes + n]
        for k in range(n):
            rows[k] += dz[k]
        if estimator == jobs.REINMAX:
            for k in range(n):
                half[k] = warm[k] / f4(2)
            for d in range(D):
                half[ints[codes + s * D + d]] += f4(0.5)
            for k in range(n):
                dz[k] *= f4(2)
            through_backward(g, half, half, dz, D, K)
    if estimator == jobs.REINMAX:
        for k in range(n):
            rows[k] *= f4(-0.5)
        through_backward(g, p, p, rows, D, K)
    else:
        through_backward(g, warm, warm, rows, D, K)
        if divide:
            for k in range(n):
                g[k] /= tau


@kernel(SUMS)
def latent_backward(c, a, mem, ints, examples, scalars, scratch):
    group, D, K, S, h, ld_h, dkl, q, codes, loss, parts, dcodes, ld_dcodes, dh, estimator, divide = a[2:18]
    scale, kl_weight = mem[scalars + jobs.SCALE], mem[scalars + jobs.KL_WEIGHT]
    n, evaluations = D * K, examples * S
    mean = f4(0)
    if estimator == jobs.LEAVE_ONE_OUT and evaluations > 1:
        for r in range(evaluations):
            mean += cost_of(mem, loss, parts, r) / f4(evaluations)
    others = f4(evaluations) / f4(evaluations - 1) if evaluations > 1 else f4(1)
    for b in range(c * group, min(c * group + group, examples)):
        at = b * ld_h
        g, p, penalty = mem[dh + at:dh + at + n], mem[q + at:q + at + n], mem[dkl + at:dkl + at + n]
        if estimator in jobs.PATHWISE:
            straight_through(g, mem[h + at:h + at + n], p, mem, ints, codes + b * S * D, S, D, K,
                             dcodes + b * S * ld_dcodes, ld_dcodes, estimator, divide, mem[scalars + jobs.TEMPERATURE],
                             scratch)
        else:
            for s in range(S):
                mem[scratch + s] = cost_of(mem, loss, parts, b * S + s)
            score_backward(g, p, mem, ints, codes + b * S * D, S, D, scratch, estimator,
                           mem[scalars + jobs.BASELINE], mean, others)
            for k in range(n):
                g[k] *= scale
        for k in range(n):
            g[k] += scale * kl_weight * penalty[k]


@kernel(SUMS)
def prior(a, mem, scratch):
    D, K, logits, log_p = a[2:6]
    n = D * K
    normalise(mem[logits:logits + n], mem[log_p:log_p + n], mem[scratch:scratch + n], D, K)


@kernel(SUMS)
def prior_gradient(a, mem, examples, scalars, scratch):
    D, K, logits, log_p, q, kl, ld_q, span, free_bits = a[2:11]
    scale, n = mem[scalars + jobs.SCALE] * mem[scalars + jobs.KL_WEIGHT], D * K
    g = mem[scratch:scratch + n]
    for k in range(n):
        g[k] = f4(0)
    for b in range(examples):
        for d in range(D):
            if mem[kl + b * D + d] >= mem[free_bits]:
                for k in range(d * K, d * K + K):
                    g[k] += scale * (exp(mem[log_p + k]) - mem[q + b * ld_q + k])
    update(mem, g, logits, span, scalars)


@kernel(SUMS)
def report(a, mem, running, examples, scalars, out):
    """Sums of cost and KL over the batch into out [2], in nats.

    running (float64) = sum of past costs, sum of their weights, decay: their mean is the next step's baseline.
    """
    S, loss, parts, kl, D, tracks = a[2:8]
    cost, penalty = 0.0, 0.0
    for r in range(examples * S):
        cost += cost_of(mem, loss, parts, r)
    for i in range(examples * D):
        penalty += mem[kl + i]
    out[0], out[1] = cost / S, penalty
    if tracks:
        running[0] = running[2] * running[0] + (1 - running[2]) * cost / (examples * S)
        running[1] = running[2] * running[1] + (1 - running[2])
        mem[scalars + jobs.STEP_SCALARS + jobs.BASELINE] = f4(running[0] / max(running[1], 1 - running[2]))
