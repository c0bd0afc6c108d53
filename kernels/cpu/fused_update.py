"""The end of a fused step: weight gradients with the update behind them, the prior's, and the report.

Weights, and the padding of all matrices, lie as in `fused_layers`.
"""
import numpy as np

from npdvae.kernels.cpu import jobs
from npdvae.kernels.cpu.calls import job
from npdvae.kernels.cpu.compiler import SUMS, inner
from npdvae.kernels.cpu.elementary import exp
from npdvae.kernels.cpu.fused_layers import cost_of
from npdvae.kernels.cpu.gradient_sums import fetch, gradient_sums
from npdvae.kernels.cpu.target import GRADIENT_ROWS, PANEL, PICK_PANEL
from npdvae.kernels.cpu.vectors import gradient, picked_gradient

f4 = np.float32
BLOCK = 32                                      # rows of one block of a long weight gradient: it stays in cache
LINE = 16                                       # floats of a cache line


@inner(SUMS)
def update(mem, g, p, span, scalars):
    """The contiguous parameters p updated with gradient g, or g kept 3 span behind."""
    n = g.size
    whole = mem[p + 3 * span:p + 3 * span + n]
    if mem[scalars + jobs.GRADIENT] == jobs.AT_ONCE:
        adapt(mem, g, p, span, scalars)
    else:
        for j in range(n):
            whole[j] = g[j]


@inner(SUMS)
def adapt(mem, g, p, span, scalars):
    """`updates.adaptive` on the contiguous parameters p with gradient g, moments span and 2 span behind."""
    n = g.size
    s0, s1, s2, s3, s4 = mem[scalars], mem[scalars + 1], mem[scalars + 2], mem[scalars + 3], mem[scalars + 4]
    P, m, v = mem[p:p + n], mem[p + span:p + span + n], mem[p + 2 * span:p + 2 * span + n]
    for j in range(n):
        m[j] += s1 * (g[j] - m[j])
        v[j] += s2 * (g[j] * g[j] - v[j])
        P[j] -= s0 * m[j] / (s3 * np.sqrt(v[j]) + s4)


@inner(SUMS)
def update_bias(mem, dy, ld_dy, rows, width, bias, span, scalars, scratch):
    """Sum of the first rows of dy over `width` columns, and the update of the bias with it."""
    g = mem[scratch:scratch + width]
    for j in range(width):
        g[j] = f4(0)
    for r in range(rows):
        row = mem[dy + r * ld_dy:dy + r * ld_dy + width]
        for j in range(width):
            g[j] += row[j]
    update(mem, g, bias, span, scalars)


@inner(SUMS)
def fetch_row(mem, row, first, end):
    """Ask for entries first .. end of a row."""
    for at in range(row + first, row + end, LINE):
        fetch(mem, at)


