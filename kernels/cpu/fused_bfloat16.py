"""The matrix products of a fused step in bfloat16: layers, their adjoints and weight gradients, as `fused_layers` and
`fused_update` have them in float32.

Operands are rounded into the worker's scratch, each where a chunk first needs it; sums, biases, activations, costs and
updates are float32. Rows of all matrices are padded to whole tiles, inner dimensions to STEP. Rows of words lie a cache
line (SIDE words) further apart than they are long: out of each other's cache sets.
"""
import numpy as np

from npdvae.kernels.cpu.bernoulli import cost_and_gradient_row
from npdvae.kernels.cpu.bfloat16 import SIDE, STEP, keep_active, leave_tiles, multiply, take_tiles
from npdvae.kernels.cpu.bfloat16_words import couple, neighbours
from npdvae.kernels.cpu.calls import job
from npdvae.kernels.cpu.compiler import SUMS, inner
from npdvae.kernels.cpu.fused_layers import activate, activate_backward
from npdvae.kernels.cpu.fused_update import update, update_bias
from npdvae.kernels.cpu.jobs import LINEAR, RELU, SCALE
from npdvae.kernels.cpu.target import LANES, PANEL
from npdvae.kernels.cpu.vectors import transpose

f4 = np.float32
BLOCK = 512                                     # rows of one block of a weight gradient: it stays in cache


