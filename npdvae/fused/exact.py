"""The plan of a fused step with the exact gradient: each code is decoded once, and its activations kept."""
from __future__ import annotations

import math

import numpy as np

from npdvae.estimators.parts.outcomes import all_codes
from npdvae.fused.memory import SIDE, matrix, up
from npdvae.fused.plan import Plan, encode
from npdvae.kernels.cpu import fused_exact, jobs
from npdvae.kernels.cpu.target import LANES, PANEL, PICK_PANEL, ROWS

MOST_ACTIVATIONS = 2 ** 13                      # codes of this plan: beyond, their activations would fill the memory
UNIT = math.lcm(ROWS, LANES)                    # rows of codes come in whole tiles and vectors
CODES = 96                                      # about as many go through the decoder in one go: they stay in cache
PARTS = 8                                       # or fewer, where so many chunks would not be filled


class ExactPlan(Plan):
    """As `Plan`, whose decoder of sampled codes serves evaluations; training decodes every code of the batch that has
    any probability to speak of, see `code_choice`."""

    def __init__(self, model, batch, gradient, mode, levels, sparse):
        super().__init__(model, batch, gradient, mode, levels, sparse)
        region, integers, D, K = self.region, self.integers, self.D, self.K
        self.C = K ** D
        self.code_rows = up(self.C, UNIT)
        self.group = up(-(-self.C // -(-self.C // CODES)), UNIT)
        self.chunks = max(-(-self.code_rows // self.group), min(PARTS, self.code_rows // UNIT))
        self.y = [matrix(region, self.code_rows, x.outputs) for x in self.decoder]
        self.dy_codes = [matrix(region, self.code_rows, x.outputs) for x in self.decoder[:-1]] + self.y[-1:]
        self.ld = up(batch, PANEL)
        self.shares, self.costs = (region.take(self.code_rows * self.ld) for _ in range(2))
        self.q_columns = region.take(up(D * K, LANES) * self.ld)
        self.image_columns = region.take(up(model.pixels, LANES) * self.ld)
        self.turned = [region.take(up(x.inputs, PANEL) * up(x.outputs, LANES)) for x in self.decoder]
        self.expected = region.take(batch)
        self.weights = region.take(self.C)
        self.all_codes, self.code_list = integers.take(self.C * D), integers.take(self.code_rows * D)
        self.rows_list, self.rows_count = integers.take(D * self.C), integers.take(D * K)
        self.extent = integers.take(2)
        self.scratch_size = up(max(
            self.scratch_size, fused_exact.TILES * ROWS * up(model.pixels, PANEL),
            (up(model.pixels, LANES) + 2 * up(batch, LANES) + 4) * PICK_PANEL, (3 + D * K) * SIDE), 16)

    def chains(self):
        return False

    def build(self, workers):
        mem, ints, scratch, i_scratch, _, evaluation = super().build(workers)
        D, K = self.D, self.K
        picks = all_codes(np, D, K) + K * np.arange(D)              # [C, D], numbers of the decoder's inputs
        ints[self.all_codes:self.all_codes + self.C * D] = picks.reshape(-1)
        stages = self.training()
        table, ends = encode(stages)
        for i, stage in enumerate(stages):
            if stage[0][0] == "code_pick":
                ends[i, 2] = self.chunks                            # each goes through all jobs of the stage
        return mem, ints, scratch, i_scratch, (table, ends), evaluation

    def training(self):
        """Stages of a training step: those of the encoder as in `Plan`, those of the decoder over all codes."""
        stages = []
        for stage in self.forward():
            if stage[0][0] == "latent":
                break
            stages.append(stage)
        kind, chunks, arguments = stage[0]
        if not self.sparse:
            stages[1].append(self.turn(self.pixels, self.images.offset, self.images.ld, self.image_columns))
        stages.append([(kind, chunks, {**arguments, "samples": 0})])
        stages.append([self.turn(self.D * self.K, self.q, self.logits.ld, self.q_columns), *self.turn_weights()])
        stages += [[self.code_weights()], [self.codes_in_use()], self.code_stage()]
        decoder = [self.code_gradient(i) for i in reversed(range(1, len(self.decoder)))]
        encoder = [[job for job in stage if self.of_encoder(job)] for stage in self.backward()]
        *encoder, last = [stage for stage in encoder if stage]
        return [*stages, [self.code_latent_backward(), self.code_pick_gradient(), *decoder[1:]], *encoder,
                [*decoder[:1], *last, self.report_expected()]]

    def of_encoder(self, job):
        """Whether a job of the sampled plan's backward stages serves here too."""
        kind, _, arguments = job
        return kind not in ("latent_backward", "report") and arguments.get("w") not in [x.weight for x in self.decoder]

    def code_weights(self):
        return ("code_weights", -(-self.C // self.group), dict(
            group=self.group, codes=self.C, latents=self.D, i_codes=self.all_codes, qt=self.q_columns, q=self.shares,
            ld=self.ld, weights=self.weights))

    def codes_in_use(self):
        return ("code_list", 1, dict(
            codes=self.C, latents=self.D, categories=self.K, i_codes=self.all_codes, weights=self.weights,
            longest=self.group, unit=UNIT, parts=PARTS, i_index=self.code_list, i_rows=self.rows_list,
            ld_rows=self.C // self.K, i_rows_count=self.rows_count, i_extent=self.extent))

    def code_stage(self):
        """What a chunk of codes goes through: from the codes to the gradient at each activation."""
        m, first, jobs_ = len(self.decoder), self.decoder[0], []
        jobs_.append(("code_pick", first.panels * self.chunks, dict(
            groups=self.chunks, i_extent=self.extent, i_index=self.code_list, ld_index=self.D, w=first.weight,
            w_rows=first.rows, bias=first.bias, y=self.y[0].offset, ld_y=self.y[0].ld,
            activation=self.activation if m > 1 else jobs.LINEAR)))
        for i in range(1, m):
            l, x, y = self.decoder[i], self.y[i - 1], self.y[i]
            jobs_.append(("code_dense", l.panels * self.chunks, dict(
                groups=self.chunks, i_extent=self.extent, x=x.offset, ld_x=x.ld, w=l.weight,
                w_rows=l.rows, bias=l.bias, y=y.offset, ld_y=y.ld, inner=l.inputs,
                activation=self.activation if i < m - 1 else jobs.LINEAR)))
        jobs_.append(self.cost())
        for i in reversed(range(1, m)):
            l, dy, dx, y = self.decoder[i], self.dy_codes[i], self.dy_codes[i - 1], self.y[i - 1]
            jobs_.append(("code_backward", -(-l.inputs // PANEL) * self.chunks, dict(
                groups=self.chunks, i_extent=self.extent, dy=dy.offset, ld_dy=dy.ld,
                turned=self.turned[i], inner=up(l.outputs, LANES), dx=dx.offset, ld_dx=dx.ld, y=y.offset, ld_y=y.ld,
                activation=self.activation, zero=self.zero)))
        return jobs_

    def cost(self):
        logits = self.y[-1]
        shared = dict(i_extent=self.extent, width=self.pixels, latents=self.D, i_index=self.code_list,
                      qt=self.q_columns, logits=logits.offset, ld_logits=logits.ld, q=self.shares, f=self.costs,
                      ld=self.ld, zero=self.zero)
        if self.sparse:
            ones, ld_ones, count, lit, ld_lit, lit_count = self.lists
            return ("code_cost_listed", self.chunks, dict(
                **shared, i_ones=ones, ld_ones=ld_ones, i_ones_count=count, i_lit=lit, ld_lit=ld_lit,
                i_lit_count=lit_count))
        return ("code_cost", self.chunks, dict(**shared, x=self.images.offset, ld_x=self.images.ld,
                                               xt=self.image_columns))

    def turn(self, width, source, ld, target):
        group = up(-(-width // 8), LANES)
        return ("turn", -(-width // group), dict(group=group, width=width, source=source, ld_source=ld, target=target,
                                                 ld_target=self.ld))

    def turn_weights(self):
        return [("turn_weight", -(-l.inputs // PANEL), dict(w=l.weight, w_rows=l.rows, inner=up(l.outputs, LANES),
                                                            target=self.turned[i]))
                for i, l in enumerate(self.decoder) if i]

    def code_latent_backward(self):
        return ("code_latent_backward", -(-self.batch // SIDE), dict(
            group=SIDE, latents=self.D, categories=self.K, i_extent=self.extent, i_index=self.code_list, q=self.shares,
            f=self.costs, ld=self.ld, dkl=self.dkl, ld_h=self.logits.ld, dh=self.g[len(self.encoder) - 1].offset,
            loss=self.expected, pixels=self.pixels))

    def code_gradient(self, i):
        l, x, dy = self.decoder[i], self.y[i - 1], self.dy_codes[i]
        panels, tiles, groups, all_tiles = self.weight_groups(l)
        return ("code_gradient", -(-l.panels // panels) * groups, dict(
            panels=panels, all_panels=l.panels, tiles=tiles, groups=groups, all_tiles=all_tiles, i_extent=self.extent,
            x=x.offset, ld_x=x.ld, dy=dy.offset, ld_dy=dy.ld, w=l.weight, w_rows=l.rows, bias=l.bias, span=self.span))

    def code_pick_gradient(self):
        l, dy = self.decoder[0], self.dy_codes[0]
        group = -(-l.inputs // 8)
        groups = -(-l.inputs // group)
        return ("code_pick_gradient", l.panels * groups, dict(
            group=group, groups=groups, i_extent=self.extent, i_rows=self.rows_list, ld_rows=self.C // self.K,
            i_rows_count=self.rows_count, inner=l.inputs, dy=dy.offset, ld_dy=dy.ld, w=l.weight, w_rows=l.rows,
            bias=l.bias, span=self.span))

    def report_expected(self):
        return ("report", 1, {**self.report(0)[2], "samples": 1, "loss": self.expected, "ld_loss": 1, "parts": 1})
