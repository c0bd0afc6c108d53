"""The first layer of a large batch of binary images, whose lists are of fours of neighbouring pixels, not of pixels.

A four that is lit picks one row of a table: the sum of the rows of the weight at its ones, for each of 15 patterns.
"""
from __future__ import annotations

from npdvae.fused.memory import Lists
from npdvae.kernels.cpu.fused_fours import PATTERNS
from npdvae.kernels.cpu.target import PICK_PANEL

EXAMPLES = 1024                                 # of a block, whose rows of a panel stay in cache
MOST_INPUTS = 1024                              # whose table does
ROW_PARTS, LEAST_ROWS = 4, 512                  # chunks of a batch, of at least so many rows: each makes its own table
GRADIENT_PARTS = 4                              # of the fours, in chunks of the weight's gradient


def worth(frame, layer):
    """Whether the first layer's rows are so many that a table pays, and its inputs so few that it stays in cache."""
    return frame.long(1) and layer.inputs <= MOST_INPUTS


class Fours:
    """Lists of the numbers of fours [B, fours], and of their examples."""

    def __init__(self, frame, layer, integers):
        self.frame, self.layer = frame, layer
        self.count, B = -(-layer.inputs // 4), frame.batch
        self.blocks = -(-B // EXAMPLES)
        self.lists = Lists(integers.take(B * self.count), self.count, integers.take(B),
                           integers.take(self.blocks * EXAMPLES * self.count), EXAMPLES,
                           integers.take(self.blocks * PATTERNS * self.count))
        self.group = -(-self.count // GRADIENT_PARTS)
        self.scratch, self.i_scratch = (PATTERNS + 1) * self.count * PICK_PANEL, PATTERNS * self.count

    def forward(self, y, activation):
        """Lists of examples; y = activation(x w + bias)."""
        l, lists, B = self.layer, self.lists, self.frame.batch
        group = max(LEAST_ROWS, -(-B // ROW_PARTS))
        groups = -(-B // group)
        return [("invert_fours", self.blocks, dict(
            group=EXAMPLES, fours=self.count, i_index=lists.index, ld_index=lists.ld_index, i_count=lists.count,
            i_rows=lists.rows, i_rows_count=lists.rows_count)), ("pick_fours", l.panels * groups, dict(
                group=group, groups=groups, fours=self.count, i_index=lists.index, ld_index=lists.ld_index,
                i_count=lists.count, w=l.weight, w_rows=l.rows, bias=l.bias, y=y.offset, ld_y=y.ld,
                activation=activation))]

    def weight_gradient(self, dy, span):
        """The update of the weight and its bias."""
        l, lists, groups = self.layer, self.lists, -(-self.count // self.group)
        return ("fours_weight_gradient", l.panels * groups, dict(
            group=self.group, groups=groups, fours=self.count, block=EXAMPLES, i_rows=lists.rows,
            i_rows_count=lists.rows_count, inner=l.inputs, dy=dy.offset, ld_dy=dy.ld, w=l.weight, w_rows=l.rows,
            bias=l.bias, span=span, zero=self.frame.zero))
