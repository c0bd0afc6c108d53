"""The first layer of a large batch: images as lists of fours of neighbouring pixels, each four one row of a table.

Four q of an image has the pattern v whose bit j is pixel 4 q + j; row 16 q + v of the table is the sum of the rows of
the weight at its ones, and 16 q + v the number of the four. At MNIST's density 45 fours of an image are lit, and 102
pixels. Examples are listed in blocks: those of block k whose four q is lit lie in row (k, q) of rows [blocks, fours,
block], pattern after pattern, and rows_count [blocks, fours, 16] has the lengths.
"""
import numpy as np

from npdvae.kernels.cpu.calls import job
from npdvae.kernels.cpu.compiler import CONTRACT, SUMS, inner
from npdvae.kernels.cpu.fused_layers import activate
from npdvae.kernels.cpu.fused_update import update, update_bias
from npdvae.kernels.cpu.subset_sums import subset_sums
from npdvae.kernels.cpu.target import PICK_PANEL
from npdvae.kernels.cpu.vectors import picked

f4 = np.float32
PATTERNS = 16                                   # of four pixels


@job(SUMS)
def pick_fours(c, a, mem, ints, examples, scratch):
    """As `pick`, from a table of one panel's own."""
    group, groups, fours, index, ld_index, count, w, w_rows, bias, y, ld_y, activation = a[2:14]
    panel, first = c // groups, c % groups * group
    w, column = w + panel * w_rows * PICK_PANEL, panel * PICK_PANEL
    for q in range(fours if first < examples else 0):
        subset_sums(mem, w + 4 * q * PICK_PANEL, scratch + PATTERNS * q * PICK_PANEL)
    for b in range(first, min(first + group, examples)):
        out = y + b * ld_y + column
        picked(mem, ints, index + b * ld_index, scratch, PICK_PANEL, bias + column, out, np.int64(ints[count + b]))
        activate(mem[out:out + PICK_PANEL], activation)


@job(CONTRACT)
def invert_fours(c, a, ints, examples, i_scratch):
    """Lists (index, count) of the numbers of each example of a block to lists of its examples for each number."""
    group, fours, index, ld_index, count, rows, rows_count = a[2:9]
    first, end, n = c * group, min(c * group + group, examples), PATTERNS * fours
    lengths, ends = ints[rows_count + c * n:rows_count + (c + 1) * n], ints[i_scratch:i_scratch + n]
    for i in range(n):
        lengths[i] = 0
    for b in range(first, end):
        for k in range(index + b * ld_index, index + b * ld_index + ints[count + b]):
            lengths[ints[k]] += 1
    for q in range(fours):
        at = rows + (c * fours + q) * group
        for i in range(PATTERNS * q, PATTERNS * (q + 1)):
            ends[i] = at
            at += lengths[i]
    for b in range(first, end):
        for k in range(index + b * ld_index, index + b * ld_index + ints[count + b]):
            i = ints[k]
            ints[ends[i]] = b
            ends[i] += 1


@job(SUMS)
def fours_weight_gradient(c, a, mem, ints, examples, scalars, scratch):
    """The sum of dy over the examples of each pattern goes to the rows of its ones; then their update."""
    group, groups, fours, block, rows, rows_count, inner, dy, ld_dy, w, w_rows, bias, span, zero = a[2:16]
    panel, first = c // groups, c % groups * group
    last, dy, w = min(first + group, fours), dy + panel * PICK_PANEL, w + panel * w_rows * PICK_PANEL
    one = scratch + 4 * group * PICK_PANEL
    mem[scratch:one] = f4(0)
    for k in range(-(-examples // block)):
        for q in range(first, last):
            at, lengths = rows + (k * fours + q) * block, rows_count + (k * fours + q) * PATTERNS
            for v in range(1, PATTERNS):
                n = np.int64(ints[lengths + v])
                if n > 0:
                    picked(mem, ints, at, dy, ld_dy, zero, one, n)
                    spread(mem, one, scratch + 4 * (q - first) * PICK_PANEL, v)
                at += n
    size = (min(4 * last, inner) - 4 * first) * PICK_PANEL
    update(mem, mem[scratch:scratch + size], w + 4 * first * PICK_PANEL, span, scalars)
    if first == 0:
        update_bias(mem, dy, ld_dy, examples, PICK_PANEL, bias + panel * PICK_PANEL, span, scalars, scratch)


@inner(SUMS)
def spread(mem, one, sums, v):
    """The row at `one` added to those of four rows of sums that pattern v has."""
    row = mem[one:one + PICK_PANEL]
    for j in range(4):
        if v >> j & 1:
            out = mem[sums + j * PICK_PANEL:sums + (j + 1) * PICK_PANEL]
            for k in range(PICK_PANEL):
                out[k] += row[k]
