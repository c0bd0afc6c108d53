"""Decoder and cost alone, in compiled workers: a way of `npdvae.costs`, for evaluation."""
from __future__ import annotations

import functools

import numpy as np

from npdvae.describe import network_of
from npdvae.fused.decoding import Decoding
from npdvae.fused.frame import Frame
from npdvae.fused.memory import Region, layers, matrix, view
from npdvae.fused.panels import crew
from npdvae.fused.sampled import Sampled
from npdvae.fused.segments import Program, Rows
from npdvae.fused.support import LIKELIHOODS, NETWORKS
from npdvae.fused.workers import once
from npdvae.kernels.cpu import jobs, target
from npdvae.kernels.cpu.target import PICK_PANEL
from npdvae.likelihoods import registry

ROWS = 2000                                     # of one call of the workers, about


def reason_undecoded(model, dtype) -> str | None:
    """Why `Forward` cannot serve a model on this machine, in a few words, or None where it can."""
    if reason := target.reason_unfit():
        return reason
    if dtype != np.float32:
        return f"{np.dtype(dtype)} arithmetic"
    network, activation = network_of(model), model.decoder.activation
    if network not in NETWORKS or activation not in jobs.ACTIVATIONS:
        return f"network {network}, activation {activation}"
    return None


class Forward:
    """x [B, P] -> (z [S, B, ...] -> -log p(x | z) [S, B]), on `threads` workers (default: all cores).

    Results do not depend on `threads`. The likelihood's own code where it is not Bernoulli.
    """

    def __init__(self, model, params, threads=None):
        self.model, self.params, self.workers = model, params, crew(threads)
        self.made_for: Rows | None = None

    def __call__(self, x):
        return functools.partial(self.costs, x)

    def costs(self, x, z):
        """Of z [S, B, ...] for images x [B, P]: [S, B], nats."""
        rows = self.model.latent.rows(self.params, z)               # [S, B, D] or [S, B, F]
        made_for = Rows(len(rows), rows.shape[-1] if rows.dtype.kind in "iu" else 0)
        if made_for != self.made_for:
            self.make(made_for)
        return np.concatenate([self.some(x[i:i + self.batch], rows[:, i:i + self.batch])
                               for i in range(0, len(x), self.batch)], 1)

    def make(self, rows: Rows):
        """Memory and jobs for such rows of the decoder."""
        model, S, D = self.model, rows.samples, max(rows.picks, 1)
        self.batch, self.costs_there = max(1, ROWS // S), registry.name_of(model.likelihood) in LIKELIHOODS
        region, integers = Region(), Region()
        parts = layers(region, "decoder", model.decoder.sizes, rows.picks > 0)
        frame = Frame(self.batch, model.pixels, D, model.decoder.sizes[0] // D, S,
                      jobs.ACTIVATIONS[model.decoder.activation], False, region.take(PICK_PANEL))
        self.x = matrix(region, self.batch, model.pixels)
        self.costs_there &= len(parts) > 1      # a first layer has no cost behind it
        decoder = Sampled(frame, parts, self.x, region, integers, rows.picks == 0, self.costs_there, trains=False)
        self.mem, self.ints = region.array(np.float32), integers.array(np.int32)
        decoder.fill(self.ints)
        for part in parts:
            part.put(self.mem, 0, self.params[f"{part.name}.weight"], self.params[f"{part.name}.bias"])
        self.decoding, self.program = Decoding(decoder, 0, self.mem, self.ints), Program.of([decoder.forward()])
        self.made_for = rows

    def some(self, x, rows):
        """Costs of at most `batch` images."""
        n = len(x)
        view(self.mem, self.x, *x.shape)[:] = x
        self.decoding.put_rows(rows, n)
        once(self.workers, self.program, self.mem, self.ints, n)
        if self.costs_there:
            return self.decoding.cost(n)                            # [S, n]
        return self.model.likelihood.forward(self.params, self.decoding.output(n), x)
