"""Stochastic gradient descent with momentum."""
from npdvae.optimizers import register
from npdvae.optimizers.base import Optimizer


@register
class SGD(Optimizer):
    """m <- momentum m + g, p <- p - lr m."""

    name = "sgd"

    def __init__(self, ops, momentum=0.9):
        super().__init__(ops)
        if not 0 <= momentum < 1:
            raise ValueError(f"momentum must be in [0, 1), got {momentum}")
        self.momentum = momentum

    def settings(self):
        return {"momentum": self.momentum}

    def rule(self, p, g, *moments, t, lr):
        return self.ops.sgd(p, g, *moments, lr, self.momentum)
