"""What latents of continuous z claim in the mean over their noise: gradients, density, KL; by quadrature."""
from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from npdvae.types import Array
from npdvae.verify.gradients import finite_differences
from npdvae.verify.latent_fixed import by_complex_steps, fixed_noise, gap
from npdvae.verify.latent_layer import Layer, Proof, largest, proof
from npdvae.verify.latent_noise import finest, nodes

EXAMPLES, EXAMPLES_OF_MANY = 2, 1
RULE = 1e-7                                                         # tolerance, of the largest entry
CLIPPED, COARSE = 1e-4, 1e-6                                        # where a density ends early, or a KL is a sum


# ---- means over the noise -------------------------------------------------------------------------------------------

def tiled(h: Array, n: int) -> Array:
    """One example n times: [E] -> [n, E]."""
    return np.repeat(h[None], n, 0)


def step_of(layer: Layer) -> float:
    """The step of the rule at which what claims compare, of the first example, does not change any more."""
    def sums(step: float) -> Array:
        other, h = layer.with_step(step), layer.h[0]
        return np.array([mean_cost(other, h), mean_log_ratio(other, h), *density_gradients(other, h)[0]])
    if layer.step is None:
        layer.step = finest(sums)
    return layer.step


def examples(layer: Layer) -> Array:
    """At which means are taken: one where the nodes are many, else two, [n, E]."""
    return layer.h[:EXAMPLES_OF_MANY if layer.latent.latents > 1 or step_of(layer) < 0.5 else EXAMPLES]


def mean_gradient(layer: Layer, h: Array, kl_weight: float, cost_weight: float) -> Array:
    """E[dh] of one example: h [E] -> [E]."""
    rule = nodes(layer.latent, step_of(layer), lambda latent, rng: latent.forward(
        layer.params, h[None], rng, layer.state, layer.context[:1]))
    other = layer.with_latent(rule.latent)
    return rule.weights @ other.gradients(tiled(h, len(rule.weights)), rule.rng, kl_weight, cost_weight)[0]


class Drawn(NamedTuple):
    """z as `sample` draws it for evaluation, at the nodes of its noise."""

    q: Any
    z: np.ndarray                                                   # [1, N, ..]
    weights: np.ndarray                                             # [N]


def drawn(layer: Layer, h: Array) -> Drawn:
    """Of one example h [E]."""
    rule = nodes(layer.latent, step_of(layer), lambda latent, rng: latent.sample(
        layer.params, latent.posterior(layer.params, h[None]), rng, 1))
    q = rule.latent.posterior(layer.params, tiled(h, len(rule.weights)))
    return Drawn(q, rule.latent.sample(layer.params, q, rule.rng, 1), rule.weights)


def cost_of(layer: Layer, z: Array) -> Array:
    """[1, N]."""
    return layer.cost(layer.latent.rows(layer.params, z))


def mean_cost(layer: Layer, h: Array) -> Array:
    """E[cost] of one example."""
    at = drawn(layer, h)
    return cost_of(layer, at.z)[0] @ at.weights


def analytic_kl(layer: Layer, h: Array) -> Array:
    """The KL reported, of one example."""
    return layer.latent.posterior(layer.params, h[None]).kl.sum()


def over_examples(layer: Layer, found: Callable[[Array], Array], expected: Callable[[Array], Array]) -> float:
    """The largest gap over a few examples."""
    return largest(*(gap(found(h), expected(h)) for h in examples(layer)))


def mean_is_gradient(layer: Layer, claim: str = "mean gradient = gradient of the mean cost") -> Proof:
    """E[dh] is the derivative of E[cost], z as evaluation draws it; by differences of the quadrature."""
    error = over_examples(layer, lambda h: mean_gradient(layer, h, 0.0, 1.0),
                          lambda h: finite_differences(lambda h: mean_cost(layer, h), h))
    return proof(layer, claim, "quadrature", error, RULE)


def density_gradients(layer: Layer, h: Array) -> list[Array]:
    """E[cost d log q(z) / dh], log q by `log_ratio` with z held fixed, by complex steps and by differences: [E] each.

    A kink of log q upsets the differences; not all functions let complex numbers through.
    """
    at = drawn(layer, h)
    weighted = at.weights * cost_of(layer, at.z)[0]                 # [N]

    def surrogate(moved: Array) -> Array:
        q = layer.latent.posterior(layer.params, tiled(moved, len(weighted)))
        return -layer.latent.log_ratio(layer.params, q, at.z)[0] @ weighted
    found = (by_complex_steps(surrogate, h), finite_differences(surrogate, h))
    return [g for g in found if g is not None]


def density(layer: Layer) -> Proof:
    """The same derivative from the density that `log_ratio` states."""
    errors = []
    for h in examples(layer):
        mean = mean_gradient(layer, h, 0.0, 1.0)
        errors.append(np.fmin.reduce([gap(g, mean) for g in density_gradients(layer, h)]))      # of two witnesses
    error = largest(*errors)
    clipped = layer.latent.name == "triangular"                     # log q ends at 2^-23, where its slope is large
    return proof(layer, "mean gradient = that of its density", "quadrature", error, CLIPPED if clipped else RULE)


def mean_log_ratio(layer: Layer, h: Array) -> Array:
    """E[log p - log q] of one example."""
    at = drawn(layer, h)
    return layer.latent.log_ratio(layer.params, at.q, at.z)[0] @ at.weights


def kl(layer: Layer) -> Proof:
    """The analytic KL is E[log q - log p]."""
    error = over_examples(layer, lambda h: analytic_kl(layer, h), lambda h: -mean_log_ratio(layer, h))
    coarse = getattr(layer.latent, "prior_family", "gaussian") != "gaussian"        # 64 nodes of its own
    return proof(layer, "KL = E[log q - log p]", "quadrature", error, COARSE if coarse else RULE)


def kl_gradient(layer: Layer) -> Proof:
    """What `backward` adds for the KL is in the mean its derivative."""
    error = over_examples(layer, lambda h: mean_gradient(layer, h, 1.0, 0.0),
                          lambda h: finite_differences(lambda h: analytic_kl(layer, h), h))
    return proof(layer, "mean KL gradient = gradient of the KL", "quadrature", error, RULE)


def continuous(layer: Layer) -> Iterator[Callable[[Layer], Proof]]:
    """What any latent of continuous z is held to."""
    if layer.latent.needs_dz:
        yield fixed_noise
    yield from (mean_is_gradient, density, kl, kl_gradient)
