"""Rectified Adam (Liu et al. 2020, algorithm 2)."""
from npdvae.ops import updates
from npdvae.optimizers import register
from npdvae.optimizers.base import Optimizer, Scalars


@register
class RAdam(Optimizer):
    """Constants as Adam's."""

    name = "radam"
    kinds = "mv"

    def scalars(self, t, lr):
        return Scalars(*updates.adam_scalars(t, lr), updates.radam_rectifier(t))

    def rule(self, p, g, *moments, t, lr):
        return self.ops.radam(p, g, *moments, t, lr)
