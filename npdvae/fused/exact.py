"""The plan of a fused step with the exact gradient: all codes are decoded once, and their activations kept."""
from __future__ import annotations

import math

import numpy as np

from npdvae.estimators.outcomes import all_codes
from npdvae.fused.memory import SIDE, matrix, up
from npdvae.fused.plan import Plan, encode
from npdvae.kernels.cpu import fused_exact, jobs
from npdvae.kernels.cpu.target import LANES, PANEL, PICK_PANEL, ROWS

MOST_CODES = 2 ** 13                            # of this plan: beyond, their activations would fill the memory
UNIT = math.lcm(ROWS, LANES)                    # rows of codes come in whole tiles and vectors
CODES = 96                                      # about as many go through the decoder in one go: they stay in cache


class ExactPlan(Plan):
    """As `Plan`, whose decoder of sampled codes serves evaluations; training decodes all codes for the whole batch."""

    def __init__(self, model, batch, gradient, mode, levels, sparse):
        super().__init__(model, batch, gradient, mode, levels, sparse)
        region, integers, D, K = self.region, self.integers, self.D, self.K
        self.C = K ** D
        self.code_rows = up(self.C, UNIT)
        self.group = up(-(-self.C // -(-self.C // CODES)), UNIT)
        self.chunks = -(-self.code_rows // self.group)
        self.y = [matrix(region, self.code_rows, x.outputs) for x in self.decoder]
        self.dy_codes = [matrix(region, self.code_rows, x.outputs) for x in self.decoder[:-1]] + self.y[-1:]
        self.ld = up(batch, PANEL)
        self.shares, self.costs = (region.take(self.code_rows * self.ld) for _ in range(2))
        self.q_columns = region.take(up(D * K, LANES) * self.ld)
        self.image_columns = region.take(up(model.pixels, LANES) * self.ld)
        self.turned = [region.take(up(x.inputs, PANEL) * up(x.outputs, LANES)) for x in self.decoder]
        self.expected = region.take(batch)
        self.code_list, self.code_count = integers.take(self.code_rows * D), integers.take(self.code_rows)
        self.rows_list, self.rows_count = integers.take(D * self.C), integers.take(D * K)
        self.scratch_size = up(max(
            self.scratch_size, fused_exact.TILES * ROWS * up(model.pixels, PANEL),
            (up(model.pixels, LANES) + 2 * up(batch, LANES) + 4) * PICK_PANEL, (2 + D * K) * SIDE), 16)

    def chains(self):
        return False

    def build(self, workers):
        mem, ints, scratch, i_scratch, _, evaluation = super().build(workers)
        D, K = self.D, self.K
        picks = all_codes(np, D, K) + K * np.arange(D)              # [C, D], numbers of the decoder's inputs
        ints[self.code_list:self.code_list + self.C * D] = picks.reshape(-1)
        ints[self.code_count:self.code_count + self.C] = D
        rows = np.argsort(picks, axis=0, kind="stable").T           # [D, C]: by category, then in order
        ints[self.rows_list:self.rows_list + D * self.C] = rows.reshape(-1)
        ints[self.rows_count:self.rows_count + D * K] = self.C // K
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
        stages.append(self.code_stage())
        decoder = [self.code_gradient(i) for i in reversed(range(1, len(self.decoder)))]
        encoder = [[job for job in stage if self.of_encoder(job)] for stage in self.backward()]
        *encoder, last = [stage for stage in encoder if stage]
        return [*stages, [self.code_latent_backward(), self.code_pick_gradient(), *decoder[1:]], *encoder,
                [*decoder[:1], *last, self.report_expected()]]

    def of_encoder(self, job):
        """Whether a job of the sampled plan's backward stages serves here too."""
        kind, _, arguments = job
        return kind not in ("latent_backward", "report") and arguments.get("w") not in [x.weight for x in self.decoder]

    def code_stage(self):
        """What a chunk of codes goes through: from the codes to the gradient at each activation."""
        m, first, jobs_ = len(self.decoder), self.decoder[0], []
        jobs_.append(("code_pick", first.panels * self.chunks, dict(
            group=self.group, groups=self.chunks, rows=self.code_rows, i_index=self.code_list, ld_index=self.D,
            i_count=self.code_count, w=first.weight, w_rows=first.rows, bias=first.bias, y=self.y[0].offset,
            ld_y=self.y[0].ld, activation=self.activation if m > 1 else jobs.LINEAR)))
        for i in range(1, m):
            l, x, y = self.decoder[i], self.y[i - 1], self.y[i]
            jobs_.append(("code_dense", l.panels * self.chunks, dict(
                group=self.group, groups=self.chunks, rows=self.code_rows, x=x.offset, ld_x=x.ld, w=l.weight,
                w_rows=l.rows, bias=l.bias, y=y.offset, ld_y=y.ld, inner=l.inputs,
                activation=self.activation if i < m - 1 else jobs.LINEAR)))
        jobs_.append(self.cost())
        for i in reversed(range(1, m)):
            l, dy, dx, y = self.decoder[i], self.dy_codes[i], self.dy_codes[i - 1], self.y[i - 1]
            jobs_.append(("code_backward", -(-l.inputs // PANEL) * self.chunks, dict(
                group=self.group, groups=self.chunks, rows=self.code_rows, dy=dy.offset, ld_dy=dy.ld,
                turned=self.turned[i], inner=up(l.outputs, LANES), dx=dx.offset, ld_dx=dx.ld, y=y.offset, ld_y=y.ld,
                activation=self.activation, zero=self.zero)))
        return jobs_

    def cost(self):
        logits = self.y[-1]
        shared = dict(group=self.group, rows=self.code_rows, codes=self.C, width=self.pixels, latents=self.D,
                      i_index=self.code_list, qt=self.q_columns, logits=logits.offset, ld_logits=logits.ld,
                      q=self.shares, f=self.costs, ld=self.ld, zero=self.zero)
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
            group=SIDE, latents=self.D, categories=self.K, codes=self.C, i_index=self.code_list, q=self.shares,
            f=self.costs, ld=self.ld, dkl=self.dkl, ld_h=self.logits.ld, dh=self.g[len(self.encoder) - 1].offset,
            loss=self.expected, pixels=self.pixels))

    def code_gradient(self, i):
        l, x, dy = self.decoder[i], self.y[i - 1], self.dy_codes[i]
        panels, tiles, groups, all_tiles = self.weight_groups(l)
        return ("code_gradient", -(-l.panels // panels) * groups, dict(
            panels=panels, all_panels=l.panels, tiles=tiles, groups=groups, all_tiles=all_tiles, rows=self.code_rows,
            x=x.offset, ld_x=x.ld, dy=dy.offset, ld_dy=dy.ld, w=l.weight, w_rows=l.rows, bias=l.bias, span=self.span))

    def code_pick_gradient(self):
        l, dy = self.decoder[0], self.dy_codes[0]
        group = -(-l.inputs // 8)
        groups = -(-l.inputs // group)
        return ("code_pick_gradient", l.panels * groups, dict(
            group=group, groups=groups, rows=self.code_rows, i_index=self.rows_list, ld_index=self.C // self.K,
            i_count=self.rows_count, inner=l.inputs, dy=dy.offset, ld_dy=dy.ld, w=l.weight, w_rows=l.rows, bias=l.bias,
            span=self.span))

    def report_expected(self):
        return ("report", 1, {**self.report(0)[2], "samples": 1, "loss": self.expected, "ld_loss": 1, "parts": 1})
