"""Layers of a fused step: y = activation(x W + b) and its adjoint, with the cost behind the last one.

Weights lie in panels of columns [panel, row, column of the panel]; rows of all matrices are padded to whole tiles,
columns to whole panels, and the padding of weights and gradients is zero.
"""
import numpy as np

from npdvae.kernels.cpu import elementary
from npdvae.kernels.cpu.bernoulli import cost_and_gradient_row
from npdvae.kernels.cpu.calls import job
from npdvae.kernels.cpu.compiler import SUMS, inner
from npdvae.kernels.cpu.jobs import BEHIND_PRODUCTS, LEAKY_RELU, RELU, SCALE, TANH
from npdvae.kernels.cpu.target import LANES, PANEL, PICK_PANEL, ROWS
from npdvae.kernels.cpu.vectors import masked_product, picked, product, transpose

f4 = np.float32
LEAK = f4(0.01)


@inner(SUMS)
def activate(y, kind):
    """The activation of a row, in place."""
    if kind == RELU:
        for j in range(y.size):
            y[j] = y[j] if y[j] > f4(0) else f4(0)
    elif kind == LEAKY_RELU:
        for j in range(y.size):
            y[j] = y[j] if y[j] > f4(0) else y[j] * LEAK
    elif kind == TANH:
        for j in range(y.size):
            y[j] = elementary.tanh(y[j])


@inner(SUMS)
def activate_backward(dy, y, kind):
    """The adjoint for output y, in place; that of a ReLU is `masked_product`."""
    if kind == LEAKY_RELU:
        for j in range(y.size):
            dy[j] = dy[j] if y[j] > f4(0) else dy[j] * LEAK
    elif kind == TANH:
        for j in range(y.size):
            dy[j] *= f4(1) - y[j] * y[j]


@job(SUMS)
def pick(c, a, mem, ints, examples):
    group, groups, S, index, ld_index, count, w, w_rows, bias, y, ld_y, activation = a[2:14]
    panel, first = c // groups, c % groups * group
    w, column = w + panel * w_rows * PICK_PANEL, panel * PICK_PANEL
    for r in range(first, min(first + group, examples * S)):
        out = y + r * ld_y + column
        picked(mem, ints, index + r * ld_index, w, PICK_PANEL, bias + column, out, np.int64(ints[count + r]))
        activate(mem[out:out + PICK_PANEL], activation)


@job(SUMS)
def dense(c, a, mem, examples, scalars):
    panels, all_panels, tiles, groups, all_tiles, x, ld_x, w, w_rows, bias, y, ld_y, inner, activation = a[2:16]
    target, ld_target, width, S, loss, parts = a[16:22]
    part, first = c // groups, c % groups * tiles
    last = min(first + tiles, all_tiles)
    start, stop = part * panels, min(part * panels + panels, all_panels)
    for p in range(start, stop):
        for t in range(first, last):
            product(mem, x + t * ROWS * ld_x, ld_x, 1, w + p * w_rows * PANEL, PANEL, bias + p * PANEL,
                    y + t * ROWS * ld_y + p * PANEL, ld_y, inner, activation == RELU)
    begin, end = start * PANEL, stop * PANEL
    if target < 0:
        for r in range(first * ROWS, last * ROWS if activation in BEHIND_PRODUCTS else 0):
            activate(mem[y + r * ld_y + begin:y + r * ld_y + end], activation)
        return
    scale, end = mem[scalars + SCALE] / f4(S), min(end, width)
    for r in range(first * ROWS, min(last * ROWS, examples * S)):
        at, goal = y + r * ld_y, target + r // S * ld_target
        mem[loss + r * parts + part] = cost_and_gradient_row(mem[at + begin:at + end], mem[goal + begin:goal + end],
                                                               scale)


@inner(SUMS)
def cost_of(mem, loss, parts, r):
    """Cost of row r: the sum of its parts, in order."""
    total = f4(0)
    for j in range(parts):
        total += mem[loss + r * parts + j]
    return total


@job(SUMS)
def backward(c, a, mem, scratch):
    panels, all_panels, tiles, groups, all_tiles, dy, ld_dy, w, w_rows, w_panel, inner, dx, ld_dx, y, ld_y = a[2:17]
    activation, zero = a[17:19]
    start, first = c // groups * panels, c % groups * tiles
    for p in range(start, min(start + panels, all_panels)):
        backward_panel(p * PANEL, first, min(first + tiles, all_tiles), dy, ld_dy, w, w_rows, w_panel, inner, dx, ld_dx,
                       y, ld_y, activation, zero, mem, scratch)


@inner(SUMS)
def backward_panel(column, first, last, dy, ld_dy, w, w_rows, w_panel, inner, dx, ld_dx, y, ld_y, activation, zero,
                   mem, scratch):
    for o in range(0, inner, LANES):
        block = w + (o // w_panel) * w_rows * w_panel + column * w_panel + o % w_panel
        for i in range(0, PANEL, LANES):
            transpose(mem, block + i * w_panel, w_panel, scratch + o * PANEL + i, PANEL)
    for t in range(first, last):
        row, out, kept = dy + t * ROWS * ld_dy, dx + t * ROWS * ld_dx + column, y + t * ROWS * ld_y + column
        if activation == RELU:
            masked_product(mem, row, ld_dy, 1, scratch, PANEL, zero, out, ld_dx, inner, kept, ld_y)
            continue
        product(mem, row, ld_dy, 1, scratch, PANEL, zero, out, ld_dx, inner, 0)
        for r in range(t * ROWS, (t + 1) * ROWS):
            at, kept = dx + r * ld_dx + column, y + r * ld_y + column
            activate_backward(mem[at:at + PANEL], mem[kept:kept + PANEL], activation)


@job(SUMS)
def weigh_rows(c, a, mem, examples):
    group, S, weights, y, ld_y, width = a[2:8]
    for r in range(c * group, min(c * group + group, examples * S)):
        row = mem[y + r * ld_y:y + r * ld_y + width]
        for j in range(width):
            row[j] *= mem[weights + r]
