"""The plan of a step in segments, between which Python runs latent, likelihood and small updates.

    A pixels, encoder | B decoder, cost | C decoder backward | W weights of rows | D encoder backward | U update

Where the latent reads no gradient at its rows, C is empty and W is the decoder's backward. Where the update needs the
whole gradient first, U keeps that, Q sums its squares, and E is the update.
"""
from __future__ import annotations

from typing import NamedTuple

import numpy as np

from npdvae.fused.encoder import Encoder
from npdvae.fused.frame import PARTS, Frame, in_float32
from npdvae.fused.memory import LINE, Region, layers, up
from npdvae.fused.plan import MOST_STEPS, encode
from npdvae.fused.sampled import Sampled
from npdvae.fused.update import Update
from npdvae.kernels.cpu import jobs
from npdvae.kernels.cpu.target import PICK_PANEL

A, B, C, W, D, U, Q, E = range(1, 9)            # how many segments are done when one is


class Rows(NamedTuple):
    """What a latent has the decoder read, for each example."""

    samples: int                                # S
    picks: int                                  # codes of a row, or 0 where rows are floats


class Program(NamedTuple):
    """Tables for `work`: jobs, stages, and the stages of each segment."""

    table: np.ndarray
    stages: np.ndarray
    segments: np.ndarray

    @classmethod
    def of(cls, segments):
        table, stages = encode([stage for segment in segments for stage in segment])
        ends = np.cumsum([0, *map(len, segments)])
        return cls(table, stages, np.stack([ends[:-1], ends[1:]], 1))


class SegmentPlan:
    """Offsets, tables and layers of one model at one batch size; mode, levels and sparse are the encoder's.

    costs: whether the likelihood's cost stands behind the decoder; whole: whether there are Q and E; turns: the
    most of one call of the workers; bfloat16: whether products round their operands. needs_dz: whether C goes on to the
    rows.
    """

    def __init__(self, model, batch, rows: Rows, costs, mode, levels, sparse, whole=False, turns=MOST_STEPS,
                 bfloat16=False):
        self.batch, self.levels, self.needs_dz, self.whole = batch, levels, model.latent.needs_dz, whole
        self.end = E if whole else U
        region, integers = Region(), Region()
        encoder = layers(region, "encoder", model.encoder.sizes, sparse)
        decoder = layers(region, "decoder", model.decoder.sizes, rows.picks > 0)
        self.layers, self.span = encoder + decoder, region.size
        region.take((3 if whole else 2) * self.span)    # first and second moments, the whole gradient
        self.scalars = region.take((turns + 1) * jobs.STEP_SCALARS)
        latents = max(rows.picks, 1)
        f = self.frame = Frame(batch, model.pixels, latents, model.decoder.sizes[0] // latents, rows.samples,
                               jobs.ACTIVATIONS[model.encoder.activation], False, region.take(PICK_PANEL),
                               bfloat16)
        self.encoder = Encoder(f, encoder, mode, levels, sparse, region, integers)
        self.decoder = Sampled(f, decoder, self.encoder.x, region, integers, rows.picks == 0, costs)
        self.once = self.decoder.once()         # for an evaluation
        self.weights = region.take(batch * rows.samples)
        self.update = Update(f, self.span)
        self.scratch_size = up(max(part.scratch for part in (self.encoder, self.decoder, self.update)), 16)
        self.i_scratch_size = up(self.encoder.i_scratch, 16)
        self.region, self.integers = region, integers

    def build(self, workers):
        """mem, ints, and offsets of the scratch of both kinds."""
        scratch = self.region.take(workers * self.scratch_size)
        i_scratch = self.integers.take(workers * self.i_scratch_size)
        mem, ints = self.region.array(np.float32), self.integers.array(np.int32)
        self.decoder.fill(ints)
        return mem, ints, scratch, i_scratch

    def training(self) -> Program:
        """A step. Nothing is updated before its last segment."""
        encoder, decoder, dh = self.encoder, self.decoder, self.decoder.dh
        if self.needs_dz:                       # unweighted down to the rows
            back, weigh = decoder.backward(to_codes=True), [[self.weigh(i) for i in range(len(dh))]]
        else:
            back, weigh = [], decoder.backward(to_codes=False)
            if decoder.costs:                   # another likelihood has weighted its gradient
                weigh = [[self.weigh(len(dh) - 1)], *weigh]
        segments = [encoder.forward(), decoder.forward(), back, weigh, encoder.backward(), [self.updates()]]
        if self.whole:
            segments = [*segments, [[self.on_all("squares")]], [[self.on_all("apply")]]]
        return Program.of(segments)

    def evaluation(self) -> Program:
        """Forward alone, with one row for each example, in float32."""
        return Program.of([in_float32(self.encoder).forward(), in_float32(self.once).forward()])

    def weigh(self, i):
        """Rows of the gradient at layer i's output times their weights."""
        f, y = self.frame, self.decoder.dh[i]
        group = max(1, f.batch * f.S // PARTS)
        return ("weigh_rows", -(-f.batch * f.S // group), dict(
            group=group, S=f.S, weights=self.weights, y=y.offset, ld_y=y.ld, width=self.decoder.layers[i].outputs))

    def on_all(self, kind):
        """A job on all parameters of layers."""
        group = up(-(-self.span // PARTS), LINE)
        return (kind, -(-self.span // group), dict(group=group, span=self.span))

    def updates(self):
        """Every weight, behind its gradient."""
        update, encoder, decoder, S = self.update, self.encoder, self.decoder, self.frame.S
        l, dy = decoder.layers[0], decoder.dh[0]
        first = (update.weight_gradient(l, decoder.rows, dy, S) if decoder.rows
                 else update.picked_weight_gradient(l, decoder.codes, dy, S))
        return [*update.hidden(decoder, S), *update.hidden(encoder, 1), first, update.first(encoder)]
