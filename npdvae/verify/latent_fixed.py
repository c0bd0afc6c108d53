"""The gradient of a latent with its noise held fixed, against complex steps or differences."""
from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from npdvae.types import Array, Params
from npdvae.verify.gradients import complex_step, finite_differences
from npdvae.verify.latent_layer import Layer, Proof, largest, proof

ROUNDING, DIFFERENCES = 1e-12, 1e-8                                 # tolerances, of the largest entry
SMALLEST = 1e-300                                                   # of a largest entry, where all are zero
AGREE = 1e-6                                                        # of complex steps with differences, to be trusted


def gap(found: Array, expected: Array) -> float:
    """Largest difference relative to the largest expected entry."""
    return largest(np.abs(found - expected)) / max(largest(np.abs(expected)), SMALLEST)


def by_complex_steps(f: Callable[[Array], Any], x: Array) -> Array | None:
    """The derivative of f at x, or None where f does not let complex numbers through."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", np.exceptions.ComplexWarning)
            return complex_step(f, x)
    except (TypeError, ValueError, Warning):
        return None


def jacobian(f: Callable[[Array], Any], x: Array) -> tuple[Array, str, float]:
    """The derivative of f at x, the method and its tolerance: complex steps where differences bear them out."""
    exact, differences = by_complex_steps(f, x), finite_differences(f, x)
    if exact is not None and gap(exact, differences) <= AGREE:
        return exact, "complex step", ROUNDING
    return differences, "differences", DIFFERENCES


def by_parameter(f: Callable[[Array, Params], Any], layer: Layer, name: str) -> Callable[[Array], Any]:
    """f(h, params) as a function of one parameter."""
    return lambda p: f(layer.h, {**layer.params, name: p})


def fixed_noise(layer: Layer) -> Proof:
    """backward is the derivative of cost + weight * KL with the noise held fixed, by h and by every parameter."""
    dh, grads = layer.gradients(layer.h, kl_weight=layer.kl_weight)
    scale = max(largest(*map(np.abs, (dh, *grads.values()))), SMALLEST)

    def loss(h: Array, params: Params) -> Any:
        return layer.loss(h, params, layer.kl_weight)
    found = [(dh, *jacobian(lambda h: loss(h, layer.params), layer.h))]
    found += [(g, *jacobian(by_parameter(loss, layer, name), layer.params[name])) for name, g in grads.items()]
    worst = largest(*(np.abs(g - expected) for g, expected, _, _ in found)) / scale
    tolerance = largest(*(allowed for _, _, _, allowed in found))   # of the least sharp
    method = "complex step" if tolerance == ROUNDING else "differences"
    return proof(layer, "gradient at fixed noise", method, worst, tolerance)
