"""The categorical latent of a fused step: posterior, KL and codes in one pass, and the gradient at the logits."""
import numpy as np

from npdvae.kernels.cpu import jobs
from npdvae.kernels.cpu.categorical import invert
from npdvae.kernels.cpu.compiler import SUMS, kernel
from npdvae.kernels.cpu.elementary import exp, log
from npdvae.kernels.cpu.fused_layers import update
from npdvae.kernels.cpu.fused_pixels import words

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
def latent(c, a, mem, ints, examples, step, example, seed, stream, scratch):
    group, D, K, S, h, ld_h, log_q, q, log_p, kl, codes, numbers = a[2:14]
    prior = mem[log_p:log_p + D * K]
    for b in range(c * group, min(c * group + group, examples)):
        l, p = mem[log_q + b * ld_h:log_q + b * ld_h + D * K], mem[q + b * ld_h:q + b * ld_h + D * K]
        normalise(mem[h + b * ld_h:h + b * ld_h + D * K], l, p, D, K)
        for d in range(D):
            total = f4(0)
            for k in range(d * K, d * K + K):
                total += p[k] * (l[k] - prior[k])
            mem[kl + b * D + d] = total if total > f4(0) else f4(0)
        for s in range(S):
            if s % 4 == 0:
                words(step, example + b, ints, numbers, D, s // 4, seed, stream, scratch)
            for d in range(D):
                u = (f4(ints[scratch + 4 * d + s % 4]) + f4(0.5)) * f4(2.0 ** -23)
                ints[codes + (b * S + s) * D + d] = d * K + invert(p[d * K:d * K + K], u)


@kernel(SUMS)
def cost_of(mem, loss, ld_loss, parts, r):
    """Cost of row r: the sum of its parts, in order."""
    total = f4(0)
    for j in range(parts):
        total += mem[loss + r * ld_loss + j]
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
    group, D, K, S, h, ld_h, log_q, q, log_p, kl, codes, loss, ld_loss, parts, dcodes, ld_dcodes, dh = a[2:19]
    estimator, divide, free_bits = a[19:22]
    scale, kl_weight = mem[scalars + jobs.SCALE], mem[scalars + jobs.KL_WEIGHT]
    n, evaluations = D * K, examples * S
    mean = f4(0)
    if estimator == jobs.LEAVE_ONE_OUT and evaluations > 1:
        for r in range(evaluations):
            mean += cost_of(mem, loss, ld_loss, parts, r) / f4(evaluations)
    others = f4(evaluations) / f4(evaluations - 1) if evaluations > 1 else f4(1)
    prior, floor = mem[log_p:log_p + n], mem[free_bits]
    for b in range(c * group, min(c * group + group, examples)):
        at = b * ld_h
        g, p, l = mem[dh + at:dh + at + n], mem[q + at:q + at + n], mem[log_q + at:log_q + at + n]
        if estimator >= jobs.STRAIGHT_THROUGH:
            straight_through(g, mem[h + at:h + at + n], p, mem, ints, codes + b * S * D, S, D, K,
                             dcodes + b * S * ld_dcodes, ld_dcodes, estimator, divide, mem[scalars + jobs.TEMPERATURE],
                             scratch)
        else:
            for s in range(S):
                mem[scratch + s] = cost_of(mem, loss, ld_loss, parts, b * S + s)
            score_backward(g, p, mem, ints, codes + b * S * D, S, D, scratch, estimator,
                           mem[scalars + jobs.BASELINE], mean, others)
            for k in range(n):
                g[k] *= scale
        for d in range(D):
            weight = scale * kl_weight if mem[kl + b * D + d] >= floor else f4(0)
            total = f4(0)
            for k in range(d * K, d * K + K):
                total += p[k] * (l[k] - prior[k])
            for k in range(d * K, d * K + K):
                g[k] += weight * p[k] * (l[k] - prior[k] - total)


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
    samples, loss, ld_loss, parts, kl, _, D, tracks = a[2:10]
    cost, penalty = 0.0, 0.0
    for r in range(examples * samples):
        cost += cost_of(mem, loss, ld_loss, parts, r)
    for i in range(examples * D):
        penalty += mem[kl + i]
    out[0], out[1] = cost / samples, penalty
    if tracks:
        running[0] = running[2] * running[0] + (1 - running[2]) * cost / (examples * samples)
        running[1] = running[2] * running[1] + (1 - running[2])
        mem[scalars + jobs.STEP_SCALARS + jobs.BASELINE] = f4(running[0] / max(running[1], 1 - running[2]))
