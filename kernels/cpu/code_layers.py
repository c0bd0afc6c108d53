"""Layers of the decoder for chunks of codes that the batch shares, as `fused_layers`; and what is laid out for them."""
import numpy as np

from npdvae.kernels.cpu import jobs
from npdvae.kernels.cpu.calls import job
from npdvae.kernels.cpu.code_choice import rows_of
from npdvae.kernels.cpu.compiler import SUMS
from npdvae.kernels.cpu.fused_layers import activate, activate_backward
from npdvae.kernels.cpu.target import LANES, PANEL, PICK_PANEL, ROWS
from npdvae.kernels.cpu.vectors import masked_product, picked, product, transpose

f4 = np.float32


@job(SUMS)
def turn(c, a, mem, examples):
    """Rows of the batch to columns of target; columns beyond the examples are 0."""
    group, width, source, ld_source, target, ld_target = a[2:8]
    for j in range(c * group, min(c * group + group, width), LANES):
        for i in range(0, examples, LANES):
            transpose(mem, source + i * ld_source + j, ld_source, target + j * ld_target + i, ld_target)
        for k in range(j, j + LANES):
            mem[target + k * ld_target + examples:target + (k + 1) * ld_target] = f4(0)


@job(SUMS)
def turn_weight(c, a, mem):
    """PANEL rows of a weight to columns: [panels of rows, columns of w, PANEL], as `code_backward` reads it."""
    w, w_rows, inner, target = a[2:6]
    target += c * inner * PANEL
    for o in range(0, inner, LANES):
        block = w + (o // PANEL) * w_rows * PANEL + c * PANEL * PANEL + o % PANEL
        for i in range(0, PANEL, LANES):
            transpose(mem, block + i * PANEL, PANEL, target + o * PANEL + i, PANEL)


@job(SUMS)
def code_pick(c, a, mem, ints):
    groups, extent, index, D, w, w_rows, bias, y, ld_y, activation = a[2:12]
    panel = c // groups
    w, column = w + panel * w_rows * PICK_PANEL, panel * PICK_PANEL
    first, last = rows_of(c % groups, ints, extent)
    for r in range(first, last):
        out = y + r * ld_y + column
        picked(mem, ints, index + r * D, w, PICK_PANEL, bias + column, out, D)
        activate(mem[out:out + PICK_PANEL], activation)


@job(SUMS)
def code_dense(c, a, mem, ints):
    groups, extent, x, ld_x, w, w_rows, bias, y, ld_y, inner, activation = a[2:13]
    panel = c // groups
    w, bias, y = w + panel * w_rows * PANEL, bias + panel * PANEL, y + panel * PANEL
    first, last = rows_of(c % groups, ints, extent)
    for r in range(first, last, ROWS):
        product(mem, x + r * ld_x, ld_x, 1, w, PANEL, bias, y + r * ld_y, ld_y, inner, activation == jobs.RELU)
    for r in range(first, last if activation in jobs.BEHIND_PRODUCTS else first):
        activate(mem[y + r * ld_y:y + r * ld_y + PANEL], activation)


@job(SUMS)
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
