"""The exact gradient of a fused step: codes decoded once for the whole batch, chunk by chunk of codes.

Codes of next to no probability are left out, see `code_choice`.

The decoder's gradient needs only q(z|x), so a chunk goes from its codes to the gradients of its activations in one go;
the encoder's needs the costs of all codes. Tables q and f [codes, examples] hold q(z|x), 0 for examples beyond a short
batch, and the cost of each code. How many codes there are, and how many a chunk has, is the `extent` that `code_list`
writes; rows are worked on in whole vectors and tiles, and what comes out beyond the last code is not used.
"""
import numpy as np

from npdvae.kernels.cpu import jobs
from npdvae.kernels.cpu.code_choice import code_list, code_weights, probabilities, rows_of
from npdvae.kernels.cpu.compiler import SUMS, helper, kernel
from npdvae.kernels.cpu.elementary import exp_minus, log1p_short
from npdvae.kernels.cpu.fused_layers import activate, activate_backward, long_gradient, update
from npdvae.kernels.cpu.target import LANES, PANEL, PICK_PANEL, ROWS
from npdvae.kernels.cpu.vectors import masked_product, picked, picked_gradient, product, transpose

f4 = np.float32
LOG_2 = f4(np.log(2))
TILES = 4                                       # tiles of codes whose products with the images share a panel of them
PART = 64                                       # pixels, or codes, whose costs are summed apart


@kernel(SUMS)
def turn(c, a, mem, examples):
    """Rows of the batch to columns of target; columns beyond the examples are 0."""
    group, width, source, ld_source, target, ld_target = a[2:8]
    for j in range(c * group, min(c * group + group, width), LANES):
        for i in range(0, examples, LANES):
            transpose(mem, source + i * ld_source + j, ld_source, target + j * ld_target + i, ld_target)
        for k in range(j, j + LANES):
            mem[target + k * ld_target + examples:target + (k + 1) * ld_target] = f4(0)


@kernel(SUMS)
def code_pick(c, a, mem, ints):
    groups, extent, index, D, w, w_rows, bias, y, ld_y, activation = a[2:12]
    panel = c // groups
    w, column = w + panel * w_rows * PICK_PANEL, panel * PICK_PANEL
    first, last = rows_of(c % groups, ints, extent)
    for r in range(first, last):
        out = y + r * ld_y + column
        picked(mem, ints, index + r * D, w, PICK_PANEL, bias + column, out, D)
        activate(mem[out:out + PICK_PANEL], activation)


@kernel(SUMS)
def code_dense(c, a, mem, ints):
    groups, extent, x, ld_x, w, w_rows, bias, y, ld_y, inner, activation = a[2:13]
    panel = c // groups
    w, bias, y = w + panel * w_rows * PANEL, bias + panel * PANEL, y + panel * PANEL
    first, last = rows_of(c % groups, ints, extent)
    for r in range(first, last, ROWS):
        product(mem, x + r * ld_x, ld_x, 1, w, PANEL, bias, y + r * ld_y, ld_y, inner, activation == jobs.RELU)
    for r in range(first, last if activation in jobs.BEHIND_PRODUCTS else first):
        activate(mem[y + r * ld_y:y + r * ld_y + PANEL], activation)