@inner(SUMS)
def long_gradient(mem, start, stop, first, last, rows, x, ld_x, dy, ld_dy, w, w_rows, bias, span, scalars, scratch):
    """Panels start .. stop and tiles first .. last of a weight updated with x^T dy, and with tile 0 the bias, for many
    rows: x [rows, inputs], dy [rows, outputs].

    Blocks of rows in the outer loop: a block of x serves several panels, and one of dy many rows of w. While a block
    is multiplied, the next one is fetched, row by row: its rows are too far apart for the hardware to.
    """
    tile, size = GRADIENT_ROWS * PANEL, (last - first) * GRADIENT_ROWS * PANEL
    biases, width = scratch + (stop - start) * size, (stop - start) * PANEL if first == 0 else 0
    every = max(1, (stop - start) * (last - first) // BLOCK)
    mem[scratch:biases + width] = f4(0)
    g = mem[biases:biases + width]
    for r in range(0, rows, BLOCK):
        n, ahead, call = min(BLOCK, rows - r), r + BLOCK, 0
        for p in range(start, stop):
            block, sums = dy + r * ld_dy + p * PANEL, scratch + (p - start) * size
            for t in range(first, last):
                if call % every == 0 and ahead < min(r + 2 * BLOCK, rows):
                    fetch_row(mem, x + ahead * ld_x, first * GRADIENT_ROWS, last * GRADIENT_ROWS)
                    fetch_row(mem, dy + ahead * ld_dy, start * PANEL, stop * PANEL)
                    ahead += 1
                call += 1
                gradient_sums(mem, x + r * ld_x + t * GRADIENT_ROWS, ld_x, block, ld_dy, sums + (t - first) * tile, n)
        for k in range(r, r + n if width else r):
            row = mem[dy + k * ld_dy + start * PANEL:dy + k * ld_dy + start * PANEL + width]
            for j in range(width):
                g[j] += row[j]
    for p in range(start, stop):
        sums = scratch + (p - start) * size
        update(mem, mem[sums:sums + size], w + p * w_rows * PANEL + first * tile, span, scalars)
    if width:
        update(mem, g, bias + start * PANEL, span, scalars)


@job(SUMS)
def weight_gradient(c, a, mem, examples, scalars, scratch):
    panels, all_panels, tiles, groups, all_tiles, x, ld_x, inner, dy, ld_dy, w, w_rows, bias, span, S = a[2:17]
    start, first, n = c // groups * panels, c % groups * tiles, examples * S
    stop, last = min(start + panels, all_panels), min(first + tiles, all_tiles)
    if panels > 1:
        long_gradient(mem, start, stop, first, last, n, x, ld_x, dy, ld_dy, w, w_rows, bias, span, scalars, scratch)
        return
    dy, w = dy + start * PANEL, w + start * w_rows * PANEL
    for i in range(0, inner, GRADIENT_ROWS):
        gradient(mem, x + i, ld_x, dy, ld_dy, w + i * PANEL, span, n, scalars)
    update_bias(mem, dy, ld_dy, n, PANEL, bias + start * PANEL, span, scalars, scratch)


@job(SUMS)
def picked_weight_gradient(c, a, mem, ints, examples, scalars, scratch):
    group, groups, rows, ld_rows, rows_count, inner, dy, ld_dy, w, w_rows, bias, span, S = a[2:15]
    panel, first = c // groups, c % groups * group
    dy, w = dy + panel * PICK_PANEL, w + panel * w_rows * PICK_PANEL
    for i in range(first, min(first + group, inner)):
        n = np.int64(ints[rows_count + i])
        picked_gradient(mem, ints, rows + i * ld_rows, dy, ld_dy, w + i * PICK_PANEL, span, n, scalars)
    if first == 0:
        update_bias(mem, dy, ld_dy, examples * S, PICK_PANEL, bias + panel * PICK_PANEL, span, scalars, scratch)


@job(SUMS)
def squares(c, a, mem, running):
    """Into running [chunks]."""
    group, span = a[2:4]
    start = c * group
    g, total = mem[3 * span + start:3 * span + min(start + group, span)], 0.0
    for j in range(g.size):
        total += np.float64(g[j]) * np.float64(g[j])
    running[c] = total


@job(SUMS)
def apply(c, a, mem, scalars):
    """The rule of the step; its numbers s as `updates.adaptive` has them, or (rate, momentum) of SGD."""
    group, span = a[2:4]
    start = c * group
    n, rule = min(group, span - start), mem[scalars + jobs.RULE]
    p, m, g = mem[start:start + n], mem[span + start:span + start + n], mem[3 * span + start:3 * span + start + n]
    rate, factor = mem[scalars], mem[scalars + 1]
    for j in range(n if rule != jobs.NO_UPDATE else 0):
        g[j] *= mem[scalars + jobs.FACTOR]
    if rule == jobs.ADAPTIVE:
        adapt(mem, g, start, span, scalars)
    elif rule == jobs.MOMENTUM:
        for j in range(n):
            m[j] = factor * m[j] + g[j]
            p[j] -= rate * m[j]
    elif rule == jobs.GIVEN:
        for j in range(n):
            p[j] = g[j]


@job(SUMS)
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


@job(SUMS)
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
