"""Jobs of a layer, forward and backward, on S rows of each example; a job is (kind, chunks, arguments by name)."""
from __future__ import annotations

from typing import NamedTuple

from npdvae.fused import bfloat16
from npdvae.fused.frame import PARTS
from npdvae.fused.memory import Matrix, up
from npdvae.kernels.cpu import jobs
from npdvae.kernels.cpu.target import LANES, PANEL

COST_PANELS = 7                                 # of pixels in one chunk: long rows, whose cost is vectorised well
COST_TILES = 4                                  # of many rows in one chunk: all their pixels wait for it in cache


class Cost(NamedTuple):
    """Targets of the decoder's last layer, and where each row's cost goes, in as many parts as `loss` has columns."""

    target: Matrix
    loss: Matrix


NO_COST = Cost(Matrix(-1, 0), Matrix(0, 0))     # of all other layers


def scratch(frame, layers):
    """Floats of work that a layer needs: a panel of the weight, turned."""
    if frame.bfloat16:
        return bfloat16.scratch(layers)
    return max(up(l.outputs, LANES) for l in layers) * PANEL


def dense(frame, l, x, y, S, activation, cost=NO_COST):
    """y = activation(x w + bias); where there is a cost, its gradient takes the place of y."""
    panels = l.panels if frame.long(S) or cost.loss.ld == 1 else 1 if cost is NO_COST else COST_PANELS
    if frame.bfloat16:
        return bfloat16.dense(frame, l, x, y, S, activation, cost, None if cost is NO_COST else panels)
    chunks = -(-l.panels // panels)
    tiles, groups, all_tiles = frame.row_groups(S, chunks)
    if frame.long(S) and cost is not NO_COST:
        tiles, groups = COST_TILES, -(-all_tiles // COST_TILES)
    return ("dense", chunks * groups, dict(
        panels=panels, all_panels=l.panels, tiles=tiles, groups=groups, all_tiles=all_tiles, x=x.offset, ld_x=x.ld,
        w=l.weight, w_rows=l.rows, bias=l.bias, y=y.offset, ld_y=y.ld, inner=l.inputs, activation=activation,
        target=cost.target.offset, ld_target=cost.target.ld, width=l.outputs, S=S, loss=cost.loss.offset,
        parts=cost.loss.ld))


def backward(frame, l, dy, dx, x, S):
    """dx = (dy w^T) activation'(x), for the x that an activation gave; x = None where it is codes."""
    y, kind = x or dx, frame.activation if x else jobs.LINEAR
    if frame.bfloat16:
        return bfloat16.backward(frame, l, dy, dx, y, S, kind)
    all_panels = -(-l.inputs // PANEL)
    panels = all_panels if frame.long(S) else 1
    tiles, groups, all_tiles = frame.row_groups(S, PARTS)
    return ("backward", all_panels // panels * groups, dict(
        panels=panels, all_panels=all_panels, tiles=tiles, groups=groups, all_tiles=all_tiles, dy=dy.offset,
        ld_dy=dy.ld, w=l.weight, w_rows=l.rows, w_panel=l.panel, inner=l.outputs, dx=dx.offset, ld_dx=dx.ld,
        y=y.offset, ld_y=y.ld, activation=kind, zero=frame.zero))


def pick(frame, l, lists, y, S, activation):
    """y = activation(x w + bias) for rows x that are lists of ones."""
    rows = frame.batch * S
    group = frame.examples * S if frame.chained else max(1, rows // PARTS)
    groups = -(-rows // group)
    return ("pick", l.panels * groups, dict(
        group=group, groups=groups, S=S, i_index=lists.index, ld_index=lists.ld_index, i_count=lists.count,
        w=l.weight, w_rows=l.rows, bias=l.bias, y=y.offset, ld_y=y.ld, activation=activation))


def invert(lists, width, S):
    """Which rows picked each of `width` numbers: what the gradient of a picked weight adds up."""
    group = -(-width // 4)
    return ("invert", -(-width // group), dict(
        group=group, width=width, S=S, i_index=lists.index, ld_index=lists.ld_index, i_count=lists.count,
        i_rows=lists.rows, ld_rows=lists.ld_rows, i_rows_count=lists.rows_count))
