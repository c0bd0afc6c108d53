"""Costs of the codes of a chunk for all images, and what the gradients at the codes' logits make of them."""
import numpy as np

from npdvae.kernels.cpu import jobs
from npdvae.kernels.cpu.calls import job
from npdvae.kernels.cpu.code_choice import probabilities, rows_of
from npdvae.kernels.cpu.compiler import SUMS, helper, inner
from npdvae.kernels.cpu.elementary import exp_minus, log1p_short
from npdvae.kernels.cpu.target import LANES, PANEL, PICK_PANEL, ROWS
from npdvae.kernels.cpu.vectors import picked, product, transpose

f4 = np.float32
LOG_2 = f4(np.log(2))
TILES = 4                                       # tiles of codes whose products with the images share a panel of them
PART = 64                                       # pixels whose costs are summed apart


@helper
def centred_softplus(l, t):
    """log(1 + e**l) - log 2 for t = e**-|l|: sums over pixels stay near 0 where logits do, and so keep their digits."""
    return f4(0.5) * (l + abs(l)) + (log1p_short(t) - LOG_2)


@inner(SUMS)
def shared_cost_row(logits, images, weight, scale):
    """Sum of centred softplus over one code's logits [P], which become scale (weight sigmoid(l) - images)."""
    total = f4(0)
    for j in range(logits.size):
        l = logits[j]
        t = exp_minus(abs(l))
        s = f4(1) / (f4(1) + t)
        total += centred_softplus(l, t)
        logits[j] = scale * (weight * (s if l >= f4(0) else t * s) - images[j])
    return total


@job(SUMS)
def code_cost(c, a, mem, ints, examples, scalars, scratch):
    """Costs of a chunk of codes and the gradients in place of their logits, for images of any values."""
    extent, width, D, index, qt, logits, ld_logits, q, f, ld, x, ld_x, xt, zero = a[2:16]
    first, last = rows_of(c, ints, extent)
    ld_work, scale = -(-width // PANEL) * PANEL, mem[scalars + jobs.SCALE]
    probabilities(mem, ints, first, last, D, index, qt, q, ld)
    for t in range(first, last, TILES * ROWS):
        end = min(t + TILES * ROWS, last)
        for p in range(0, ld, PANEL):
            for r in range(t, end, ROWS):
                product(mem, logits + r * ld_logits, ld_logits, 1, xt + p, ld, zero, f + r * ld + p, ld, width, 0)
        for p in range(0, ld_work, PANEL):
            for r in range(t, end, ROWS):
                product(mem, q + r * ld, ld, 1, x + p, ld_x, zero, scratch + (r - t) * ld_work + p, ld_work, examples,
                        0)
        for r in range(t, end):
            at, work, weight = logits + r * ld_logits, scratch + (r - t) * ld_work, f4(0)
            share, cost = mem[q + r * ld:q + r * ld + ld], mem[f + r * ld:f + r * ld + ld]
            for b in range(ld):
                weight += share[b]
            total = shared_cost_row(mem[at:at + width], mem[work:work + width], weight, scale)
            for b in range(ld):
                cost[b] = total - cost[b]


@inner(SUMS)
def shared_cost_column(logits, images, weight, sums, scale):
    """As `shared_cost_row` for one pixel of codes side by side: all [G], sums += centred softplus."""
    for i in range(logits.size):
        l = logits[i]
        t = exp_minus(abs(l))
        s = f4(1) / (f4(1) + t)
        sums[i] += centred_softplus(l, t)
        logits[i] = scale * (weight[i] * (s if l >= f4(0) else t * s) - images[i])


@job(SUMS)
def code_cost_listed(c, a, mem, ints, examples, scalars, scratch):
    """As `code_cost` for images that are lists of ones: PICK_PANEL codes side by side, products become sums."""
    extent, width, D, index, qt, logits, ld_logits, q, f, ld = a[2:12]
    ones, ld_ones, ones_count, lit, ld_lit, lit_count, zero = a[12:19]
    scale, G = mem[scalars + jobs.SCALE], PICK_PANEL
    first, last = rows_of(c, ints, extent)
    probabilities(mem, ints, first, last, D, index, qt, q, ld)
    columns = -(-examples // LANES) * LANES
    at_l, at_q = scratch, scratch + -(-width // LANES) * LANES * G
    at_f = at_q + columns * G
    work = at_f + columns * G
    weight, total, part, sums = (mem[work:work + G], mem[work + G:work + 2 * G], mem[work + 2 * G:work + 3 * G],
                                 mem[work + 3 * G:work + 4 * G])
    for r in range(first, last, G):
        n = min(G, last - r)
        for i in range(0, n, LANES):
            for j in range(0, width, LANES):
                transpose(mem, logits + (r + i) * ld_logits + j, ld_logits, at_l + j * G + i, G)
            for b in range(0, columns, LANES):
                transpose(mem, q + (r + i) * ld + b, ld, at_q + b * G + i, G)
        weight[:] = f4(0)
        total[:] = f4(0)
        for b in range(examples):
            share = mem[at_q + b * G:at_q + b * G + G]
            for i in range(G):
                weight[i] += share[i]
            picked(mem, ints, ones + b * ld_ones, at_l, G, zero, at_f + b * G, np.int64(ints[ones_count + b]))
        for j in range(0, width, PART):
            part[:] = f4(0)
            for k in range(j, min(j + PART, width)):
                picked(mem, ints, lit + k * ld_lit, at_q, G, zero, work + 3 * G, np.int64(ints[lit_count + k]))
                shared_cost_column(mem[at_l + k * G:at_l + k * G + n], sums, weight, part, scale)
            for i in range(G):
                total[i] += part[i]
        for b in range(columns):
            cost = mem[at_f + b * G:at_f + b * G + G]
            for i in range(G):
                cost[i] = total[i] - cost[i] if b < examples else f4(0)
        for i in range(0, n, LANES):
            for j in range(0, width, LANES):
                transpose(mem, at_l + j * G + i, G, logits + (r + i) * ld_logits + j, ld_logits)
            for b in range(0, columns, LANES):
                transpose(mem, at_f + b * G + i, G, f + (r + i) * ld + b, ld)
