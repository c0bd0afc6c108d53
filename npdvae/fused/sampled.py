"""The decoder of sampled codes: their cost, and the gradients from there back to the codes."""
from __future__ import annotations

import copy

from npdvae.fused.layers import COST_PANELS, NO_COST, Cost, backward, dense, invert, pick, scratch
from npdvae.fused.memory import Matrix, lists, matrix


class Sampled:
    """Codes [B S, D] -> outputs h of each layer, the last of them the pixels' logits [B S, P] -> cost; gradients dh.

    floats: it reads rows [B S, D K] in place of codes; costs: whether the cost stands behind the last layer; trains:
    whether there is more than `forward`.
    """

    def __init__(self, frame, layers, x, region, integers, floats=False, costs=True, trains=True):
        self.frame, self.layers, self.costs, self.trains = frame, layers, costs, trains
        rows = frame.batch * frame.S
        self.codes = lists(integers, rows, frame.D, frame.D * frame.K * trains)         # numbers d K + k, [B S, D]
        self.rows = matrix(region, rows, frame.D * frame.K) if floats else None         # [B S, D K]
        self.h = [matrix(region, rows, l.outputs) for l in layers]                      # [B S, outputs]
        if trains:
            self.dh = [matrix(region, rows, l.outputs) for l in layers[:-1]] + self.h[-1:]      # in place of the last
            self.dcodes = matrix(region, rows, frame.D * frame.K)
        parts = 1 if frame.long(frame.S) else -(-layers[-1].panels // COST_PANELS)
        self.cost = Cost(x, Matrix(region.take(rows * parts), parts))
        self.scratch = scratch(frame, layers)

    def once(self):
        """The same on the same memory, of one sample."""
        other = copy.copy(self)
        other.frame = self.frame._replace(S=1)
        return other

    def fill(self, ints):
        """Write what never changes: each row picks D numbers."""
        f = self.frame
        ints[self.codes.count:self.codes.count + f.batch * f.S] = f.D

    def forward(self):
        """Stages, a layer each; the last one leaves the cost and its gradient at the pixels' logits."""
        f, layers, h = self.frame, self.layers, self.h
        kinds, last, cost = f.activations(len(layers)), len(layers) - 1, self.cost if self.costs else NO_COST
        stages = [self.first(kinds[0])]
        if last == 0:                           # which leaves its cost to others
            return stages
        stages += [[dense(f, layers[i], h[i - 1], h[i], f.S, kinds[i])] for i in range(1, last)]
        return [*stages, [dense(f, layers[last], h[last - 1], h[last], f.S, kinds[last], cost)]]

    def first(self, kind):
        f, l, y = self.frame, self.layers[0], self.h[0]
        if self.rows:
            return [dense(f, l, self.rows, y, f.S, kind)]
        inverse = [invert(self.codes, f.D * f.K, f.S)] if self.trains else []
        return [*inverse, pick(f, l, self.codes, y, f.S, kind)]

    def backward(self, to_codes):
        """Stages, a layer each, to the first layer's output or on to the codes."""
        f, layers, h, dh = self.frame, self.layers, self.h, self.dh
        stages = [[backward(f, layers[i], dh[i], dh[i - 1], h[i - 1], f.S)] for i in reversed(range(1, len(layers)))]
        return stages + ([[backward(f, layers[0], dh[0], self.dcodes, None, f.S)]] if to_codes else [])
