"""Updates that need the gradient of all parameters first: clipping, microbatches, optimizers without a kernel of its
own behind each gradient."""
from __future__ import annotations

import math

from npdvae.kernels.cpu import jobs
from npdvae.state import merge

RULES = {"adam": jobs.ADAPTIVE, "radam": jobs.ADAPTIVE, "sgd": jobs.MOMENTUM}     # of updates in kernels


def together(parts):
    """Sums, gradients and state of a step from those of its parts, each with its number of examples."""
    (total, grads, _, _), *others = parts
    for sums, more, _, _ in others:
        total, grads = total + sums, {k: grads[k] + g for k, g in more.items()}
    examples = sum(n for _, _, _, n in parts)
    return total, grads, merge([(state, n / examples) for _, _, state, n in parts])


class Whole:
    """The gradient of all layers as the workers leave it, 3 span behind the parameters; norms: sums of its squares."""

    def __init__(self, plan, mem, norms):
        self.plan, self.mem, self.norms = plan, mem, norms

    def layers(self, base):
        """Weights and biases by name, at an offset."""
        found = {}
        for layer in self.plan.layers:
            found[f"{layer.name}.weight"], found[f"{layer.name}.bias"] = layer.get(self.mem, base)
        return found

    def gradients(self):
        return self.layers(3 * self.plan.span)

    def clip(self, grads, limit, turn):
        """As `optimizers.base.clip_norm` for the layers' gradients and those in `grads`, which are returned."""
        norm = math.sqrt(self.norms.sum() + sum(float((g.astype("f8") ** 2).sum()) for g in grads.values()))
        factor = limit / norm if norm > limit else 1
        self.mem[self.plan.scalars + turn * jobs.STEP_SCALARS + jobs.FACTOR] = factor
        return {k: g * g.dtype.type(factor) for k, g in grads.items()} if norm > limit else grads

    def give(self, params):
        """Updated layers, by name, in place of their gradient, for the workers to take over."""
        for layer in self.plan.layers:
            layer.put(self.mem, 3 * self.plan.span, params[f"{layer.name}.weight"], params[f"{layer.name}.bias"])
