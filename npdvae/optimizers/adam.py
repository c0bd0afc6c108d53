"""Adam (Kingma & Ba 2015, algorithm 1)."""
from npdvae.ops import updates
from npdvae.optimizers import register
from npdvae.optimizers.base import Optimizer, Scalars


@register
class Adam(Optimizer):
    """beta1 0.9, beta2 0.999, eps 1e-8."""

    name = "adam"
    kinds = "mv"

    def scalars(self, t, lr):
        return Scalars(*updates.adam_scalars(t, lr))

    def rule(self, p, g, *moments, t, lr):
        return self.ops.adam(p, g, *moments, t, lr)
