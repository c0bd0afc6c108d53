"""Between latent and decoder of a step in segments: rows into panels, costs and gradients out of them."""
from __future__ import annotations

import numpy as np

from npdvae.fused.memory import view


class Misfit(ValueError):
    """Rows of another kind or number than the plan was made for."""


class Decoding:
    """A decoder's inputs and outputs in the order [S, B, ...] that Python has; weights: offset of those of its rows."""

    def __init__(self, decoder, weights, mem, ints):
        frame = decoder.frame
        self.decoder, self.weights, self.mem, self.ints = decoder, weights, mem, ints
        self.S, self.picks, self.F, self.O = frame.S, frame.D, frame.D * frame.K, decoder.layers[-1].outputs
        self.firsts = np.arange(0, self.F, frame.K)                 # numbers of each latent's first category

    def samples_first(self, m, examples, width):
        """A Matrix as a copy [S, B, width]."""
        rows = view(self.mem, m, examples * self.S, width).reshape(examples, self.S, width)
        return np.ascontiguousarray(rows.transpose(1, 0, 2))

    def fits(self, rows, examples):
        """Whether the first layer can read these rows."""
        if rows.ndim != 3 or rows.shape[:2] != (self.S, examples):
            return False
        if rows.dtype.kind in "iu":
            return rows.shape[2] == self.picks or bool(self.decoder.rows and self.F % rows.shape[2] == 0)
        return self.decoder.rows is not None and rows.shape[2] == self.F

    def put_rows(self, rows, examples):
        """Codes int [S, B, D] or floats [S, B, F] for the first layer; codes as floats where it reads those.

        Raises Misfit for rows of another shape, ValueError for codes that are no category.
        """
        d = self.decoder
        if not self.fits(rows, examples):
            made_for = f"{self.F} floats" if self.decoder.rows else f"{self.picks} codes"
            raise Misfit(f"the latent gave rows {rows.dtype} {list(rows.shape)}, the engine was made for "
                         f"{self.S} x {examples} x {made_for}: use --engine readable")
        rows = rows.transpose(1, 0, 2)                              # [B, S, D or F]
        if rows.dtype.kind == "f":
            view(self.mem, d.rows, examples * self.S, self.F).reshape(rows.shape)[:] = rows
            return
        K = self.F // rows.shape[2]
        if rows.view(f"u{rows.itemsize}").max() >= K:               # negative ones are the largest there
            raise ValueError(f"codes must be in [0, {K}), got {rows.min()} to {rows.max()}")
        firsts = self.firsts if len(self.firsts) == rows.shape[2] else np.arange(0, self.F, K)
        numbers = (rows + firsts).reshape(examples * self.S, -1)       # d K + k, [B S, D]
        if d.rows is None:
            self.ints[d.codes.index:d.codes.index + numbers.size] = numbers.reshape(-1)
            return
        one_hot = view(self.mem, d.rows, len(numbers), self.F)      # [B S, F]
        one_hot[:] = 0
        np.put_along_axis(one_hot, numbers, 1, 1)

    def cost(self, examples):
        """The sum of the parts of each row's cost: [S, B]."""
        loss = self.decoder.cost.loss
        rows = view(self.mem, loss, examples * self.S, loss.ld).sum(-1)
        return np.ascontiguousarray(rows.reshape(examples, self.S).T)

    def output(self, examples):
        """The decoder's output: [S, B, O], O = P unless the likelihood says otherwise."""
        return self.samples_first(self.decoder.h[-1], examples, self.O)

    def put_gradient(self, da, examples):
        """da [S, B, O] in the place of the output."""
        rows = view(self.mem, self.decoder.dh[-1], examples * self.S, self.O)
        rows.reshape(examples, self.S, self.O)[:] = da.transpose(1, 0, 2)

    def put_weights(self, weights, examples):
        """weights [S, B] of the rows."""
        self.mem[self.weights:self.weights + weights.size].reshape(examples, self.S)[:] = weights.T

    def dz(self, examples):
        """Gradients at the rows: [S, B, D, K], or [S, B, F] where they are floats."""
        dz = self.samples_first(self.decoder.dcodes, examples, self.F)
        return dz if self.decoder.rows else dz.reshape(*dz.shape[:2], self.picks, -1)
