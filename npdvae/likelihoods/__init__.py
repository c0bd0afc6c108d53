"""Likelihoods p(x | z), one file each, found by name: cost = -log p(x | z) in nats."""
from npdvae.registry import Registry

registry = Registry("likelihood", __name__)
register, names, find = registry.register, registry.names, registry.find


def get(name: str, /, *, ops=None, **options):
    """A likelihood, on the NumPy table unless `ops` says otherwise; `options` are its constructor's."""
    return registry.make(name, {"ops": ops}, options)
