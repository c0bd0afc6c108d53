"""All C = K^D codes in a captured step, shared by the batch: weigh, decode once, compare with every image, sum up."""
from __future__ import annotations

import numpy as np

from npdvae.estimators.parts.outcomes import all_codes
from npdvae.gpu.decoder import Decoder
from npdvae.gpu.latent import Latent
from npdvae.gpu.layers import add_bias, code_linear_backward
from npdvae.gpu.memory import Buffers
from npdvae.kernels.cuda.constants import IDENTITY
from npdvae.kernels.cuda.launch import elementwise, one_block_each, strips


class Exact:
    """The decoder's rows are the codes; weights q and costs are [C, B]. 1/B multiplies the parameter gradients."""

    samples = 1

    def __init__(self, on, run, model, recipe, params, grads, gradient):
        self.on, self.run, B = on, run, recipe.batch_size
        self.latent = Latent(on, run, model, recipe, params, grads)
        self.D, self.K = self.latent.D, self.latent.K
        self.codes = on.xp.asarray(np.ascontiguousarray(all_codes(np, self.D, self.K)))   # [C, D]
        C, DK = len(self.codes), self.D * self.K
        self.decoder = Decoder(on, model, params, grads, C)
        self.buffers = Buffers(on.xp)
        for name in ("costs", "weights", "values"):
            self.buffers.add(name, (C * B,), on.dtype)              # [C, B]
        self.buffers.add("log_q", (B, DK), on.dtype)
        self.buffers.add("sums", (DK * B,), on.dtype)               # [D K, B]
        self.buffers.add("dlogits", (C, model.decoder.sizes[-1]), on.dtype)
        self.buffers.add("cost", (B,), on.dtype)
        self.scratch = max(self.decoder.scratch, self.latent.scratch, strips(C) * DK * B)

    @property
    def nbytes(self):
        return self.codes.nbytes + sum(part.buffers.nbytes for part in (self, self.latent, self.decoder))

    def table(self, name, rows, B):
        """A buffer as a matrix [rows, B] without gaps."""
        return self.buffers.rows(name, rows * B).reshape(rows, B)

    def sample(self, h, bias):
        """The codes [C, D] and their probabilities; adds the bias to h [B, D K] in place, and forms the KL."""
        latent, B, C = self.latent, len(h), len(self.codes)
        log_q = self.buffers.rows("log_q", B)
        latent.launch("latent_exact", B, h, bias, latent.prior, log_q, latent.kl(B), B, self.D, self.K)
        self.on.launch("exact_weights", elementwise(C * B), log_q, self.codes, self.table("weights", C, B), C, B,
                       self.D, self.K)
        return self.codes

    def cost(self, logits, bias, x):
        """Where the expected cost [B] will be; the gradient of its sum w.r.t. the pixel logits [C, P]."""
        on, (C, P), B = self.on, logits.shape, len(x)
        if bias is not None:
            add_bias(on, logits, bias, IDENTITY)
        costs, weights = self.table("costs", C, B), self.table("weights", C, B)
        on.matmul(logits, x, costs, transpose_b=True)
        on.launch("bce_shared", one_block_each(C), logits, costs, C, B, P)
        dlogits = on.matmul(weights, x, self.buffers["dlogits"])
        on.launch("bce_shared_backward", one_block_each(C), weights, logits, dlogits, C, B, P)
        return self.buffers.rows("cost", B), dlogits

    def decode_backward(self, dlogits, z, B):
        """Decoder gradients, the mean over the batch."""
        self.decoder.backward(dlogits, z, 1 / B)

    def estimate(self, h, cost):
        """d objective / d h [B, D K]: what the costs add up to over the codes with z_d = k; the expected cost."""
        latent, run, B, C = self.latent, self.run, len(h), len(self.codes)
        weights, costs, values = (self.table(name, C, B) for name in ("weights", "costs", "values"))
        sums, (dh, dprior) = self.table("sums", self.D * self.K, B), latent.gradients(B)
        self.on.launch("exact_product", elementwise(C * B), weights, costs, values, C, B)
        code_linear_backward(self.on, values, self.codes, sums, self.K)
        latent.launch("exact_backward", B, h, latent.prior, sums, costs, latent.kl(B), run["settings"], run["clock"],
                      dh, dprior, cost, B, self.D, self.K, latent.free_bits, 1 / B)
        latent.prior_backward(dprior)
        return dh
