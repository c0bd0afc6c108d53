"""Jobs of a layer whose matrix products take bfloat16 operands, as `layers` and `update` write those of float32."""
from __future__ import annotations

from npdvae.fused.memory import up
from npdvae.kernels.cpu.bfloat16 import SIDE, STEP
from npdvae.kernels.cpu.fused_bfloat16 import BLOCK
from npdvae.kernels.cpu.target import PANEL

CHUNKS = 8                                      # of a stage, at least: each rounds what it reads
GROUP = 16                                      # tiles of rows in a chunk, at most
PANELS, TILES = 7, 4                            # of the weight in a chunk of its gradient; tiles of STEP rows


def shares(frame, S, all_panels, panels=None):
    """Panels and tiles of rows in a chunk, how many groups of such tiles, and all tiles."""
    tiles = up(frame.batch * S, SIDE) // SIDE
    groups = -(-tiles // GROUP)
    if panels is None:
        panels = -(-all_panels * groups // CHUNKS)
    else:
        groups = max(groups, -(-CHUNKS // -(-all_panels // panels)))
    size = up(-(-tiles // groups), 2)           # tiles are multiplied by twos
    return dict(panels=panels, all_panels=all_panels, tiles=size, groups=-(-tiles // size), all_tiles=tiles)


def chunks(share):
    return -(-share["all_panels"] // share["panels"]) * share["groups"]


def scratch(layers):
    """Floats of work of a layer: words of a chunk's rows, of a panel of the weight, and of a tile to turn."""
    width = max(up(max(l.inputs, l.outputs), STEP) for l in layers)
    return GROUP * SIDE * (width // 2 + SIDE) + width // 2 * PANEL + SIDE * SIDE


def dense(frame, l, x, y, S, activation, cost, panels):
    """As `layers.dense`, with so many panels in a chunk where there is a cost."""
    share = shares(frame, S, l.panels, panels)
    return ("dense_bfloat16", chunks(share), dict(
        **share, x=x.offset, ld_x=x.ld, w=l.weight, w_rows=l.rows, bias=l.bias, y=y.offset, ld_y=y.ld,
        inner=up(l.inputs, STEP), activation=activation, target=cost.target.offset, ld_target=cost.target.ld,
        width=l.outputs, S=S, loss=cost.loss.offset, parts=cost.loss.ld))


def backward(frame, l, dy, dx, y, S, activation):
    """As `layers.backward`."""
    share = shares(frame, S, -(-l.inputs // PANEL))
    return ("backward_bfloat16", chunks(share), dict(
        **share, dy=dy.offset, ld_dy=dy.ld, w=l.weight, w_rows=l.rows, w_panel=l.panel, inner=up(l.outputs, STEP),
        dx=dx.offset, ld_dx=dx.ld, y=y.offset, ld_y=y.ld, activation=activation, zero=frame.zero))


def gradient_scratch():
    """Floats of work of a weight gradient: words of its rows, a chunk's sums, words of a panel or the biases' sums."""
    inputs = TILES * STEP
    return inputs * (BLOCK // 2 + SIDE) + PANELS * PANEL * inputs + PANEL * max(BLOCK // 2, PANELS)


def weight_gradient(frame, l, x, dy, S, span):
    """As `Update.weight_gradient`."""
    all_tiles = up(l.inputs, STEP) // STEP
    share = dict(panels=PANELS, all_panels=l.panels, tiles=TILES, groups=-(-all_tiles // TILES), all_tiles=all_tiles)
    return ("weight_gradient_bfloat16", chunks(share), dict(
        **share, x=x.offset, ld_x=x.ld, dy=dy.offset, ld_dy=dy.ld, w=l.weight, w_rows=l.rows, bias=l.bias, span=span,
        S=S, zero=frame.zero))
