"""Latent layers, found by name: what stands between encoder and decoder, with the gradient that crosses it."""
from npdvae.registry import Registry

registry = Registry("latent", __name__)
register, names, find = registry.register, registry.names, registry.find


def get(name: str, /, *, latents, categories=None, ops=None, **options):
    """A latent layer of D = `latents` variables, on the NumPy table unless `ops` says otherwise.

    `categories` K where the latent is discrete (None: its default); `options` are its constructor's.
    """
    if categories is not None:
        options = {"categories": categories, **options}
    return registry.make(name, {"latents": latents, "ops": ops}, options)
