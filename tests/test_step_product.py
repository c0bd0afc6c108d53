"""Every latent x likelihood x prior: the step is the complex step of its loss, for every parameter. Share: 5 s.

At fixed noise; under the exact estimator enumerated; of quantisers the surrogate that docs/latents.md states
(`npdvae.verify.surrogates`, whose own proofs are beside). 1e-12 of the largest gradient; 1e-15 is measured.
"""
import itertools

import numpy as np
import pytest

from npdvae import latents, likelihoods, priors
from npdvae.latents import gamma
from npdvae.latents.quantiser import Quantiser
from npdvae.model import DiscreteVAE
from npdvae.ops.gamma import log_gamma_variate
from npdvae.rng import INIT, Generator
from npdvae.verify.surrogates import of
from tests.fixed_noise import KL_WEIGHT, check_step, run

CONTINUOUS = ("gaussian", "laplace", "logistic", "student_t", "triangular", "uniform", "kumaraswamy", "gamma",
              "dirichlet")
CODES = {"vq": dict(categories=3, size=2), "vq of a gradient": dict(categories=3, size=2, codebook="gradient"),
         "vq of a map": dict(categories=3, size=2, codebook="simvq"), "fsq": dict(categories=3), "lfq": {}, "bsq": {},
         "categorical": dict(categories=3, estimator="exact"),
         "categorical relaxed": dict(categories=3, estimator="gumbel_softmax"),
         "categorical smoothed": dict(categories=2, estimator="smoothing"),
         "soft_vq": dict(categories=3, size=2, estimator="exact"),
         "soft_vq relaxed": dict(categories=3, size=2, estimator="gumbel_softmax")}
LIKELIHOODS = {"bernoulli": {}, "continuous_bernoulli": {}, "gaussian": dict(sigma=0.5),
               "gaussian of a learned scale": dict(learned=True)}
PRODUCT = [*itertools.product(CONTINUOUS, LIKELIHOODS, [None]), *itertools.product(CODES, LIKELIHOODS, priors.names())]


def test_the_product_leaves_nothing_out():
    assert {case.split()[0] for case, _, _ in PRODUCT} == set(latents.names())
    assert {case.split()[0] for _, case, _ in PRODUCT} == set(likelihoods.names())
    assert {case for _, _, case in PRODUCT} == {*priors.names(), None} and len(PRODUCT) == 9 * 4 + 11 * 4 * 3


def small(case, likelihood, prior):
    """Model, random parameters and images: two latents, a likelihood, a prior whose net has four hidden units."""
    name, options = case.split()[0], {**CODES.get(case, {}), **({"prior": prior} if prior else {})}
    latent = latents.get(name, latents=2, **options)
    if prior == "autoregressive":
        latent.prior = priors.get(prior, latents=2, categories=latent.categories, hidden=4)
    model = DiscreteVAE(4, (3,), latent, likelihoods.get(likelihood.split()[0], **LIKELIHOODS[likelihood]), "tanh")
    noise = np.random.default_rng(0)
    params = {k: v + 0.5 * noise.normal(size=v.shape) for k, v in model.init(Generator(0, INIT), float).items()}
    return model, params, noise.random((3, 4)).round(0 if model.likelihood.name == "bernoulli" else 2)


class Whole:
    """A model as a surrogate sees it: the cost of decoder inputs, at the parameters of the moment."""

    def __init__(self, model, params, x):
        self.model, self.latent, self.params, self.moved, self.x = model, model.latent, params, params, x
        self.h, self.name = model.encoder.forward(params, x)[0], model.latent.name

    def cost(self, rows):
        a, _ = self.model.decoder.forward(self.moved, rows)
        return self.model.likelihood.forward(self.moved, a, self.x)


def surrogate(model, params, x):
    """The loss of a quantiser, mean over the batch, as a function of all parameters."""
    whole = Whole(model, params, x)
    codes = model.latent.quantise(params, whole.h)                  # int [B, D]
    stopped = of(whole, codes)

    def loss(p):
        whole.moved = {**p, "latent.base": params["latent.base"]} if "latent.base" in p else p
        h = model.encoder.forward(p, x)[0]
        return (stopped.loss(h, whole.moved) - model.latent.log_prior(p, codes).sum()) / len(x)
    return loss


@pytest.fixture(autouse=True)
def extended_variates(monkeypatch):
    """Complex shapes take the Gamma variate's first-order term; the slope has tests of its own."""
    drawn = {}                                  # complex steps leave the real parts alone: a few draws serve all

    def extended(xp, alpha, u):
        key = alpha.real.tobytes() + u.real.tobytes()
        if key not in drawn:
            drawn[key] = log_gamma_variate(xp, np.broadcast_to(alpha.real, u.shape), u.real)
        log_g, slope = drawn[key]
        return log_g + (alpha - alpha.real) * slope, slope
    monkeypatch.setattr(gamma, "log_gamma_variate", extended)


@pytest.mark.parametrize("case, likelihood, prior", PRODUCT)
def test_step_is_the_derivative_at_fixed_noise(case, likelihood, prior):
    model, params, x = small(case, likelihood, prior)
    weight = KL_WEIGHT if model.latent.weighs_kl else 1.0
    state = model.latent.init_state(Generator(0, INIT), 4)
    objective = surrogate(model, params, x) if isinstance(model.latent, Quantiser) else None
    check_step(model, params, x, objective, state, weight)
    done = run(model, params, x, state, weight)
    assert np.isfinite(done.cost).all() and done.kl.shape == (3,)
