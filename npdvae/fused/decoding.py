"""Between latent and decoder of a step in segments: rows into panels, costs and gradients out of them."""
from __future__ import annotations

import numpy as np

from npdvae import rng
from npdvae.fused.memory import view
from npdvae.fused.segments import Rows

f4 = np.float32


def rows_of(model) -> Rows | str:
    """What the model's latent has the decoder read, tried on two examples; or why that cannot be served."""
    latent, xp, F = model.latent, model.ops.xp, model.decoder.sizes[0]
    generator = rng.Generator(0, draw_uniform=model.ops.uniform)
    h = xp.asarray(generator.uniform((1, 2, model.encoder.sizes[-1]), f4)[0])      # [2, E]
    try:
        params = latent.init(rng.Generator(0, rng.INIT), f4)
        state = latent.init_state(rng.Generator(0, rng.INIT), model.pixels)
        z, _ = latent.forward(params, h, generator, state, xp.zeros((2, model.pixels), f4))
        rows = latent.rows(params, z)           # [S, 2, D] or [S, 2, F]
    except Exception as error:                  # the readable engine will say it in its place
        return f"its latent fails on a trial: {error}"
    if rows.ndim != 3 or rows.shape[1] != 2:
        return "codes that the batch shares" if rows.ndim == 3 and rows.shape[1] == 1 else f"rows {list(rows.shape)}"
    if rows.dtype.kind in "iu" and rows.shape[2] and F % rows.shape[2] == 0:
        return Rows(len(rows), rows.shape[2])
    return Rows(len(rows), 0) if rows.dtype.kind == "f" and rows.shape[2] == F else f"rows {list(rows.shape)}"


class Decoding:
    """Views of a plan's decoder, in the order [S, B, ...] that Python has."""

    def __init__(self, plan, mem, ints):
        self.plan, self.mem, self.ints, self.decoder = plan, mem, ints, plan.decoder
        self.S, self.picks, self.F = plan.frame.S, plan.frame.D, plan.frame.D * plan.frame.K

    def samples_first(self, m, examples, width):
        """A Matrix as a copy [S, B, width]."""
        rows = view(self.mem, m, examples * self.S, width).reshape(examples, self.S, width)
        return np.ascontiguousarray(rows.transpose(1, 0, 2))

    def put_rows(self, rows, examples):
        """Codes int [S, B, D] or floats [S, B, F] for the first layer. ValueError for others than the plan's."""
        d, floats = self.decoder, self.decoder.rows is not None
        expected = (self.S, examples, self.F if floats else self.picks)
        if rows.shape != expected or (rows.dtype.kind == "f") != floats:
            raise ValueError(f"the latent gave rows {rows.dtype} {list(rows.shape)}, where its first draw promised "
                             f"{'floats' if floats else 'integers'} {list(expected)}: use --backend numpy")
        if floats:
            view(self.mem, d.rows, examples * self.S, self.F).reshape(examples, self.S, self.F)[:] = (
                rows.transpose(1, 0, 2))
            return
        K = self.F // self.picks
        if rows.min() < 0 or rows.max() >= K:
            raise ValueError(f"codes must be in [0, {K}), got {rows.min()} to {rows.max()}")
        at = d.codes.index
        numbers = self.ints[at:at + examples * self.S * self.picks].reshape(examples, self.S, self.picks)
        np.add(rows.transpose(1, 0, 2), np.arange(0, self.F, K), out=numbers, casting="unsafe")

    def cost(self, examples):
        """The sum of the parts of each row's cost: [S, B]."""
        loss = self.decoder.cost.loss
        return np.ascontiguousarray(self.samples_first(loss, examples, loss.ld).sum(-1))

    def output(self, examples):
        """The decoder's output: [S, B, P]."""
        return self.samples_first(self.decoder.h[-1], examples, self.plan.frame.pixels)

    def put_gradient(self, da, examples):
        """da [S, B, P] in the place of the output."""
        P = self.plan.frame.pixels
        rows = view(self.mem, self.decoder.dh[-1], examples * self.S, P).reshape(examples, self.S, P)
        rows[:] = da.transpose(1, 0, 2)

    def put_weights(self, weights, examples):
        """weights [S, B] of the rows."""
        at = self.plan.weights
        self.mem[at:at + examples * self.S].reshape(examples, self.S)[:] = weights.T

    def dz(self, examples):
        """Gradients at the rows: [S, B, D, K], or [S, B, F] where they are floats."""
        dz = self.samples_first(self.decoder.dcodes, examples, self.F)
        return dz if self.decoder.rows else dz.reshape(*dz.shape[:2], self.picks, -1)
