"""The reference backend: the functions of `npdvae.ops` as they stand."""
import numpy as np

from npdvae import rng
from npdvae.backends import Ops
from npdvae.data.binarize import targets
from npdvae.ops import activations, bernoulli, categorical, codebook, entropy, gumbel, linear, normal, softmax, updates

MODULES = (linear, activations, softmax, categorical, bernoulli, entropy, gumbel, normal, codebook, updates)


def table() -> Ops:
    """The NumPy op table."""
    found = {name: getattr(module, name) for module in MODULES for name in Ops._fields if hasattr(module, name)}
    return Ops(**{**found, "name": "numpy", "xp": np, "to_host": np.asarray, "uniform": rng.uniform,
                  "targets": targets})
