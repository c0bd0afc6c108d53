"""The pieces of a step that are graphs where the latent runs op by op: encode, decode, their adjoints, update."""
from __future__ import annotations

from typing import NamedTuple

import numpy as np

from npdvae import rng
from npdvae.gpu.decoder import Decoder
from npdvae.gpu.layers import add_bias, weigh_rows
from npdvae.gpu.memory import Buffers
from npdvae.gpu.plan import Ground
from npdvae.kernels.cuda.constants import IDENTITY
from npdvae.kernels.cuda.launch import one_block_each


class Rows(NamedTuple):
    """Rows z of the decoder: [S, B or 1, D or F]."""

    shape: tuple[int, ...]
    kind: str                                   # "i" for codes, "f"
    direct: bool                                # whether the kernels form their costs

    @property
    def N(self):
        return self.shape[0] * self.shape[1]


class SegmentPlan(Ground):
    """`npdvae/step.py` but for the latent and the likelihood; `costs`: whether the kernels know the likelihood.

    Sample s of example b stands in row s B + b.
    """

    decoder: Decoder                            # once rows have been seen

    def __init__(self, backend, model, recipe, dataset, costs, steps):
        own = {**model.latent.init(rng.Generator(0, rng.INIT), recipe.dtype), **model.likelihood.init(recipe.dtype)}
        super().__init__(backend, model, recipe, dataset, True, {k: a.shape for k, a in own.items()}, steps)
        self.model, self.costs, self.own = model, costs, tuple(own)
        self.batch, self.dtype = recipe.batch_size, recipe.dtype
        self.between, self.rows = Buffers(backend.cupy), Buffers(backend.cupy)
        self.between.add("dh", (self.batch, model.encoder.sizes[-1]), self.dtype)
        self.between.add("cost", (self.batch,), self.dtype)
        self.between.add("kl", (self.batch, 1), self.dtype)
        self.made_for, self.capacity = ("", 0), 0     # kind and width of rows; how many

    @property
    def nbytes(self):
        decoder = self.decoder.buffers.nbytes if self.capacity else 0
        return super().nbytes + self.between.nbytes + self.rows.nbytes + decoder

    # ---- rows of the decoder ----------------------------------------------------------------------------------------

    def about(self, z, B) -> Rows:
        """What the rows z of B examples are. ValueError where no decoder reads such rows."""
        F, width = self.model.decoder.sizes[0], z.shape[-1] if z.ndim == 3 else 0
        codes = z.dtype.kind in "iu"
        if z.ndim != 3 or z.shape[1] not in (1, B) or not (width and F % width == 0 if codes else width == F):
            raise ValueError(f"the latent gave rows {z.dtype} {list(z.shape)}, the decoder reads codes "
                             f"[S, {B} or 1, D] or floats [S, {B} or 1, {F}]")
        return Rows(z.shape, "i" if codes else "f", self.costs and z.shape[1] == B)

    def fit(self, rows, B) -> bool:
        """Make room for such rows; whether buffers moved, and graphs are void."""
        S, examples, width = rows.shape
        wanted = S * (self.batch if examples == B else 1)
        if self.made_for == (rows.kind, width) and wanted <= self.capacity:
            return False
        F, most = self.model.decoder.sizes[0], max(self.capacity, wanted)
        self.made_for, self.capacity = (rows.kind, width), most
        self.decoder = Decoder(self.streams, self.model, self.params, self.grads, most, F // width)
        self.rows.add("z", (most, width), np.int64 if rows.kind == "i" else self.dtype)
        self.rows.add("dz", (most, F), self.dtype)
        self.rows.add("weights", (most,), self.dtype)
        self.rows.add("costs", (most,), self.dtype)
        self.streams.reserve(max(self.encoder.scratch, self.decoder.scratch))
        return True

    # ---- the segments: nothing is allocated in them, nothing waits --------------------------------------------------

    def encode(self, B):
        """Targets of the next B images, and the encoder's output."""
        h = self.encoder.forward(self.encoder.targets(B))           # [B, E]
        add_bias(self.streams, h, self.encoder.bias, IDENTITY)

    def decode(self, N, direct, x):
        """The decoder's output of N rows; or their costs, and the gradient in its place."""
        a, bias = self.decoder.forward(self.rows.rows("z", N))      # [N, O]
        if direct:
            self.streams.launch("bce", one_block_each(N), a, bias, x, self.rows.rows("costs", N), a, N, *x.shape)
        elif bias is not None:
            add_bias(self.streams, a, bias, IDENTITY)

    def decode_backward(self, N, direct):
        """Gradients of the decoder from those of its output; the latent's dz, unweighted, where it reads that."""
        da, weights, dz = self.output(N), self.rows.rows("weights", N), None
        if self.model.latent.needs_dz:
            dz = self.rows.rows("dz", N)
        elif direct:                            # else the likelihood has weighed its gradient
            weigh_rows(self.streams, da, weights)
        self.decoder.backward(da, self.rows.rows("z", N), 1.0, dz, None if dz is None else weights)
        self.streams.join()

    def encode_backward(self, B):
        """Gradients of the encoder from dh."""
        self.encoder.backward(self.encoder.buffers.rows("x", B), self.between.rows("dh", B))
        self.streams.join()

    def finish(self, B):
        """All parameters, the sums for the host, and the clock."""
        self.update.finish(self.between.rows("cost", B), self.between.rows("kl", B))

    # ---- what the host's part of a step reads and writes ------------------------------------------------------------

    def encoded(self, B):
        """Targets x [B, P] and the encoder's output h [B, E]."""
        encoder = self.encoder.buffers
        return encoder.rows("x", B), encoder.rows(f"y.{self.encoder.last}", B)

    def output(self, N):
        """The decoder's output, or its gradient: [N, O]."""
        return self.decoder.buffers.rows(f"y.{self.decoder.last}", N)

    def put(self, dh, grads, cost, kl):
        """dh [B, E], gradients of what is no layer's, and each example's cost and KL [B]."""
        B = len(dh)
        self.between.rows("dh", B)[...] = dh
        self.between.rows("cost", B)[...] = cost
        self.between.rows("kl", B)[:, 0] = kl
        for name in self.own:
            self.grads[name][...] = grads.get(name, 0)
