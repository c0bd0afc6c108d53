"""What the registry's latents claim beyond any latent of continuous z: samplers, a penalty, what a score misses."""
from __future__ import annotations

from typing import Any

import numpy as np

from npdvae import estimators
from npdvae.estimators.parts.smoothing_functions import FUNCTIONS
from npdvae.latents import families
from npdvae.types import Array
from npdvae.verify import costs
from npdvae.verify.continuous import noise_moments
from npdvae.verify.latent_claims import (
    RULE,
    cost_of,
    density_gradients,
    drawn,
    examples,
    mean_gradient,
    over_examples,
)
from npdvae.verify.latent_fixed import gap
from npdvae.verify.latent_layer import Layer, Proof, largest, proof
from npdvae.verify.latent_noise import Nodes, Recorder, uniforms, unit_rule

WIDE = {"kumaraswamy": (-0.4, -0.4), "gamma": (-0.3, 0.4), "dirichlet": (-0.3, -0.2)}   # h that covers the prior
FINE = 0.125                                    # step of the rule for two uniforms that make a normal number
WAVES = np.array([0.1, 0.3, 0.6])               # of the tests of a law: cos(w e), sin(w e)


def law(layer: Layer) -> Proof:
    """E g(noise(u)) over uniforms is the integral of g p0, for waves g: the noise has the density of its family."""
    family = layer.latent.family
    u, w = uniforms(family.uniforms, FINE)                          # [N, uniforms]
    e, p = families.nodes(family, 1600)                             # [n]
    drawn = family.noise(u)                                         # [N]
    found, expected = (np.concatenate([weights @ g(np.multiply.outer(at, WAVES)) for g in (np.cos, np.sin)])
                       for at, weights in ((drawn, w), (e, p)))
    return proof(layer, "noise has its density", "quadrature", gap(found, expected), RULE)


def prior(layer: Layer) -> Proof:
    """E_p[cost] by the prior's sampler is E_q[cost p / q], q wider than p."""
    latent, params = layer.latent, layer.params
    h = np.array(WIDE.get(latent.name, (0.3, 0.6)))                 # [E]
    seen = Recorder()
    latent.sample_prior(params, seen, 1)
    u, w = uniforms(seen.drawn, FINE)
    z = latent.sample_prior(params, Nodes(u), len(u))[None]         # [1, N, D]
    found = cost_of(layer, z)[0] @ w
    at = drawn(layer, h)
    expected = (cost_of(layer, at.z) * np.exp(latent.log_ratio(params, at.q, at.z)))[0] @ at.weights
    return proof(layer, "prior drawn has its density", "quadrature", gap(found, expected), RULE)


def penalty(layer: Layer) -> Proof:
    """kl=parameters descends loc^2 + (exp(s) - 1)^2; the KL reported is another row."""
    error = over_examples(layer, lambda h: mean_gradient(layer, h, 1.0, 0.0), lambda h: np.array(
        [2 * h[0], 2 * (np.exp(h[1]) - 1) * np.exp(h[1])]))
    return proof(layer, "descends loc^2 + (sigma - 1)^2", "quadrature", error, RULE)


def ends(layer: Layer) -> Proof:
    """E[cost d log q] of a uniform misses what moving its ends does; with that added it is the derivative."""
    errors, missed = [], []
    for h in examples(layer):
        loc, sigma = h[0], np.exp(h[1])
        low, high = layer.cost(layer.latent.rows(layer.params, np.array([[[loc - sigma]], [[loc + sigma]]])))[:, 0]
        boundary, true = np.array([(high - low) / (2 * sigma), (high + low) / 2]), mean_gradient(layer, h, 0.0, 1.0)
        score = density_gradients(layer, h)[0]
        errors.append(gap(score + boundary, true))
        missed.append(gap(score, true))
    return proof(layer, "score misses the ends alone", "quadrature", largest(*errors), RULE,
                 f"a score alone: {max(missed):.2g} gradients off")


def smoothing(function: str, beta: float = 4.0) -> Proof:
    """The mean gradient of a smoothed bit is the derivative of p E[f | 1] + (1 - p) E[f | 0], each integrated."""
    estimator = estimators.get("smoothing", function=function, samples=1, temperature=1 / beta)
    cost, (t, w) = costs.make("decoder", 0, 1, 1, 2), unit_rule(1, FINE)
    found, expected = [], []
    for a in (-1.0, 0.6):
        logits = np.array([[[0.0, a]]])                             # [B, D, K]
        found.append(noise_moments(estimator, logits, cost, cost.gradient).mean[0, 0])
        p = 1 / (1 + np.exp(-(a + 1e-20j)))
        ones, zeros = (w @ cost(branch(function, bit, p, t, beta))[:, 0] for bit in (True, False))
        expected.append((p * ones + (1 - p) * zeros).imag / 1e-20 * np.array([-1, 1]))
    error = gap(np.array(found), np.array(expected))
    return Proof(f"categorical, smoothing ({function})", "mean gradient = gradient of the smoothed cost", "1x2",
                 "quadrature", error, RULE, "holds" if error <= RULE else "BROKEN", f"beta = {beta:g}")


def branch(function: str, bit: bool, p: Any, t: Array, beta: float) -> Array:
    """Rows of one latent given its bit, t uniform: [N, 1, 1, 2]."""
    z = FUNCTIONS[function](np, np.array(bit), p, t, t, beta)[0]    # [N]
    return np.stack([1 - z, z], -1)[:, None, None]
