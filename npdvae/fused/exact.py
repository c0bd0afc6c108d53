"""The decoder of all codes, for the exact gradient: each is decoded once for the batch, and its activations kept."""
from __future__ import annotations

import math

import numpy as np

from npdvae.estimators.parts.outcomes import all_codes
from npdvae.fused.memory import SIDE, Matrix, matrix, up
from npdvae.fused.update import PICKED_GROUPS, weight_groups
from npdvae.kernels.cpu import code_cost
from npdvae.kernels.cpu.target import LANES, PANEL, PICK_PANEL, ROWS

MOST_ACTIVATIONS = 2 ** 13                      # codes: beyond, their activations would fill the memory
UNIT = math.lcm(ROWS, LANES)                    # rows of codes come in whole tiles and vectors
CODES = 96                                      # about as many go through the decoder in one go: they stay in cache
PARTS = 8                                       # or fewer, where so many chunks would not be filled


class Exact:
    """q(z|x) [B, D K] -> outputs h of each layer for every code [C, outputs], costs [C, B], gradients dh and dlogits.

    Codes of next to no probability in the batch are left out, see `code_choice`; q, costs and images lie in columns,
    one for each example.
    """

    def __init__(self, frame, layers, span, encoder, latent, region, integers):
        self.frame, self.layers, self.span, self.encoder, self.latent = frame, layers, span, encoder, latent
        B, P, D, K = frame.batch, frame.pixels, frame.D, frame.K
        self.C = K ** D
        rows = up(self.C, UNIT)
        self.group = up(-(-self.C // -(-self.C // CODES)), UNIT)
        self.chunks = max(-(-rows // self.group), min(PARTS, rows // UNIT))
        self.h = [matrix(region, rows, l.outputs) for l in layers]                      # [C, outputs]
        self.dh = [matrix(region, rows, l.outputs) for l in layers[:-1]] + self.h[-1:]  # the last takes their place
        self.ld = up(B, PANEL)
        self.shares, self.costs = (region.take(rows * self.ld) for _ in range(2))       # q(z|x) and cost, [C, B]
        self.q_columns = region.take(up(D * K, LANES) * self.ld)                        # [D K, B]
        self.x_columns = region.take(up(P, LANES) * self.ld)                            # [P, B]
        self.turned = [region.take(up(l.inputs, PANEL) * up(l.outputs, LANES)) for l in layers]
        self.loss = Matrix(region.take(B), 1)                                           # E_q[cost]
        self.weights = region.take(self.C)
        self.all_codes, self.codes = integers.take(self.C * D), integers.take(rows * D)     # of them, those in use
        self.rows, self.ld_rows, self.rows_count = integers.take(D * self.C), self.C // K, integers.take(D * K)
        self.extent = integers.take(2)                                                  # codes in use, and in a chunk
        self.scratch = max(code_cost.TILES * ROWS * up(P, PANEL), (3 + D * K) * SIDE,
                           (up(P, LANES) + 2 * up(B, LANES) + 4) * PICK_PANEL)

    def fill(self, mem, ints):
        """Write what never changes: all codes, as numbers of the decoder's inputs."""
        D, K = self.frame.D, self.frame.K
        picks = all_codes(np, D, K) + K * np.arange(D)                                  # [C, D]
        ints[self.all_codes:self.all_codes + picks.size] = picks.reshape(-1)

    def turn_images(self):
        """Images to columns, where they are no lists of ones."""
        x = self.encoder.x
        return [] if self.encoder.sparse else [self.turn(self.frame.pixels, x, self.x_columns)]

    def choose(self):
        """Stages: q(z|x) to columns, with the weights as `code_backward` reads them; then the codes worth decoding."""
        weights = [self.turn_weight(i) for i in range(1, len(self.layers))]
        return [[self.turn(self.frame.D * self.frame.K, self.latent.q, self.q_columns), *weights],
                [self.code_weights()], [self.code_list()]]

    def decode(self):
        """What a chunk of codes goes through: from the codes to the gradient at each activation."""
        last, kinds = len(self.layers) - 1, self.frame.activations(len(self.layers))
        forward = [self.pick(kinds[0]), *(self.dense(i, kinds[i]) for i in range(1, last + 1))]
        return [*forward, self.cost(), *(self.backward(i) for i in reversed(range(1, last + 1)))]

    def turn(self, width, source, target):
        group = up(-(-width // 8), LANES)
        return ("turn", -(-width // group), dict(group=group, width=width, source=source.offset, ld_source=source.ld,
                                                 target=target, ld_target=self.ld))

    def turn_weight(self, i):
        l = self.layers[i]
        return ("turn_weight", -(-l.inputs // PANEL), dict(w=l.weight, w_rows=l.rows, inner=up(l.outputs, LANES),
                                                           target=self.turned[i]))

    def code_weights(self):
        return ("code_weights", -(-self.C // self.group), dict(
            group=self.group, codes=self.C, D=self.frame.D, i_index=self.all_codes, qt=self.q_columns,
            q=self.shares, ld=self.ld, weights=self.weights))

    def code_list(self):
        return ("code_list", 1, dict(
            codes=self.C, D=self.frame.D, K=self.frame.K, i_all_codes=self.all_codes, weights=self.weights,
            longest=self.group, unit=UNIT, parts=PARTS, i_index=self.codes, i_rows=self.rows, ld_rows=self.ld_rows,
            i_rows_count=self.rows_count, i_extent=self.extent))

    def pick(self, kind):
        l, y = self.layers[0], self.h[0]
        return ("code_pick", l.panels * self.chunks, dict(
            groups=self.chunks, i_extent=self.extent, i_index=self.codes, D=self.frame.D, w=l.weight,
            w_rows=l.rows, bias=l.bias, y=y.offset, ld_y=y.ld, activation=kind))

    def dense(self, i, kind):
        l, x, y = self.layers[i], self.h[i - 1], self.h[i]
        return ("code_dense", l.panels * self.chunks, dict(
            groups=self.chunks, i_extent=self.extent, x=x.offset, ld_x=x.ld, w=l.weight, w_rows=l.rows, bias=l.bias,
            y=y.offset, ld_y=y.ld, inner=l.inputs, activation=kind))

    def backward(self, i):
        l, dy, dx, y = self.layers[i], self.dh[i], self.dh[i - 1], self.h[i - 1]
        return ("code_backward", -(-l.inputs // PANEL) * self.chunks, dict(
            groups=self.chunks, i_extent=self.extent, dy=dy.offset, ld_dy=dy.ld, turned=self.turned[i],
            inner=up(l.outputs, LANES), dx=dx.offset, ld_dx=dx.ld, y=y.offset, ld_y=y.ld,
            activation=self.frame.activation, zero=self.frame.zero))

    def cost(self):
        logits, x, ones = self.h[-1], self.encoder.x, self.encoder.ones
        shared = dict(i_extent=self.extent, width=self.frame.pixels, D=self.frame.D, i_index=self.codes,
                      qt=self.q_columns, logits=logits.offset, ld_logits=logits.ld, q=self.shares, f=self.costs,
                      ld=self.ld, zero=self.frame.zero)
        if self.encoder.sparse:
            return ("code_cost_listed", self.chunks, dict(
                **shared, i_ones=ones.index, ld_ones=ones.ld_index, i_ones_count=ones.count, i_lit=ones.rows,
                ld_lit=ones.ld_rows, i_lit_count=ones.rows_count))
        return ("code_cost", self.chunks, dict(**shared, x=x.offset, ld_x=x.ld, xt=self.x_columns))

    def latent_backward(self):
        """The gradient at the encoder's logits from the costs of all codes."""
        f, dlogits = self.frame, self.encoder.dlogits
        return ("code_latent_backward", -(-f.batch // SIDE), dict(
            group=SIDE, D=f.D, K=f.K, i_extent=self.extent, i_index=self.codes, q=self.shares,
            f=self.costs, ld=self.ld, dkl=self.latent.dkl.offset, ld_h=dlogits.ld, dh=dlogits.offset,
            loss=self.loss.offset, pixels=f.pixels))

    def weight_gradients(self):
        """Of all layers but the first, from the last one on."""
        return [self.weight_gradient(i) for i in reversed(range(1, len(self.layers)))]

    def weight_gradient(self, i):
        l, x, dy = self.layers[i], self.h[i - 1], self.dh[i]
        panels, tiles, groups, all_tiles = weight_groups(l)
        return ("code_weight_gradient", -(-l.panels // panels) * groups, dict(
            panels=panels, all_panels=l.panels, tiles=tiles, groups=groups, all_tiles=all_tiles, i_extent=self.extent,
            x=x.offset, ld_x=x.ld, dy=dy.offset, ld_dy=dy.ld, w=l.weight, w_rows=l.rows, bias=l.bias, span=self.span))

    def picked_weight_gradient(self):
        l, dy = self.layers[0], self.dh[0]
        group = -(-l.inputs // PICKED_GROUPS)
        groups = -(-l.inputs // group)
        return ("code_picked_weight_gradient", l.panels * groups, dict(
            group=group, groups=groups, i_extent=self.extent, i_rows=self.rows, ld_rows=self.ld_rows,
            i_rows_count=self.rows_count, inner=l.inputs, dy=dy.offset, ld_dy=dy.ld, w=l.weight, w_rows=l.rows,
            bias=l.bias, span=self.span))
