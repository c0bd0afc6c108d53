"""Optimizers over the flat dict of parameters, one file each, found by name."""
from npdvae.registry import Registry

registry = Registry("optimizer", __name__)
register, names, find = registry.register, registry.names, registry.find


def get(name: str, /, *, ops=None, **options):
    """An optimizer, on the NumPy table unless `ops` says otherwise; `options` are its constructor's."""
    return registry.make(name, {"ops": ops}, options)
