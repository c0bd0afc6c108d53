"""The gradient at the logits of a fused step: the estimate from costs, or from the gradients at the codes."""
import numpy as np

from npdvae.kernels.cpu import jobs
from npdvae.kernels.cpu.calls import job
from npdvae.kernels.cpu.compiler import SUMS, inner
from npdvae.kernels.cpu.fused_latent import normalise
from npdvae.kernels.cpu.fused_layers import cost_of

f4 = np.float32


@inner(SUMS)
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


@inner(SUMS)
def through_backward(g, p, q, dcodes, D, K):
    """g += J(p) dcodes row by row, with q = p [D K]."""
    for d in range(D):
        inner = f4(0)
        for k in range(d * K, d * K + K):
            inner += p[k] * dcodes[k]
        for k in range(d * K, d * K + K):
            g[k] += q[k] * (dcodes[k] - inner)


@inner(SUMS)
def add_kl(g, dkl, mem, scalars):
    """g += the weighted gradient of the KL."""
    scale, kl_weight = mem[scalars + jobs.SCALE], mem[scalars + jobs.KL_WEIGHT]
    for k in range(g.size):
        g[k] += scale * kl_weight * dkl[k]


@inner(SUMS)
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


@job(SUMS)
def latent_backward(c, a, mem, ints, examples, scalars, scratch):
    group, D, K, S, ld_h, dkl, q, codes, loss, parts, dh, estimator = a[2:14]
    n, evaluations = D * K, examples * S
    mean = f4(0)
    if estimator == jobs.LEAVE_ONE_OUT and evaluations > 1:
        for r in range(evaluations):
            mean += cost_of(mem, loss, parts, r) / f4(evaluations)
    others = f4(evaluations) / f4(evaluations - 1) if evaluations > 1 else f4(1)
    for b in range(c * group, min(c * group + group, examples)):
        at = b * ld_h
        g, p = mem[dh + at:dh + at + n], mem[q + at:q + at + n]
        for s in range(S):
            mem[scratch + s] = cost_of(mem, loss, parts, b * S + s)
        score_backward(g, p, mem, ints, codes + b * S * D, S, D, scratch, estimator,
                       mem[scalars + jobs.BASELINE], mean, others)
        for k in range(n):
            g[k] *= mem[scalars + jobs.SCALE]
        add_kl(g, mem[dkl + at:dkl + at + n], mem, scalars)


@job(SUMS)
def pathwise_backward(c, a, mem, ints, examples, scalars, scratch):
    group, D, K, S, h, ld_h, dkl, q, codes, dcodes, ld_dcodes, dh, estimator, divide = a[2:16]
    n = D * K
    for b in range(c * group, min(c * group + group, examples)):
        at = b * ld_h
        g, p = mem[dh + at:dh + at + n], mem[q + at:q + at + n]
        straight_through(g, mem[h + at:h + at + n], p, mem, ints, codes + b * S * D, S, D, K,
                         dcodes + b * S * ld_dcodes, ld_dcodes, estimator, divide, mem[scalars + jobs.TEMPERATURE],
                         scratch)
        add_kl(g, mem[dkl + at:dkl + at + n], mem, scalars)