@kernel(SUMS)
def turn_weight(c, a, mem):
    """PANEL rows of a weight to columns: [panels of rows, columns of w, PANEL], as `code_backward` reads it."""
    w, w_rows, inner, target = a[2:6]
    target += c * inner * PANEL
    for o in range(0, inner, LANES):
        block = w + (o // PANEL) * w_rows * PANEL + c * PANEL * PANEL + o % PANEL
        for i in range(0, PANEL, LANES):
            transpose(mem, block + i * PANEL, PANEL, target + o * PANEL + i, PANEL)


@kernel(SUMS)
def code_backward(c, a, mem, ints):
    groups, extent, dy, ld_dy, turned, inner, dx, ld_dx, y, ld_y, activation, zero = a[2:14]
    panel = c // groups
    turned, dx, y = turned + panel * inner * PANEL, dx + panel * PANEL, y + panel * PANEL
    first, last = rows_of(c % groups, ints, extent)
    for t in range(first, last, ROWS):
        if activation == jobs.RELU:
            masked_product(mem, dy + t * ld_dy, ld_dy, 1, turned, PANEL, zero, dx + t * ld_dx, ld_dx, inner,
                           y + t * ld_y, ld_y)
            continue
        product(mem, dy + t * ld_dy, ld_dy, 1, turned, PANEL, zero, dx + t * ld_dx, ld_dx, inner, 0)
        for r in range(t, t + ROWS):
            at, kept = dx + r * ld_dx, y + r * ld_y
            activate_backward(mem[at:at + PANEL], mem[kept:kept + PANEL], activation)


@helper
def centred_softplus(l, t):
    """log(1 + e**l) - log 2 for t = e**-|l|: sums over pixels stay near 0 where logits do, and so keep their digits."""
    return f4(0.5) * (l + abs(l)) + (log1p_short(t) - LOG_2)


@kernel(SUMS)
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


@kernel(SUMS)
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


@kernel(SUMS)
def shared_cost_column(logits, images, weight, sums, scale):
    """As `shared_cost_row` for one pixel of codes side by side: all [G], sums += centred softplus."""
    for i in range(logits.size):
        l = logits[i]
        t = exp_minus(abs(l))
        s = f4(1) / (f4(1) + t)
        sums[i] += centred_softplus(l, t)
        logits[i] = scale * (weight[i] * (s if l >= f4(0) else t * s) - images[i])


@kernel(SUMS)
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


@kernel(SUMS)
def code_latent_backward(c, a, mem, ints, examples, scalars, scratch):
    """Sums of q (f - E f) over the codes of each category, examples side by side; and E f."""
    group, D, K, extent, index, q, f, ld, dkl, ld_h, dh, loss, pixels = a[2:15]
    first, scale, G, codes = c * group, mem[scalars + jobs.SCALE], group, np.int64(ints[extent])
    if first >= examples:
        return
    mean, away, some = (mem[scratch:scratch + G], mem[scratch + G:scratch + 2 * G],
                        mem[scratch + 2 * G:scratch + 3 * G])
    sums = scratch + 3 * G
    mem[sums:sums + D * K * G] = f4(0)
    mean[:] = mem[f + first:f + first + G]
    for _ in range(2):                          # from the cost of the first code, which may be far off, then from there
        away[:] = f4(0)
        for r in range(0, codes, PART):
            some[:] = f4(0)
            for z in range(r * ld + first, min(r + PART, codes) * ld, ld):
                p, cost = mem[q + z:q + z + G], mem[f + z:f + z + G]
                for i in range(G):
                    some[i] += p[i] * (cost[i] - mean[i])
            for i in range(G):
                away[i] += some[i]
        for i in range(G):
            mean[i] += away[i]
    for z in range(codes):
        at = z * ld + first
        p, cost = mem[q + at:q + at + G], mem[f + at:f + at + G]
        for i in range(G):
            some[i] = p[i] * (cost[i] - mean[i])
        for d in range(D):
            out = sums + ints[index + z * D + d] * G
            total = mem[out:out + G]
            for i in range(G):
                total[i] += some[i]
    kl_weight = mem[scalars + jobs.KL_WEIGHT]
    for i in range(min(G, examples - first)):
        row = (first + i) * ld_h
        mem[loss + first + i] = mean[i] + f4(pixels) * LOG_2
        for j in range(D * K):
            mem[dh + row + j] = scale * (mem[sums + j * G + i] + kl_weight * mem[dkl + row + j])


@kernel(SUMS)
def code_weight_gradient(c, a, mem, ints, scalars, scratch):
    panels, all_panels, tiles, groups, all_tiles, extent, x, ld_x, dy, ld_dy, w, w_rows, bias, span = a[2:16]
    start, first = c // groups * panels, c % groups * tiles
    long_gradient(mem, start, min(start + panels, all_panels), first, min(first + tiles, all_tiles),
                  np.int64(ints[extent]), x, ld_x, dy, ld_dy, w, w_rows, bias, span, scalars, scratch)


@kernel(SUMS)
def code_picked_weight_gradient(c, a, mem, ints, scalars, scratch):
    group, groups, extent, rows, ld_rows, rows_count, inner, dy, ld_dy, w, w_rows, bias, span = a[2:15]
    panel, first = c // groups, c % groups * group
    dy, w = dy + panel * PICK_PANEL, w + panel * w_rows * PICK_PANEL
    for i in range(first, min(first + group, inner)):
        picked_gradient(mem, ints, rows + i * ld_rows, dy, ld_dy, w + i * PICK_PANEL, span,
                        np.int64(ints[rows_count + i]), scalars)
    if first == 0:
        g = mem[scratch:scratch + PICK_PANEL]
        g[:] = f4(0)
        for r in range(ints[extent]):
            row = mem[dy + r * ld_dy:dy + r * ld_dy + PICK_PANEL]
            for j in range(PICK_PANEL):
                g[j] += row[j]
        update(mem, g, bias + panel * PICK_PANEL, span, scalars)


@kernel(SUMS)
def do(c, a, mem, ints, examples, scalars, scratch):
    """Chunk c of job a, one of those above."""
    kind = a[0]
    if kind == jobs.CODE_DENSE:
        code_dense(c, a, mem, ints)
    elif kind == jobs.CODE_BACKWARD:
        code_backward(c, a, mem, ints)
    elif kind == jobs.CODE_WEIGHT_GRADIENT:
        code_weight_gradient(c, a, mem, ints, scalars, scratch)
    elif kind == jobs.CODE_COST:
        code_cost(c, a, mem, ints, examples, scalars, scratch)
    elif kind == jobs.CODE_COST_LISTED:
        code_cost_listed(c, a, mem, ints, examples, scalars, scratch)
    elif kind == jobs.CODE_PICK:
        code_pick(c, a, mem, ints)
    elif kind == jobs.CODE_PICKED_WEIGHT_GRADIENT:
        code_picked_weight_gradient(c, a, mem, ints, scalars, scratch)
    elif kind == jobs.CODE_LATENT_BACKWARD:
        code_latent_backward(c, a, mem, ints, examples, scalars, scratch)
    elif kind == jobs.CODE_WEIGHTS:
        code_weights(c, a, mem, ints)
    elif kind == jobs.CODE_LIST:
        code_list(a, mem, ints)
    elif kind == jobs.TURN:
        turn(c, a, mem, examples)
    elif kind == jobs.TURN_WEIGHT:
        turn_weight(c, a, mem)
