"""What latents of few codes claim, by enumeration: bounds, KL, normalisation, sampler; who receives no gradient."""
from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from npdvae.types import Array, Params
from npdvae.verify.latent_fixed import ROUNDING, SMALLEST, by_complex_steps, by_parameter, fixed_noise, gap
from npdvae.verify.latent_layer import Layer, Proof, largest, proof
from npdvae.verify.latent_noise import Nodes

GRID = 2 ** 14                                  # midpoints of a uniform, for frequencies
COUNTED = 2 / GRID                              # of an interval, one at either end may be counted or not


# ---- a posterior over codes ------------------------------------------------------------------------------------------

def log_q(layer: Layer, q: Any, params: Params) -> tuple[Array, Array]:
    """log q(z | x) of every code and log p(z) - log q: [C, B] each."""
    ratio = layer.latent.log_ratio(params, q, for_each(layer))      # [C, B]
    return layer.latent.log_prior(params, layer.latent.codes())[:, None] - ratio, ratio


def for_each(layer: Layer) -> Array:
    """Every code for every example: int [C, B, D]."""
    codes = layer.latent.codes()[:, None]                           # [C, 1, D]
    return np.broadcast_to(codes, (len(codes), len(layer.h), codes.shape[-1]))


def bound(layer: Layer, h: Array, params: Params) -> Any:
    """sum_b E_q[cost - weight (log p - log q)] over all codes."""
    logs, ratio = log_q(layer, layer.latent.posterior(params, h), params)
    cost = layer.cost(layer.latent.rows(params, layer.latent.codes()[:, None]))     # [C, 1]
    return (np.exp(logs) * (cost - layer.kl_weight * ratio)).sum()


def matches(layer: Layer, loss: Callable[[Array, Params], Any], fixed: tuple[str, ...] = ()) -> float:
    """How far `backward` is from the complex steps of loss(h, params), by h and every parameter that is not `fixed`.

    A parameter without a gradient has to have none: of the largest entry.
    """
    dh, grads = layer.gradients(layer.h, kl_weight=layer.kl_weight)
    scale = max(largest(*map(np.abs, (dh, *grads.values()))), SMALLEST)
    pairs = [(dh, by_complex_steps(lambda h: loss(h, layer.params), layer.h))]
    pairs += [(grads.get(name, np.zeros(())), by_complex_steps(by_parameter(loss, layer, name), p))
              for name, p in layer.params.items() if name not in ("decoder.0.weight", *fixed)]
    if any(expected is None for _, expected in pairs):
        return float("nan")
    return largest(*(np.abs(g - expected) for g, expected in pairs)) / scale


def exact(layer: Layer) -> Proof:
    """Under the exact estimator: backward is the derivative of the enumerated bound."""
    error = matches(layer, lambda h, params: bound(layer, h, params))
    return proof(layer, "gradient = that of the enumerated bound", "enumeration", error, ROUNDING)


def sums_to_one(layer: Layer) -> Proof:
    """q and p are probabilities."""
    q = layer.latent.posterior(layer.params, layer.h)
    logs, _ = log_q(layer, q, layer.params)
    total = np.exp(layer.latent.log_prior(layer.params, layer.latent.codes())).sum()
    return proof(layer, "q and p sum to one", "enumeration", largest(abs(np.exp(logs).sum(0) - 1), abs(total - 1)),
                 ROUNDING)


def kl(layer: Layer) -> Proof:
    """The KL reported is sum_z q (log q - log p)."""
    q = layer.latent.posterior(layer.params, layer.h)
    logs, ratio = log_q(layer, q, layer.params)
    z, kept = layer.forward(layer.h)
    cost = layer.cost(layer.latent.rows(layer.params, z))
    weights = layer.latent.weigh(layer.params, kept, np.broadcast_to(cost, (len(cost), len(layer.h))))
    found = layer.latent.kl(layer.params, kept, weights)
    return proof(layer, "KL = E[log q - log p]", "enumeration", gap(found, -(np.exp(logs) * ratio).sum(0)), ROUNDING)


def frequencies(layer: Layer) -> Proof:
    """Codes drawn by a grid of uniforms come as often as q says, latent by latent."""
    latent, D, K = layer.latent, layer.latent.latents, layer.latent.categories
    q = latent.posterior(layer.params, np.repeat(layer.h[:1], GRID, 0))
    codes = latent.sample(layer.params, q, Nodes(midpoints(D)), 1).reshape(GRID, D)
    found = (codes[..., None] == np.arange(K)).mean(0)              # [D, K]
    return proof(layer, "codes are drawn as often as q says", "enumeration",
                 largest(abs(found - latent.readout(q).mean(0))), COUNTED)


