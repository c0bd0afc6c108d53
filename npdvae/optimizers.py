"""Optimizers over the flat dict of parameters: SGD with momentum, Adam, RAdam; global-norm clipping."""
import math

NAMES = ("adam", "radam", "sgd")


class Optimizer:
    """Updates every parameter that has a gradient; moments are arrays by name that the caller owns."""

    def __init__(self, name, ops, momentum=0.9):
        if name not in NAMES:
            raise ValueError(f"unknown optimizer {name!r}: expected one of {', '.join(NAMES)}")
        if not 0 <= momentum < 1:
            raise ValueError(f"momentum must be in [0, 1), got {momentum}")
        self.name, self.ops, self.momentum = name, ops, momentum
        self.kinds = "m" if name == "sgd" else "mv"

    def init(self, params):
        """Zero moments for params: m.<name>, and v.<name> unless SGD."""
        return {f"{kind}.{k}": self.ops.xp.zeros_like(p) for kind in self.kinds for k, p in params.items()}

    def update(self, params, grads, moments, t, lr):
        """Update number t (1-based) with learning rate lr: new params, new moments."""
        fresh = {k: params[k] for k in grads if f"m.{k}" not in moments}     # learned entries of an estimator
        params, moments = dict(params), {**moments, **self.init(fresh)}
        for k, g in grads.items():
            if self.name == "sgd":
                params[k], moments[f"m.{k}"] = self.ops.sgd(params[k], g, moments[f"m.{k}"], lr, self.momentum)
            else:
                rule = self.ops.adam if self.name == "adam" else self.ops.radam
                params[k], moments[f"m.{k}"], moments[f"v.{k}"] = rule(
                    params[k], g, moments[f"m.{k}"], moments[f"v.{k}"], t, lr)
        return params, moments


def clip_norm(grads, limit):
    """Scale all gradients so that their joint Euclidean norm is at most `limit`."""
    norm = math.sqrt(sum(float((g.astype("f8") ** 2).sum()) for g in grads.values()))
    if not norm > limit:
        return grads
    return {k: g * g.dtype.type(limit / norm) for k, g in grads.items()}
