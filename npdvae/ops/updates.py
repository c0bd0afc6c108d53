"""Parameter updates of the optimizers: one array in, the updated array and moments out.

g is the gradient, t the 1-based number of the update. Formulas and defaults are PyTorch's.
"""
import math

from npdvae.types import Array


def sgd(p: Array, g: Array, m: Array, lr: float, momentum: float = 0.9) -> tuple[Array, Array]:
    """SGD with momentum: m <- momentum m + g, p <- p - lr m. Returns p, m."""
    m = momentum * m + g
    return p - lr * m, m


def adam(p: Array, g: Array, m: Array, v: Array, t: int, lr: float, beta1: float = 0.9, beta2: float = 0.999,
         eps: float = 1e-8) -> tuple[Array, Array, Array]:
    """Adam (Kingma & Ba 2015, algorithm 1). Returns p, m, v."""
    m = m + (1 - beta1) * (g - m)
    v = v + (1 - beta2) * (g * g - v)
    rate, root = adam_scalars(t, lr, beta1, beta2)
    return p - rate * m / (v ** 0.5 / root + eps), m, v


def radam(p: Array, g: Array, m: Array, v: Array, t: int, lr: float, beta1: float = 0.9, beta2: float = 0.999,
          eps: float = 1e-8) -> tuple[Array, Array, Array]:
    """Rectified Adam (Liu et al. 2020, algorithm 2), as torch.optim.RAdam. Returns p, m, v."""
    m = m + (1 - beta1) * (g - m)
    v = v + (1 - beta2) * (g * g - v)
    (rate, root), rectifier = adam_scalars(t, lr, beta1, beta2), radam_rectifier(t, beta2)
    step = rate * m
    if rectifier is None:
        return p - step, m, v                   # variance not yet tractable: momentum only
    return p - step * (rectifier * root) / (v ** 0.5 + eps), m, v


def adam_scalars(t: int, lr: float, beta1: float = 0.9, beta2: float = 0.999) -> tuple[float, float]:
    """The bias corrections of update t: lr / (1 - beta1^t), sqrt(1 - beta2^t)."""
    return lr / (1 - beta1 ** t), math.sqrt(1 - beta2 ** t)


def radam_rectifier(t: int, beta2: float = 0.999) -> float | None:
    """The variance rectification term of RAdam, or None while rho_t <= 5."""
    rho_inf = 2 / (1 - beta2) - 1
    rho = rho_inf - 2 * t * beta2 ** t / (1 - beta2 ** t)
    if rho <= 5:
        return None
    return math.sqrt((rho - 4) * (rho - 2) * rho_inf / ((rho_inf - 4) * (rho_inf - 2) * rho))
