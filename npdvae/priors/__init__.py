"""Priors p(z) over D latents of K categories, one file each, found by name."""
from npdvae.registry import Registry

registry = Registry("prior", __name__)
register, names, find = registry.register, registry.names, registry.find


def get(name: str, /, *, latents, categories, ops=None, **options):
    """A prior over `latents` codes of `categories`, on the NumPy table unless `ops` says otherwise."""
    return registry.make(name, {"latents": latents, "categories": categories, "ops": ops}, options)
