"""The discrete VAE: encoder f_phi, categorical latent, decoder g_theta (mirrored), Bernoulli likelihood."""
from npdvae.latents.categorical import Categorical
from npdvae.likelihood import Bernoulli
from npdvae.mlp import MLP


class DiscreteVAE:
    """x [B, P] -> encoder -> logits [B, D*K] -> codes -> decoder -> pixel logits [S, B, P].

    Holds structure only; parameters are a flat dict of arrays that the caller owns.
    """

    def __init__(self, pixels, latents, categories, hidden, estimator, ops, activation="relu",
                 initialisation="pytorch", prior="uniform", free_bits=0.0):
        if any(width < 1 for width in hidden):
            raise ValueError(f"hidden sizes must be at least 1, got {list(hidden)}")
        self.pixels, self.hidden, self.ops = pixels, tuple(hidden), ops
        self.latent = Categorical(latents, categories, estimator, ops, prior, free_bits)
        width = self.latent.width
        self.encoder = MLP("encoder", (pixels, *hidden, width), activation, ops, initialisation)
        self.decoder = MLP("decoder", (width, *reversed(hidden), pixels), activation, ops, initialisation)
        self.likelihood = Bernoulli(ops)

    def init(self, rng, dtype):
        """Fresh parameters, NumPy arrays of `dtype` by name."""
        return {**self.encoder.init(rng, dtype), **self.decoder.init(rng, dtype), **self.latent.init(dtype)}

    def decode(self, params, codes):
        """Pixel logits of codes: int [..., D] or float [..., D, K] -> [..., P], and what backward needs."""
        if codes.dtype.kind not in "iu":
            codes = codes.reshape(*codes.shape[:-2], self.latent.width)   # [..., D*K]
        return self.decoder.forward(params, codes)
