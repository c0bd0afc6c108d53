"""What an optimizer is: one rule for each array, from gradient and moments; and clipping by the joint norm."""
from __future__ import annotations

import math
from typing import Any, ClassVar, NamedTuple


class Scalars(NamedTuple):
    """What update t depends on besides arrays and constants, computed once for every engine."""

    rate: float                                 # lr, with the correction of the first moment where there is one
    root: float = 1.0                           # sqrt(1 - beta2^t), the correction of the second moment
    rectifier: float | None = 1.0               # of RAdam; None while the variance is not tractable


class Optimizer:
    """Updates every parameter that has a gradient; moments are arrays by name that the caller owns."""

    name: ClassVar[str]
    kinds: ClassVar[str] = "m"                  # of moments: one letter each, the prefix of their names

    def __init__(self, ops):
        self.ops = ops

    def settings(self) -> dict[str, Any]:
        """The constants of the rule, by name."""
        return {}

    def scalars(self, t, lr) -> Scalars:
        """The scalars of update number t (1-based) with learning rate lr."""
        return Scalars(lr)

    def rule(self, p, g, *moments, t, lr):
        """One array: a tuple of the updated parameter and the updated moments."""
        raise NotImplementedError

    def init(self, params):
        """Zero moments for params: <kind>.<name> for each kind."""
        return {f"{kind}.{k}": self.ops.xp.zeros_like(p) for kind in self.kinds for k, p in params.items()}

    def update(self, params, grads, moments, t, lr):
        """Update number t (1-based) with learning rate lr: new params, new moments."""
        fresh = {k: params[k] for k in grads if not moments.keys() >= {f"{kind}.{k}" for kind in self.kinds}}
        params, moments = dict(params), {**moments, **self.init(fresh)}
        for k, g in grads.items():
            own = [f"{kind}.{k}" for kind in self.kinds]
            old = [params[k], *(moments[m] for m in own)]
            new = self.rule(old[0], g, *old[1:], t=t, lr=lr)
            params[k], *rest = (y.astype(x.dtype, copy=False) for x, y in zip(old, new, strict=True))
            moments.update(zip(own, rest, strict=True))
        return params, moments


def clip_norm(grads, limit):
    """Scale all gradients so that their joint Euclidean norm is at most `limit`."""
    norm = math.sqrt(sum(float((g.astype("f8") ** 2).sum()) for g in grads.values()))
    if not norm > limit:
        return grads
    return {k: g * g.dtype.type(limit / norm) for k, g in grads.items()}
