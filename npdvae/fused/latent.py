"""The categorical latent of a fused step: posterior, KL and codes of the logits, and the gradient at the logits."""
from __future__ import annotations

import numpy as np

from npdvae.fused.memory import matrix, up
from npdvae.kernels.cpu import jobs
from npdvae.kernels.cpu.target import LANES


class Latent:
    """The encoder's logits -> q(z|x), KL and its gradient, codes; the decoder's cost of each code -> dlogits.

    prior: offset of the learned prior's logits, or None for the uniform one.
    """

    def __init__(self, frame, gradient, prior, encoder, decoder, region, integers):
        self.frame, self.gradient, self.prior, self.encoder, self.decoder = frame, gradient, prior, encoder, decoder
        B, D, K = frame.batch, frame.D, frame.K
        self.kl = region.take(B * D)
        self.q, self.dkl = matrix(region, B, D * K), matrix(region, B, D * K)
        self.log_p, self.floor = region.take(D * K), region.take(1)     # of the prior; free bits
        self.numbers = integers.take(up(D, LANES))
        side = up(frame.side, LANES)
        self.scratch = max((2 * up(D * K, LANES) + 5) * side, 3 * D * K, frame.S)
        self.i_scratch = 4 * up(D, LANES) * side

    def fill(self, mem, ints):
        """Write what never changes: numbers of the latents, and log p(z) where it is uniform."""
        D, K = self.frame.D, self.frame.K
        ints[self.numbers:self.numbers + D] = np.arange(D)
        mem[self.log_p:self.log_p + D * K] = -np.log(K)

    def log_prior(self):
        """The job that computes log p(z), where it is learned."""
        if self.prior is None:
            return []
        return [("prior", 1, dict(D=self.frame.D, K=self.frame.K, logits=self.prior, log_p=self.log_p))]

    def forward(self, S):
        """Posterior and KL, and S codes of each example."""
        f, h = self.frame, self.encoder.logits
        return ("latent", -(-f.batch // f.side), dict(
            group=f.side, D=f.D, K=f.K, S=S, h=h.offset, ld_h=h.ld, dkl=self.dkl.offset, q=self.q.offset,
            log_p=self.log_p, kl=self.kl, i_codes=self.decoder.codes.index, i_numbers=self.numbers,
            free_bits=self.floor))

    def backward(self):
        """The estimate from the costs or from the gradients at the codes, and the KL's gradient."""
        f, h, dh, decoder = self.frame, self.encoder.logits, self.encoder.dlogits, self.decoder
        loss, dcodes, kind = decoder.cost.loss, decoder.dcodes, self.gradient.kind
        shared = dict(group=f.examples, D=f.D, K=f.K, S=f.S, ld_h=h.ld, dkl=self.dkl.offset, q=self.q.offset,
                      i_codes=decoder.codes.index, dh=dh.offset, estimator=kind)
        chunks = -(-f.batch // f.examples)
        if kind in jobs.PATHWISE:
            return ("pathwise_backward", chunks, dict(**shared, h=h.offset, dcodes=dcodes.offset, ld_dcodes=dcodes.ld,
                                                      divide=self.gradient.divide))
        return ("latent_backward", chunks, dict(**shared, loss=loss.offset, parts=loss.ld))
