"""The sizes of a fused step, and in what chunks its rows are worked on."""
from __future__ import annotations

import copy
from typing import NamedTuple

from npdvae.fused.memory import SIDE, up
from npdvae.kernels.cpu import jobs
from npdvae.kernels.cpu.target import LANES, ROWS

LONG = 512                                      # rows beyond which they are worked on in groups that stay in cache
GROUP = 16                                      # tiles of rows in such a group
PARTS = 16                                      # chunks of one stage of examples: enough to balance a few workers


class Frame(NamedTuple):
    """What all parts of a plan know. The encoder has a row for each example, a decoder S rows, one for each sample."""

    batch: int
    pixels: int
    D: int
    K: int
    S: int
    activation: int                             # of hidden layers
    chained: bool                               # whether chunks go through most of a step in one go, see `Plan.chains`
    zero: int                                   # offset of zeros: the bias of a product without one
    bfloat16: bool = False                      # whether products round their operands to bfloat16

    @property
    def examples(self):
        """Examples of one chunk."""
        return 2 * ROWS if self.chained else max(1, self.batch // PARTS)

    @property
    def side(self):
        """Examples of one chunk where they are computed side by side."""
        return self.examples if self.chained else up(min(self.batch, SIDE), LANES)

    def activations(self, layers):
        """The activation behind each of so many layers."""
        return [self.activation] * (layers - 1) + [jobs.LINEAR]

    def long(self, S):
        """Whether S rows an example are worked on in groups; in a chain they are already."""
        return self.batch * S > LONG and not self.chained

    def row_groups(self, S, chunks):
        """Tiles of rows in a chunk, how many such groups, and all tiles: rows are split where there are few chunks."""
        tiles = up(self.batch * S, ROWS) // ROWS
        if self.chained:
            size = self.examples * S // ROWS
        elif self.long(S):
            size = GROUP
        else:
            size = -(-tiles // min(tiles, -(-PARTS // chunks)))
        return size, -(-tiles // size), tiles


def in_float32(part):
    """The same part on the same memory, with products of float32."""
    other = copy.copy(part)
    other.frame = part.frame._replace(bfloat16=False)
    return other
