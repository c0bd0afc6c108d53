"""Layers of a fused step: y = activation(x W + b), its adjoint, and weight gradients with the update behind them.

Weights lie in panels of columns [panel, row, column of the panel]; rows of all matrices are padded to whole tiles,
columns to whole panels, and the padding of weights and gradients is zero.
"""
import numpy as np

from npdvae.kernels.cpu import elementary
from npdvae.kernels.cpu.bernoulli import cost_and_gradient_row
from npdvae.kernels.cpu.compiler import SUMS, kernel
from npdvae.kernels.cpu.gradient_sums import fetch, gradient_sums
from npdvae.kernels.cpu.jobs import BEHIND_PRODUCTS, LEAKY_RELU, RELU, SCALE, TANH
from npdvae.kernels.cpu.target import GRADIENT_ROWS, LANES, PANEL, PICK_PANEL, ROWS
from npdvae.kernels.cpu.vectors import gradient, masked_product, picked, picked_gradient, product, transpose

f4 = np.float32
LEAK = f4(0.01)
BLOCK = 32                                      # rows of one block of a long weight gradient: it stays in cache
LINE = 16                                       # floats of a cache line


@kernel(SUMS)
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


@kernel(SUMS)
def activate_backward(dy, y, kind):
    """The adjoint for output y, in place; that of a ReLU is `masked_product`."""
    if kind == LEAKY_RELU:
        for j in range(y.size):
            dy[j] = dy[j] if y[j] > f4(0) else dy[j] * LEAK
    elif kind == TANH:
        for j in range(y.size):
            dy[j] *= f4(1) - y[j] * y[j]


@kernel(SUMS)
def pick(c, a, mem, ints, examples):
    group, groups, S, index, ld_index, count, w, w_rows, bias, y, ld_y, activation = a[2:14]
    panel, first = c // groups, c % groups * group
    w, column = w + panel * w_rows * PICK_PANEL, panel * PICK_PANEL
    for r in range(first, min(first + group, examples * S)):
        out = y + r * ld_y + column
        picked(mem, ints, index + r * ld_index, w, PICK_PANEL, bias + column, out, np.int64(ints[count + r]))
        activate(mem[out:out + PICK_PANEL], activation)


@kernel(SUMS)
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


@kernel(SUMS)
def backward(c, a, mem, scratch):
    panels, all_panels, tiles, groups, all_tiles, dy, ld_dy, w, w_rows, w_panel, inner, dx, ld_dx, y, ld_y = a[2:17]
    activation, zero = a[17:19]
    start, first = c // groups * panels, c % groups * tiles
    for p in range(start, min(start + panels, all_panels)):
        backward_panel(p * PANEL, first, min(first + tiles, all_tiles), dy, ld_dy, w, w_rows, w_panel, inner, dx, ld_dx,
                       y, ld_y, activation, zero, mem, scratch)


@kernel(SUMS)
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


@kernel(SUMS)
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


@kernel(SUMS)
def update(mem, g, p, span, scalars):
    """`updates.adaptive` on the contiguous parameters p with gradient g, moments span and 2 span behind."""
    n = g.size
    s0, s1, s2, s3, s4 = mem[scalars], mem[scalars + 1], mem[scalars + 2], mem[scalars + 3], mem[scalars + 4]
    P, m, v = mem[p:p + n], mem[p + span:p + span + n], mem[p + 2 * span:p + 2 * span + n]
    for j in range(n):
        m[j] += s1 * (g[j] - m[j])
        v[j] += s2 * (g[j] * g[j] - v[j])
        P[j] -= s0 * m[j] / (s3 * np.sqrt(v[j]) + s4)


@kernel(SUMS)
def fetch_row(mem, row, first, end):
    """Ask for entries first .. end of a row."""
    for at in range(row + first, row + end, LINE):
        fetch(mem, at)


@kernel(SUMS)
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


@kernel(SUMS)
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


@kernel(SUMS)
def picked_weight_gradient(c, a, mem, ints, examples, scalars, scratch):
    group, groups, rows, ld_rows, rows_count, inner, dy, ld_dy, w, w_rows, bias, span, S = a[2:15]
    panel, first = c // groups, c % groups * group
    dy, w = dy + panel * PICK_PANEL, w + panel * w_rows * PICK_PANEL
    for i in range(first, min(first + group, inner)):
        n = np.int64(ints[rows_count + i])
        picked_gradient(mem, ints, rows + i * ld_rows, dy, ld_dy, w + i * PICK_PANEL, span, n, scalars)
    if first == 0:
        update_bias(mem, dy, ld_dy, examples * S, PICK_PANEL, bias + panel * PICK_PANEL, span, scalars, scratch)
