"""Between latent and decoder of a step in segments: rows into panels, costs and gradients out of them."""
from __future__ import annotations

import functools
import math
from typing import NamedTuple

import numpy as np

from npdvae.fused.memory import view
from npdvae.kernels.cpu.hand_over import put_codes


class Misfit(ValueError):
    """Rows of another kind or number than the plan was made for."""


class Places(NamedTuple):
    """Where the workers have what is handed over, for a number of examples."""

    codes: np.ndarray                           # int32 [B, S, D], numbers d K + k
    loss: np.ndarray                            # [B S, parts]
    weights: np.ndarray                         # [B, S]
    dz: np.ndarray | None                       # gradients at the rows, [S, B, D, K], or [S, B, F] of floats


class Decoding:
    """A decoder's inputs and outputs in the order [S, B, ...] that Python has; weights: offset of those of its rows."""

    def __init__(self, decoder, weights, mem, ints):
        frame = decoder.frame
        self.decoder, self.weights, self.mem, self.ints = decoder, weights, mem, ints
        self.S, self.picks, self.F, self.O = frame.S, frame.D, frame.D * frame.K, decoder.layers[-1].outputs
        self.at = functools.cache(self.places)

    def places(self, examples):
        """Of so many examples."""
        def rows(array, offset, *shape):
            return array[offset:offset + math.prod(shape)].reshape(shape)
        d, B, S, loss, shape = self.decoder, examples, self.S, self.decoder.cost.loss, (self.picks, -1)
        dz = view(self.mem, d.dcodes, B * S, self.F).reshape(B, S, *(shape if d.rows is None else shape[1:])) if (
            d.trains) else None
        return Places(rows(self.ints, d.codes.index, B, S, self.picks), rows(self.mem, loss.offset, B * S, loss.ld),
                      rows(self.mem, self.weights, B, S), None if dz is None else dz.swapaxes(0, 1))

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
        if rows.dtype.kind == "f":
            rows = rows.transpose(1, 0, 2)                          # [B, S, F]
            view(self.mem, d.rows, examples * self.S, self.F).reshape(rows.shape)[:] = rows
            return
        D, numbers = rows.shape[2], self.at(examples).codes
        if D != self.picks:
            numbers = np.empty((examples, self.S, D), np.int32)
        if not put_codes(np.ascontiguousarray(rows, np.int64), self.F // D, numbers):
            raise ValueError(f"codes must be in [0, {self.F // D}), got {rows.min()} to {rows.max()}")
        if d.rows is not None:
            one_hot = view(self.mem, d.rows, examples * self.S, self.F)     # [B S, F]
            one_hot[:] = 0
            np.put_along_axis(one_hot, numbers.reshape(len(one_hot), D), 1, 1)

    def cost(self, examples):
        """The sum of the parts of each row's cost: [S, B]."""
        rows = np.add.reduce(self.at(examples).loss, -1)            # [B S]
        return np.ascontiguousarray(rows.reshape(examples, self.S).T)

    def output(self, examples):
        """The decoder's output: [S, B, O], O = P unless the likelihood says otherwise."""
        return self.samples_first(self.decoder.h[-1], examples, self.O)

    def put_gradient(self, da, examples):
        """da [S, B, O] in the place of the output."""
        rows = view(self.mem, self.decoder.dh[-1], examples * self.S, self.O)
        rows.reshape(examples, self.S, self.O)[:] = da.transpose(1, 0, 2)

    def put_weights(self, weights, examples):
        """weights [S, B or 1] of the rows."""
        self.at(examples).weights[:] = weights.T

    def dz(self, examples):
        """Gradients at the rows: [S, B, D, K], or [S, B, F] where they are floats."""
        return self.at(examples).dz.copy()
