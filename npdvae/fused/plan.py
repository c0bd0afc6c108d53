"""The plan of a fused step: stages of jobs on offsets, from the structure of a model. Workers meet between stages."""
from __future__ import annotations

from typing import NamedTuple

import numpy as np

from npdvae.fused.memory import SIDE, Region, layer, matrix, up
from npdvae.kernels.cpu import jobs
from npdvae.kernels.cpu.target import GRADIENT_ROWS, LANES, PANEL, PICK_PANEL, ROWS

MOST_STEPS = 1024                               # of one call of the workers
ACTIVATIONS = {"relu": jobs.RELU, "leaky_relu": jobs.LEAKY_RELU, "tanh": jobs.TANH}
FEW = 1 << 16                                   # parameters that fit a core's own cache, with what else a step reads
LONG = 512                                      # rows beyond which they are worked on in groups that stay in cache
GROUP = 16                                      # tiles of rows in such a group
PANELS, TILES = 7, 22                           # of the weight in one chunk of its gradient over many rows, about
PARTS = 16                                      # chunks of one stage of examples: enough to balance a few workers


class FusedGradient(NamedTuple):
    """The estimator in the form that `jobs` knows."""

    kind: int
    samples: int
    divide: int = 0
    tracks: int = 0                             # whether a running mean of the cost is kept


