"""The encoder of a fused step: targets of the batch, logits of their codes, and the gradients of its activations."""
from __future__ import annotations

from npdvae.fused.fours import Fours, worth
from npdvae.fused.layers import backward, dense, invert, pick, scratch
from npdvae.fused.memory import lists, matrix, up
from npdvae.kernels.cpu.target import LANES


class Encoder:
    """Images -> targets x [B, P] -> outputs h of each layer, the last of them the logits [B, D K]; gradients dh.

    mode: one of jobs.PIXEL_MODES; levels of byte images, 0 for float images; sparse: whether images are lists of ones;
    fours: whether these may be lists of fours in a large batch.
    """

    def __init__(self, frame, layers, mode, levels, sparse, region, integers, fours=True):
        self.frame, self.layers, self.mode, self.levels, self.sparse = frame, layers, mode, levels, sparse
        B, P = frame.batch, frame.pixels
        self.x = matrix(region, B, P)                               # [B, P]
        self.fours = Fours(frame, layers[0], integers) if fours and sparse and worth(frame, layers[0]) else None
        self.ones = self.fours.lists if self.fours else lists(integers, B, P, P)
        self.h = [matrix(region, B, l.outputs) for l in layers]     # [B, outputs]
        self.dh = [matrix(region, B, l.outputs) for l in layers]
        self.thresholds = integers.take(256)                        # of drawn pixels, for each value of a byte
        self.scratch = max(scratch(frame, layers), self.fours.scratch if self.fours else 0)
        self.i_scratch = max(6 * up(P, 4) // 4 + 5 * LANES, self.fours.i_scratch if self.fours else 0)

    @property
    def logits(self):
        return self.h[-1]

    @property
    def dlogits(self):
        return self.dh[-1]

    def forward(self):
        """Stages: pixels, then a layer each."""
        f, layers, h = self.frame, self.layers, self.h
        kinds = f.activations(len(layers))
        return [[self.pixels()], self.first(kinds[0]),
                *([dense(f, layers[i], h[i - 1], h[i], 1, kinds[i])] for i in range(1, len(layers)))]

    def backward(self):
        """Stages: from the gradient at the logits to that at the first layer's output, a layer each."""
        f, layers, h, dh = self.frame, self.layers, self.h, self.dh
        return [[backward(f, layers[i], dh[i], dh[i - 1], h[i - 1], 1)] for i in reversed(range(1, len(layers)))]

    def pixels(self):
        group, ones = self.frame.examples, self.ones
        return ("pixels", -(-self.frame.batch // group), dict(
            group=group, width=self.frame.pixels, x=self.x.offset, ld_x=self.x.ld,
            i_index=ones.index if self.sparse else -1, ld_index=ones.ld_index, i_count=ones.count, mode=self.mode,
            i_thresholds=self.thresholds, levels=self.levels, fours=int(self.fours is not None)))

    def first(self, kind):
        f, l, y = self.frame, self.layers[0], self.h[0]
        if self.fours:
            return self.fours.forward(y, kind)
        if self.sparse:
            return [invert(self.ones, f.pixels, 1), pick(f, l, self.ones, y, 1, kind)]
        return [dense(f, l, self.x, y, 1, kind)]
