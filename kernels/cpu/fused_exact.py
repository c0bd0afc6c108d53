"""The exact gradient of a fused step: codes decoded once for the whole batch, chunk by chunk of codes.

Codes of next to no probability are left out, see `code_choice`.

The decoder's gradient needs only q(z|x), so a chunk goes from its codes to the gradients of its activations in one go;
the encoder's needs the costs of all codes. Tables q and f [codes, examples] hold q(z|x), 0 for examples beyond a short
batch, and the cost of each code. How many codes there are, and how many a chunk has, is the `extent` that `code_list`
writes; rows are worked on in whole vectors and tiles, and what comes out beyond the last code is not used.
"""
import numpy as np

from npdvae.kernels.cpu import jobs
from npdvae.kernels.cpu.calls import job
from npdvae.kernels.cpu.code_cost import LOG_2
from npdvae.kernels.cpu.compiler import SUMS
from npdvae.kernels.cpu.fused_update import long_gradient, update
from npdvae.kernels.cpu.target import PICK_PANEL
from npdvae.kernels.cpu.vectors import picked_gradient

f4 = np.float32
PART = 64                                       # codes whose costs are summed apart


@job(SUMS)
def code_latent_backward(c, a, mem, ints, examples, scalars, scratch):
    """Sums of q (f - E f) over the codes of each category, examples side by side; and E f."""
    group, D, K, extent, index, q, f, ld, dkl, ld_h, dh, loss, pixels = a[2:15]
    first, scale, G, codes = c * group, mem[scalars + jobs.SCALE], group, np.int64(ints[extent])
    if first >= examples:
        return
    mean, away, some = (mem[scratch:scratch + G], mem[scratch + G:scratch + 2 * G],
                        mem[scratch + 2 * G:scratch + 3 * G])
    sums, start = scratch + 3 * G, mem[f + first:f + first + G]
    mem[sums:sums + D * K * G] = f4(0)
    for i in range(G):
        mean[i] = start[i]
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


@job(SUMS)
def code_weight_gradient(c, a, mem, ints, scalars, scratch):
    panels, all_panels, tiles, groups, all_tiles, extent, x, ld_x, dy, ld_dy, w, w_rows, bias, span = a[2:16]
    start, first = c // groups * panels, c % groups * tiles
    long_gradient(mem, start, min(start + panels, all_panels), first, min(first + tiles, all_tiles),
                  np.int64(ints[extent]), x, ld_x, dy, ld_dy, w, w_rows, bias, span, scalars, scratch)


@job(SUMS)
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