class Plan:
    """Offsets, tables and the layers of one model at one batch size.

    mode: one of jobs.THRESHOLDED, DRAWN, GREY; levels of byte images, 0 for float images; sparse: whether images
    are lists of ones.
    """

    def __init__(self, model, batch, gradient: FusedGradient, mode, levels, sparse):
        self.batch, self.gradient, self.sparse = batch, gradient, sparse
        D, K = model.latent.latents, model.latent.categories
        self.D, self.K, self.learned = D, K, model.latent.prior.name == "learned"
        self.activation = ACTIVATIONS[model.encoder.activation]
        S = gradient.samples
        region = Region()
        self.encoder = self.layers(region, "encoder", model.encoder.sizes, sparse)
        self.decoder = self.layers(region, "decoder", model.decoder.sizes, True)
        self.prior = region.take(D * K)
        self.span = region.size
        self.chained = self.chains()
        self.examples = 2 * ROWS if self.chained else max(1, batch // PARTS)    # of one chunk
        region.size *= 3                        # parameters, then first and second moments
        self.scalars = region.take((MOST_STEPS + 1) * jobs.STEP_SCALARS)
        self.zero, self.floor = region.take(PICK_PANEL), region.take(1)
        self.uniform = region.take(D * K)       # log p(z) of the uniform prior, or of the learned one
        integers = Region()
        self.images = matrix(region, batch, model.pixels)
        self.side = self.examples if self.chained else up(min(batch, SIDE), LANES)
        self.kl = region.take(batch * D)
        rows = batch * S
        self.rows = rows
        # activations h, their gradients g; encoder then decoder, the output of each layer
        self.h = [matrix(region, batch, x.outputs) for x in self.encoder] + [matrix(region, rows, x.outputs)
                                                                            for x in self.decoder]
        self.g = [matrix(region, batch, x.outputs) for x in self.encoder] + [matrix(region, rows, x.outputs)
                                                                            for x in self.decoder[:-1]]
        self.dkl, self.q = (region.take(up(batch, SIDE) * self.logits.ld) for _ in range(2))
        self.dcodes = matrix(region, rows, D * K)
        self.loss_ld = -(-self.decoder[-1].panels // self.loss_panels)
        self.loss = region.take(rows * self.loss_ld)
        widest = max(x.outputs for x in self.encoder + self.decoder)
        self.scratch_size = max(up(widest, LANES) * PANEL, up(widest, PICK_PANEL), 3 * D * K, S,
                                PANELS * (TILES + 1) * GRADIENT_ROWS * PANEL + PANELS * PANEL,
                                (2 * up(D * K, LANES) + 5) * up(self.side, LANES)) + jobs.STEP_SCALARS
        self.scratch_size = up(self.scratch_size, 16)
        self.lists = self.take_lists(integers, batch, model.pixels, model.pixels)
        self.codes = self.take_lists(integers, rows, D, D * K)
        self.thresholds, self.numbers = integers.take(256), integers.take(up(D, LANES))
        self.i_scratch_size = up(max(6 * up(model.pixels, 4) // 4 + 5 * LANES,
                                     4 * up(D, LANES) * up(self.side, LANES)), 16)
        self.pixels = model.pixels
        self.mode, self.levels = mode, levels
        self.region, self.integers = region, integers

    def chains(self):
        """Whether a chunk of examples goes through the step up to the weight gradients in one go: no barriers between.

        That reads every weight for every chunk, which pays where they are few.
        """
        return self.span <= FEW and not self.learned and self.gradient.kind != jobs.LEAVE_ONE_OUT

    @property
    def logits(self):
        """The encoder's output."""
        return self.h[len(self.encoder) - 1]

    @property
    def loss_panels(self):
        """Panels of pixels in one chunk of the last layer: long rows, so that the cost of each is vectorised well."""
        return 7

    @staticmethod
    def layers(region, name, sizes, first_picks):
        return [layer(region, f"{name}.{i}", n, m, first_picks and i == 0)
                for i, (n, m) in enumerate(zip(sizes[:-1], sizes[1:]))]

    @staticmethod
    def take_lists(integers, rows, longest, numbers):
        """Lists of picked numbers per row [rows, longest], and of rows per number [numbers, rows]; with counts."""
        return (integers.take(rows * longest), longest, integers.take(rows),
                integers.take(numbers * rows), rows, integers.take(numbers))

    def build(self, workers):
        """mem, ints, scratch of both kinds, and the tables of training and of evaluation: (jobs, stages) each."""
        scratch = self.region.take(workers * self.scratch_size)
        i_scratch = self.integers.take(workers * self.i_scratch_size)
        mem, ints = self.region.array(np.float32), self.integers.array(np.int32)
        ints[self.numbers:self.numbers + self.D] = np.arange(self.D)
        ints[self.codes[2]:self.codes[2] + self.rows] = self.D
        mem[self.uniform:self.uniform + self.D * self.K] = -np.log(self.K)
        forward, backward = self.forward(), self.backward()
        return mem, ints, scratch, i_scratch, self.program(forward + backward), self.program(
            [*forward, [self.report(0)]])

    def program(self, stages):
        """Tables of the stages; where chunks of examples go through in one go, all but the last are one."""
        if not self.chained:
            return encode(stages)
        *examples, last = stages
        examples = [job for stage in examples for job in stage]
        return encode([[j for j in examples if j[0] != "invert"], [j for j in examples if j[0] == "invert"], last],
                      chained=1)

    def forward(self):
        """Stages up to the cost; the gradient w.r.t. the pixels' logits takes their place."""
        n, stages = len(self.encoder), []
        group = self.examples
        index, ld_index, count = self.lists[:3]
        stages.append([("pixels", -(-self.batch // group), dict(
            group=group, pixels=self.pixels, x=self.images.offset, ld_x=self.images.ld,
            i_index=index if self.sparse else -1, ld_index=ld_index, i_count=count, mode=self.mode,
            i_threshold=self.thresholds, levels=self.levels))])
        if self.learned:
            stages[0].append(("prior", 1, dict(latents=self.D, categories=self.K, logits=self.prior,
                                               log_p=self.uniform)))
        for i in range(n):
            if i == 0 and self.sparse:
                stages.append([self.invert(self.lists, self.pixels, 1),
                               self.pick(self.encoder[0], self.lists, self.h[0], 1, self.batch, n > 1)])
            else:
                x = self.h[i - 1] if i else self.images
                stages.append([self.dense(self.encoder[i], x, self.h[i], self.batch, i < n - 1)])
        stages.append([("latent", -(-self.batch // self.side), dict(
            group=self.side, latents=self.D, categories=self.K, samples=self.gradient.samples, h=self.logits.offset,
            ld_h=self.logits.ld, dkl=self.dkl, q=self.q, log_p=self.uniform, kl=self.kl, i_codes=self.codes[0],
            i_latents=self.numbers, free_bits=self.floor))])
        S, m = self.gradient.samples, len(self.decoder)
        stages.append([self.invert(self.codes, self.D * self.K, S),
                       self.pick(self.decoder[0], self.codes, self.h[n], S, self.rows, m > 1)])
        for i in range(1, m):
            stages.append([self.dense(self.decoder[i], self.h[n + i - 1], self.h[n + i], self.rows, i < m - 1,
                                      cost=i == m - 1)])
        return stages

    def backward(self):
        """Stages from the cost to the update of every parameter."""
        n, m, S = len(self.encoder), len(self.decoder), self.gradient.samples
        through = self.gradient.kind >= jobs.STRAIGHT_THROUGH
        down = [[self.back(self.decoder[i], self.dy(n + i), self.g[n + i - 1], self.h[n + i - 1], self.rows)]
                for i in reversed(range(1, m))]
        if through:
            down.append([self.back(self.decoder[0], self.dy(n), self.dcodes, None, self.rows)])
        encoder = [[self.latent_backward()]]
        encoder += [[self.back(self.encoder[i], self.g[i], self.g[i - 1], self.h[i - 1], self.batch)]
                    for i in reversed(range(1, n))]
        if through:
            stages = down + encoder
        else:                                   # the encoder's gradient needs only the costs: both chains at once
            longest = max(len(down), len(encoder))
            down, encoder = ([[]] * (longest - len(c)) + c for c in (down, encoder))
            stages = [a + b for a, b in zip(down, encoder)]
        last = []
        for i in reversed(range(1, m)):
            last.append(self.gradient_of(self.decoder[i], self.h[n + i - 1], self.dy(n + i), S))
        for i in reversed(range(1, n)):
            last.append(self.gradient_of(self.encoder[i], self.h[i - 1], self.g[i], 1))
        last.append(self.picked_gradient_of(self.decoder[0], self.codes, self.dy(n), S))
        if self.sparse:
            last.append(self.picked_gradient_of(self.encoder[0], self.lists, self.g[0], 1))
        else:
            last.append(self.gradient_of(self.encoder[0], self.images, self.g[0], 1))
        if self.learned:
            last.append(("prior_gradient", 1, dict(
                latents=self.D, categories=self.K, logits=self.prior, log_p=self.uniform, q=self.q, kl=self.kl,
                ld_q=self.logits.ld, span=self.span, free_bits=self.floor)))
        last.append(self.report(self.gradient.tracks))
        return [*stages, last]

    def dy(self, i):
        """Gradient at the output of layer i; that of the pixels' logits lies in their place."""
        return self.g[i] if i < len(self.g) else self.h[i]

    def row_groups(self, rows, chunks):
        """Tiles of rows in a chunk, how many such groups, and all tiles: rows are split where there are few panels."""
        tiles = up(rows, ROWS) // ROWS
        if self.chained:
            size = self.examples * (rows // self.batch) // ROWS
        elif rows > LONG:
            size = GROUP
        else:
            size = -(-tiles // min(tiles, -(-PARTS // chunks)))
        return size, -(-tiles // size), tiles

    def dense(self, l, x, y, rows, activates, cost=False):
        panels = l.panels if self.long(rows) else self.loss_panels if cost else 1
        chunks = -(-l.panels // panels)
        tiles, groups, all_tiles = self.row_groups(rows, chunks)
        return ("dense", chunks * groups, dict(
            panels=panels, all_panels=l.panels, tiles=tiles, groups=groups, all_tiles=all_tiles, x=x.offset, ld_x=x.ld,
            w=l.weight, w_rows=l.rows, bias=l.bias, y=y.offset, ld_y=y.ld, inner=l.inputs,
            activation=self.activation if activates else jobs.LINEAR, target=self.images.offset if cost else -1,
            ld_target=self.images.ld, width=l.outputs, samples=self.gradient.samples, loss=self.loss,
            ld_loss=self.loss_ld))

    def pick(self, l, lists, y, samples, rows, activates):
        group = self.examples * samples if self.chained else max(1, rows // PARTS)
        groups = -(-rows // group)
        return ("pick", l.panels * groups, dict(
            group=group, groups=groups, samples=samples, i_index=lists[0], ld_index=lists[1], i_count=lists[2],
            w=l.weight, w_rows=l.rows, bias=l.bias, y=y.offset, ld_y=y.ld,
            activation=self.activation if activates else jobs.LINEAR))

    def invert(self, lists, width, samples):
        group = -(-width // 4)
        return ("invert", -(-width // group), dict(
            group=group, width=width, samples=samples, i_index=lists[0], ld_index=lists[1], i_count=lists[2],
            i_rows=lists[3], ld_rows=lists[4], i_rows_count=lists[5]))

    def back(self, l, dy, dx, y, rows):
        all_panels = -(-l.inputs // PANEL)
        panels = all_panels if self.long(rows) else 1
        tiles, groups, all_tiles = self.row_groups(rows, PARTS)
        return ("backward", all_panels // panels * groups, dict(
            panels=panels, all_panels=all_panels, tiles=tiles, groups=groups, all_tiles=all_tiles, dy=dy.offset,
            ld_dy=dy.ld, w=l.weight, w_rows=l.rows, w_panel=l.panel, inner=l.outputs, dx=dx.offset, ld_dx=dx.ld,
            y=(y or dx).offset, ld_y=(y or dx).ld,
            activation=self.activation if y else jobs.LINEAR, zero=self.zero))

    def gradient_of(self, l, x, dy, samples):
        panels, tiles, groups, all_tiles = self.weight_groups(l, whole=not self.long(self.batch * samples))
        return ("gradient", -(-l.panels // panels) * groups, dict(
            panels=panels, all_panels=l.panels, tiles=tiles, groups=groups, all_tiles=all_tiles,
            x=x.offset, ld_x=x.ld, inner=l.inputs, dy=dy.offset, ld_dy=dy.ld, w=l.weight, w_rows=l.rows, bias=l.bias,
            span=self.span, samples=samples))

    @staticmethod
    def weight_groups(l, whole=False):
        """Panels and tiles of weight rows in a chunk of a gradient, groups of such tiles, and all tiles."""
        all_tiles = up(l.inputs, GRADIENT_ROWS) // GRADIENT_ROWS
        tiles = all_tiles if whole else -(-all_tiles // -(-all_tiles // TILES))
        return 1 if whole else PANELS, tiles, -(-all_tiles // tiles), all_tiles

    def long(self, rows):
        """Whether so many rows are worked on in groups: those that go through in chunks of examples are already."""
        return rows > LONG and not self.chained

    def picked_gradient_of(self, l, lists, dy, samples):
        group = -(-l.inputs // 8)
        groups = -(-l.inputs // group)
        return ("picked_gradient", l.panels * groups, dict(
            group=group, groups=groups, i_rows=lists[3], ld_rows=lists[4], i_rows_count=lists[5], inner=l.inputs,
            dy=dy.offset, ld_dy=dy.ld, w=l.weight, w_rows=l.rows, bias=l.bias, span=self.span, samples=samples))

    def latent_backward(self):
        group = self.examples
        dh = self.g[len(self.encoder) - 1]
        return ("latent_backward", -(-self.batch // group), dict(
            group=group, latents=self.D, categories=self.K, samples=self.gradient.samples, h=self.logits.offset,
            ld_h=self.logits.ld, dkl=self.dkl, q=self.q, i_codes=self.codes[0], loss=self.loss, ld_loss=self.loss_ld,
            parts=self.loss_ld, dcodes=self.dcodes.offset, ld_dcodes=self.dcodes.ld, dh=dh.offset,
            estimator=self.gradient.kind, divide=self.gradient.divide))

    def report(self, running):
        return ("report", 1, dict(samples=self.gradient.samples, loss=self.loss, ld_loss=self.loss_ld,
                                  parts=self.loss_ld, kl=self.kl, ld_kl=self.D, latents=self.D, running=running))


def encode(stages, chained=0):
    """Stages of (kind, chunks, arguments by name) as an int64 table [jobs, arguments] and stages [n, 3].

    A stage: its first job, the job after its last, and, for the first `chained` stages, in how many chunks of
    examples it is done, each going through all its jobs; else 0.
    """
    table = np.zeros((sum(map(len, stages)), jobs.MOST_ARGUMENTS), np.int64)
    for row, (kind, chunks, arguments) in zip(table, (job for stage in stages for job in stage)):
        fields = jobs.FIELDS[kind]
        if set(fields) != set(arguments):
            raise ValueError(f"job {kind}: arguments {sorted(set(fields) ^ set(arguments))} do not match")
        row[:2 + len(fields)] = [jobs.KINDS[kind], chunks, *(arguments[f] for f in fields)]
    ends = np.cumsum([0, *map(len, stages)])
    return table, np.array([(first, end, table[first, 1] if i < chained else 0)
                            for i, (first, end) in enumerate(zip(ends[:-1], ends[1:]))])