def midpoints(D: int) -> Array:
    """A grid of (0, 1), the same for each latent: [N, D]."""
    return np.repeat(((np.arange(GRID) + 0.5) / GRID)[:, None], D, 1)


# ---- a point ---------------------------------------------------------------------------------------------------------

def point(layer: Layer) -> Proof:
    """q is one code, the nearest, in training as well but under dither; its KL is -log p(code), and p sums to one."""
    latent, params = layer.latent, layer.params
    q, codes = latent.posterior(params, layer.h), latent.codes()
    nearest = latent.distances(params, layer.h).argmin(-1)          # [B, D]
    index = (q.codes[:, None] == codes).all(-1).argmax(-1)          # [B]
    log_p = latent.log_prior(params, codes)                         # [C]
    trained = q.codes if getattr(latent, "dither", False) else layer.forward(layer.h)[0].reshape(q.codes.shape)
    error = largest(abs(q.kl.sum(-1) + log_p[index]), abs(np.exp(log_p).sum() - 1), nearest != q.codes,
                    trained != q.codes)
    return proof(layer, "nearest code, KL = -log p(code)", "enumeration", error, ROUNDING)


def bounds(layer: Layer) -> Proof:
    """The deterministic bound, and that of a softened posterior, are above -log p(x); by how much."""
    latent, params, codes = layer.latent, layer.params, layer.latent.codes()
    cost = layer.cost(latent.rows(params, codes[:, None]))          # [C, 1]
    log_p = latent.log_prior(params, codes)[:, None]                # [C, 1]
    exact = -np.log(np.exp(log_p - cost).sum())
    q = latent.posterior(params, layer.h)
    hard = layer.cost(latent.rows(params, q.codes[None])) + q.kl.sum(-1)        # [1, B]
    soft = latent.soft(0.5)
    ratio = soft.log_ratio(params, soft.posterior(params, layer.h), for_each(layer))     # [C, B]
    spread = (np.exp(log_p - ratio) * (cost - ratio)).sum(0)        # [B]
    slack = [float((values - exact).mean()) for values in (hard, spread)]
    below = largest(0.0, exact - hard, exact - spread)
    return proof(layer, "bounds of -log p(x)", "enumeration", below, ROUNDING,
                 f"{slack[0]:.2g} nats above, {slack[1]:.2g} softened")


def nothing(layer: Layer) -> Proof:
    """The cost reaches the encoder, never codebook and prior; -log p(code) never the encoder: not a bit differs."""
    with_cost, grads = layer.gradients(layer.h)
    without, still = layer.gradients(layer.h, cost_weight=0.0)
    other = layer.with_params({**layer.params, **{k: -v for k, v in layer.params.items() if ".prior" in k}})
    differ = [not np.array_equal(grads[k], still[k]) for k in grads]
    differ += [not np.array_equal(other.gradients(layer.h)[0], with_cost), np.array_equal(with_cost, without)]
    names = " and ".join(sorted({k.split(".")[1] for k in grads})) or "nothing"
    return proof(layer, "no cost to codebook, no prior to encoder", "bit by bit", largest(*differ), 0.0,
                 f"learns by gradient: {names}")


def moving_average(layer: Layer) -> Proof:
    """A step of the EMA is a gradient step of rate (1 - decay) / (2 size) on the codebook loss."""
    latent, params = layer.latent, layer.params
    _, kept = layer.forward(layer.h)
    _, state = latent.advance(params, kept, None, None, layer.state)
    found = latent.refresh(params, state)["latent.codebook"]
    gradient = -2 * latent.moved(kept) / len(layer.h)               # [T, K, C]
    e = params["latent.codebook"] - (1 - latent.book.decay) / (2 * state["size"][..., None]) * gradient
    return proof(layer, "EMA = a gradient step on its loss", "identity", gap(found, latent.book.placed(e)), ROUNDING)


def dither(layer: Layer) -> Proof:
    """E z = tanh h under dither, so straight-through is exact for an affine cost."""
    codes, _ = layer.forward(np.repeat(layer.h[:1], GRID, 0), Nodes(midpoints(layer.latent.latents)))
    found = layer.latent.level(codes, np.dtype(float)).mean((0, 1)) # [D]
    return proof(layer, "E z = tanh h", "enumeration", largest(abs(found - np.tanh(layer.h[:1]))), COUNTED)


def over_codes(layer: Layer) -> Iterator[Callable[[Layer], Proof]]:
    """What a latent of few codes with a posterior over them is held to."""
    estimator = getattr(layer.latent, "estimator", None)
    if layer.latent.relaxed:
        yield fixed_noise
    elif getattr(estimator, "name", None) == "exact":
        yield exact
    yield sums_to_one
    if getattr(estimator, "name", None) == "exact":
        yield kl
    yield frequencies
