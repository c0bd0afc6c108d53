"""What every latent layer of a captured step has: prior, KL, and the gradient that it hands to the encoder."""
from __future__ import annotations

from npdvae.gpu.layers import add_bias_backward
from npdvae.gpu.memory import Buffers
from npdvae.kernels.cuda.constants import IDENTITY
from npdvae.kernels.cuda.launch import row_groups, strips


class Latent:
    """D variables of K categories: kl [B, D] in nats, dh [B, D K], and dprior [B, D K] where a prior is learned."""

    def __init__(self, on, run, model, recipe, params, grads):
        self.on, self.run, batch = on, run, recipe.batch_size
        self.D, self.K, self.free_bits = model.latent.latents, model.latent.categories, model.latent.free_bits
        learned, DK = model.latent.prior.name == "learned", self.D * self.K
        self.prior = params["latent.prior"] if learned else None
        self.dprior = grads["latent.prior"].reshape(-1) if learned else None
        self.buffers = Buffers(on.xp)
        self.buffers.add("kl", (batch, self.D), on.dtype)
        self.buffers.add("dh", (batch, DK), on.dtype)
        self.buffers.add("dprior", (batch if learned else 0, DK), on.dtype)
        self.scratch = strips(batch) * DK

    def launch(self, name, B, *arguments):
        """A kernel that gives each latent of each example a few lanes."""
        self.on.launch(name, row_groups(B * self.D, self.K), *arguments)

    def kl(self, B):
        return self.buffers.rows("kl", B)

    def gradients(self, B):
        """Where a backward writes: dh, and each example's share of the prior's gradient, or None."""
        return self.buffers.rows("dh", B), None if self.prior is None else self.buffers.rows("dprior", B)

    def prior_backward(self, dprior):
        """The learned prior's gradient: the sum over examples."""
        if dprior is not None:
            with self.on.weights():
                add_bias_backward(self.on, dprior, None, self.dprior, IDENTITY)
