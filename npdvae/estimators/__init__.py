"""Gradient estimators of E_q[cost] for categorical latents, one file each, found by name."""
from npdvae.registry import Registry

registry = Registry("estimator", __name__)
register, names, listed, find = registry.register, registry.names, registry.listed, registry.find


def get(name: str, /, *, ops=None, **options):
    """An estimator, on the NumPy table unless `ops` says otherwise; `options` are its constructor's."""
    return registry.make(name, {"ops": ops}, options)
