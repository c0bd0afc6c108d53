"""The discrete VAE: encoder f_phi, a latent layer, decoder g_theta (mirrored), a likelihood."""
from npdvae import likelihoods
from npdvae.mlp import MLP


class DiscreteVAE:
    """x [B, P] -> encoder -> h [B, E] -> latent -> z -> decoder -> a [S, B or 1, P] -> likelihood.

    Holds structure only; parameters are a flat dict of arrays that the caller owns.
    """

    def __init__(self, pixels, hidden, latent, likelihood=None, activation="relu", initialisation="pytorch"):
        if any(width < 1 for width in hidden):
            raise ValueError(f"hidden sizes must be at least 1, got {list(hidden)}")
        self.pixels, self.hidden, self.latent, self.ops = pixels, tuple(hidden), latent, latent.ops
        self.likelihood = likelihoods.get("bernoulli", ops=self.ops) if likelihood is None else likelihood
        mirrored = (latent.features, *reversed(hidden), self.likelihood.outputs(pixels))
        self.encoder = MLP("encoder", (pixels, *hidden, latent.width), activation, self.ops, initialisation)
        self.decoder = MLP("decoder", mirrored, activation, self.ops, initialisation)

    def init(self, rng, dtype):
        """Fresh parameters, NumPy arrays of `dtype` by name."""
        return {**self.encoder.init(rng, dtype), **self.decoder.init(rng, dtype), **self.latent.init(rng, dtype),
                **self.likelihood.init(dtype)}

    def encode(self, params, x):
        """q(z | x) of images [B, P]."""
        return self.latent.posterior(params, self.encoder.forward(params, x)[0])

    def decode(self, params, z):
        """The decoder's output at z: [..., P], and what backward needs."""
        return self.decoder.forward(params, self.latent.rows(params, z))
