"""Sampled codes in a captured step, sample s of example b in row s B + b: draw, decode, compare, estimate."""
from __future__ import annotations

import numpy as np

from npdvae import rng
from npdvae.gpu.decoder import Decoder
from npdvae.gpu.latent import Latent
from npdvae.gpu.memory import Buffers
from npdvae.gpu.support import BATCH, RUNNING
from npdvae.kernels.cuda.constants import BASELINES
from npdvae.kernels.cuda.launch import one_block_each


class Sampled:
    """Codes drawn for each example, and the estimate of the gradient from their costs or from dcodes.

    The decoder's backward is unweighted, for dcodes: 1/(S B) multiplies its parameter gradients.
    """

    def __init__(self, on, run, model, recipe, params, grads, gradient):
        self.on, self.run, self.gradient, self.samples = on, run, gradient, gradient.samples
        self.latent = Latent(on, run, model, recipe, params, grads)
        N, D, DK = gradient.samples * recipe.batch_size, self.latent.D, self.latent.D * self.latent.K
        self.decoder = Decoder(on, model, params, grads, N)
        self.buffers = Buffers(on.xp)
        self.buffers.add("codes", (N, D), np.int64)
        self.buffers.add("cost", (N,), on.dtype)
        self.buffers.add("dcodes", (N if gradient.needs_dcodes else 0, DK), on.dtype)
        self.buffers.add("gumbels", (N if gradient.gumbel else 0, DK), on.dtype)
        self.buffers.add("relaxed", (N if gradient.relaxed else 0, DK), on.dtype)
        self.scratch = max(self.decoder.scratch, self.latent.scratch)

    @property
    def nbytes(self):
        return sum(part.buffers.nbytes for part in (self, self.latent, self.decoder))

    def sample(self, h, bias):
        """Codes int [S B, D], or relaxed rows [S B, D K]; adds the bias to h [B, D K] in place, and forms the KL."""
        latent, rows, S, B = self.latent, self.buffers.rows, self.samples, len(h)
        codes, clock, sizes = rows("codes", S * B), self.run["clock"], (S, B, latent.D, latent.K)
        if not self.gradient.gumbel:
            latent.launch("latent_hard", B, h, bias, latent.prior, clock, codes, latent.kl(B), rng.LATENT, *sizes)
            return codes
        relaxed = rows("relaxed", S * B) if self.gradient.relaxed else None
        latent.launch("latent_gumbel", B, h, bias, latent.prior, clock, self.run["settings"], codes,
                      rows("gumbels", S * B), relaxed, latent.kl(B), rng.LATENT, *sizes)
        return codes if relaxed is None else relaxed

    def cost(self, logits, bias, x):
        """Cost [S B], its mean where the baseline asks; its gradient w.r.t. the pixel logits in their place."""
        N, P = logits.shape
        cost = self.buffers.rows("cost", N)
        self.on.launch("bce", one_block_each(N), logits, bias, x, cost, logits, N, len(x), P)
        if self.gradient.mean == BATCH:
            self.on.launch("batch_mean", one_block_each(1), cost, self.run["mean"], N)
        return cost, logits

    def decode_backward(self, dlogits, z, B):
        """Decoder gradients, the mean over samples and batch; dcodes [S B, D K] where the estimator reads them."""
        dcodes = self.buffers.rows("dcodes", len(z)) if self.gradient.needs_dcodes else None
        self.decoder.backward(dlogits, z, 1 / (self.samples * B), dcodes)

    def estimate(self, h, cost):
        """d objective / d h [B, D K] in nats, times 1/B, KL included; the prior's gradient."""
        latent, g, run, S, B = self.latent, self.gradient, self.run, self.samples, len(h)
        dh, dprior = latent.gradients(B)
        ends = (latent.kl(B), *((run["mean"],) if g.kernel == "reinforce" else ()), run["settings"], run["clock"], dh,
                dprior, S, B, latent.D, latent.K, *self.options(S * B), latent.free_bits, 1 / B)
        latent.launch(g.kernel, B, h, latent.prior, *self.seen(cost), *ends)
        latent.prior_backward(dprior)
        return dh

    def seen(self, cost):
        """What the backward's kernel reads of the samples."""
        g, N, rows = self.gradient, len(cost), self.buffers.rows
        if g.kernel == "straight_through":
            return (rows("dcodes", N),)
        return rows("gumbels" if g.gumbel else "codes", N), rows("dcodes", N) if g.needs_dcodes else cost

    def options(self, N):
        """What it takes besides: for REINFORCE the kind of baseline, a value, and the least sum of weights."""
        g = self.gradient
        if g.kernel != "reinforce":
            return () if g.option is None else (g.option,)
        if g.mean == RUNNING:
            return g.option, 1.0, 1 - g.decay
        if g.mean == BATCH:                                         # a single evaluation has no baseline
            return (g.option, N / (N - 1), 1.0) if N > 1 else (BASELINES["constant"], 0.0, 1.0)
        return g.option, g.value, 1.0