@inner(SUMS)
def round_rows(mem, x, ld_x, rows, width, words, ld):
    """Words of neighbours in rows of x: [rows, width / 2]."""
    for r in range(rows):
        for k in range(0, width, STEP):
            neighbours(mem, x + r * ld_x + k, words + r * ld + k // 2)


@inner(SUMS)
def multiply_rows(mem, x, ld, rows, inner, w, start, start_row, y, ld_y):
    """PANEL columns of y = start + x w, for words x [rows, inner / 2] and w [inner / 2, PANEL]."""
    for r in range(0, rows, 2 * SIDE):
        multiply(mem, x + r * ld, ld, w, start + r * start_row, start_row, y + r * ld_y, ld_y, inner // STEP, rows - r)


@job(SUMS)
def dense_bfloat16(c, a, mem, examples, scalars, scratch):
    panels, all_panels, tiles, groups, all_tiles, x, ld_x, w, w_rows, bias, y, ld_y, inner, activation = a[2:16]
    target, ld_target, width, S, loss, parts = a[16:22]
    part, first = c // groups, c % groups * tiles * SIDE
    rows, ld = min(tiles * SIDE, all_tiles * SIDE - first), inner // 2 + SIDE
    start, stop, weight = part * panels, min(part * panels + panels, all_panels), scratch + rows * ld
    take_tiles(mem)
    round_rows(mem, x + first * ld_x, ld_x, rows, inner, scratch, ld)
    for p in range(start, stop):
        for k in range(0, inner, 2):
            row = w + p * w_rows * PANEL + k * PANEL
            for j in range(0, PANEL, SIDE):
                couple(mem, row + j, row + PANEL + j, weight + k // 2 * PANEL + j)
        multiply_rows(mem, scratch, ld, rows, inner, weight, bias + p * PANEL, 0, y + first * ld_y + p * PANEL, ld_y)
    leave_tiles(mem)
    begin, end = start * PANEL, stop * PANEL
    if target < 0:
        for r in range(first, first + rows if activation != LINEAR else first):
            activate(mem[y + r * ld_y + begin:y + r * ld_y + end], activation)
        return
    scale, end = mem[scalars + SCALE] / f4(S), min(end, width)
    for r in range(first, min(first + rows, examples * S)):
        row, goal = y + r * ld_y, target + r // S * ld_target
        mem[loss + r * parts + part] = cost_and_gradient_row(mem[row + begin:row + end], mem[goal + begin:goal + end],
                                                             scale)


@inner(SUMS)
def turned_rows(mem, w, w_rows, w_panel, column, inner, weight, scratch):
    """Words of neighbours in rows column .. column + PANEL of a weight, as columns: [inner / 2, PANEL]."""
    for o in range(0, inner, STEP):
        block = w + (o // w_panel) * w_rows * w_panel + column * w_panel + o % w_panel
        for i in range(0, PANEL, SIDE):
            round_rows(mem, block + i * w_panel, w_panel, SIDE, STEP, scratch, SIDE)
            transpose(mem, scratch, SIDE, weight + o // 2 * PANEL + i, PANEL)


@job(SUMS)
def backward_bfloat16(c, a, mem, scratch):
    panels, all_panels, tiles, groups, all_tiles, dy, ld_dy, w, w_rows, w_panel, inner, dx, ld_dx, y, ld_y = a[2:17]
    activation, zero = a[17:19]
    start, first = c // groups * panels, c % groups * tiles * SIDE
    stop, rows, ld = min(start + panels, all_panels), min(tiles * SIDE, all_tiles * SIDE - first), inner // 2 + SIDE
    weight = scratch + rows * ld
    take_tiles(mem)
    round_rows(mem, dy + first * ld_dy, ld_dy, rows, inner, scratch, ld)
    for p in range(start, stop):
        turned_rows(mem, w, w_rows, w_panel, p * PANEL, inner, weight, weight + inner // 2 * PANEL)
        multiply_rows(mem, scratch, ld, rows, inner, weight, zero, 0, dx + first * ld_dx + p * PANEL, ld_dx)
    leave_tiles(mem)
    begin, end = start * PANEL, stop * PANEL
    for r in range(first, first + rows if activation != LINEAR else first):
        row, kept = dx + r * ld_dx, y + r * ld_y
        if activation == RELU:
            for j in range(begin, end, LANES):
                keep_active(mem, row + j, kept + j)
        else:
            activate_backward(mem[row + begin:row + end], mem[kept + begin:kept + end], activation)


@inner(SUMS)
def couple_rows(mem, x, ld_x, r, rows, zero, words):
    """Words of SIDE columns of rows r and r + 1 of x, or of zeros beyond `rows`."""
    couple(mem, x + r * ld_x if r < rows else zero, x + (r + 1) * ld_x if r + 1 < rows else zero, words)


@inner(SUMS)
def turned_columns(mem, x, ld_x, rows, columns, all_rows, zero, words, ld, scratch):
    """Words of neighbours in columns of x: [columns, all_rows / 2], zeros beyond `rows`."""
    for k in range(0, all_rows, STEP):
        for i in range(0, columns, SIDE):
            for j in range(SIDE):
                couple_rows(mem, x + i, ld_x, k + 2 * j, rows, zero, scratch + j * SIDE)
            transpose(mem, scratch, SIDE, words + i * ld + k // 2, ld)


@job(SUMS)
def weight_gradient_bfloat16(c, a, mem, examples, scalars, scratch):
    panels, all_panels, tiles, groups, all_tiles, x, ld_x, dy, ld_dy, w, w_rows, bias, span, S, zero = a[2:17]
    start, first, n = c // groups * panels, c % groups * tiles * STEP, examples * S
    stop, inputs = min(start + panels, all_panels), min(tiles * STEP, all_tiles * STEP - first)
    ld, size = BLOCK // 2 + SIDE, inputs * PANEL
    sums = scratch + inputs * ld
    words = sums + (stop - start) * size
    mem[sums:words] = f4(0)
    take_tiles(mem)
    for r in range(0, n, BLOCK):
        rows = min(BLOCK, n - r)
        padded = -(-rows // STEP) * STEP
        turned_columns(mem, x + r * ld_x + first, ld_x, rows, inputs, padded, zero, scratch, ld, words)
        for p in range(start, stop):
            block, g = dy + r * ld_dy + p * PANEL, sums + (p - start) * size
            for k in range(0, padded, 2):
                for j in range(0, PANEL, SIDE):
                    couple_rows(mem, block + j, ld_dy, k, rows, zero, words + k // 2 * PANEL + j)
            multiply_rows(mem, scratch, ld, inputs, padded, words, g, PANEL, g, PANEL)
            if r + BLOCK >= n:
                update(mem, mem[g:g + size], w + p * w_rows * PANEL + first * PANEL, span, scalars)
    leave_tiles(mem)
    if first == 0:
        width = (stop - start) * PANEL
        update_bias(mem, dy + start * PANEL, ld_dy, n, width, bias + start * PANEL, span, scalars, words)
