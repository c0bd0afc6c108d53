"""With the noise fixed, a step is the derivative of a loss: that test, for any latent, likelihood and prior.

    model, params, x = small(latents.get("gaussian", latents=2))
    check_step(model, params, x)

Where the step is the derivative of another loss than cost + kl_weight * KL (score functions, straight-through, free
bits), say which: check_step(..., objective=f) with f(params) -> mean over the batch, all that is stopped held fixed.
"""
import numpy as np

from npdvae.model import DiscreteVAE
from npdvae.rng import INIT, Generator
from npdvae.step import step

KL_WEIGHT, SEED, H = 0.7, 1, 1e-20              # a weight that is not one; a step that no rounding sees
f8 = np.float64


def small(latent, likelihood=None, pixels=5, hidden=(4,), images=3, seed=0):
    """A model with no kinks, random parameters of size 1 and images of zeros and ones: model, params, x [B, P]."""
    model = DiscreteVAE(pixels, hidden, latent, likelihood, activation="tanh")
    noise = np.random.default_rng(seed)
    params = {k: v + 0.5 * noise.normal(size=v.shape) for k, v in model.init(Generator(seed, INIT), f8).items()}
    return model, params, (noise.random((images, pixels)) < 0.5).astype(f8)


def run(model, params, x, state=None, kl_weight=KL_WEIGHT, seed=SEED):
    """One step; the same `seed` draws the same noise whatever the parameters are."""
    return step(model, params, x, Generator(seed), state, kl_weight)


def derivative(objective, params):
    """The gradient of objective(params) by complex steps, exact to rounding: arrays by name."""
    grads = {}
    for name, p in params.items():
        grads[name] = np.empty(p.shape)
        for i in np.ndindex(p.shape):
            moved = {k: v.astype(complex) for k, v in params.items()}
            moved[name][i] += H * 1j
            grads[name][i] = np.imag(objective(moved)) / H
    return grads


def check_step(model, params, x, objective=None, state=None, kl_weight=KL_WEIGHT, seed=SEED, tolerance=1e-12):
    """Fail where an entry of the step's gradients is off by more than `tolerance` of the largest entry of all."""
    def loss(p):
        done = run(model, p, x, state, kl_weight, seed)
        return (done.cost + kl_weight * done.kl).mean()

    expected, found = derivative(objective or loss, params), run(model, params, x, state, kl_weight, seed).grads
    scale = max(np.abs(g).max() for g in expected.values())
    for name, g in expected.items():
        got = found.get(name, np.zeros_like(g))
        assert got.shape == g.shape and got.dtype == f8, f"{name}: {got.dtype} {got.shape}"
        gap = np.abs(got - g).max()
        assert gap <= tolerance * scale, f"{name}: gap {gap:.1e}, largest gradient {scale:.1e}"
