"""Likelihoods: densities that integrate to one, adjoints, shared codes, and whole steps. Share: 2 s."""
import math

import mpmath
import numpy as np
import pytest

from npdvae import backends, likelihoods
from npdvae.latents.categorical import Categorical
from npdvae.likelihoods.continuous_bernoulli import log_norm, mean_of
from npdvae.likelihoods.gaussian import LEAST
from npdvae.model import DiscreteVAE
from npdvae.rng import INIT, Generator
from npdvae.step import step
from tests.checks import close

S, B, P = 3, 4, 5
NOISE = np.random.default_rng(0)
A, X = 2 * NOISE.normal(size=(S, B, P)), NOISE.random((B, P))
CASES = [("bernoulli", {}), ("continuous_bernoulli", {}), ("gaussian", {}), ("gaussian", dict(sigma=0.3)),
         ("gaussian", dict(sigma=0.4, learned=True))]
TINY = 1e-20


def made(name, options):
    likelihood = likelihoods.get(name, **options)
    return likelihood, likelihood.init(np.float64)


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("name, options", CASES)
def test_backward_is_the_adjoint_for_logits_and_parameters(name, options, shared):
    """Random cotangents against complex steps; other weights for the parameters where they are given."""
    likelihood, params = made(name, options)
    a = A[:, :1] if shared else A
    dcost, weights = NOISE.normal(size=(2, S, B))
    da, grads = likelihood.backward(params, dcost, a, X, weights)
    for i in np.ndindex(a.shape):
        moved = a.astype(complex)
        moved[i] += 1j * TINY
        expected = (dcost * likelihood.forward(params, moved, X).imag).sum() / TINY
        assert abs(da[i] - expected) <= 1e-12 * np.abs(da).max(), i     # sums of B products, float64
    assert grads.keys() == params.keys()
    for k, g in grads.items():
        moved = {k: params[k] + 1j * TINY}
        close(g, (weights * likelihood.forward(moved, a, X).imag).sum().reshape(1) / TINY, 1e-12)
        assert np.array_equal(likelihood.backward(params, weights, a, X)[1][k], g)


@pytest.mark.parametrize("name, options", CASES)
def test_cost_of_shared_codes_is_that_of_each_image(name, options):
    likelihood, params = made(name, options)
    shared = likelihood.forward(params, A[:, :1], X)                # [S, B], a product of matrices
    written = likelihood.forward(params, np.repeat(A[:, :1], B, 1), X)
    close(shared, written, 1e-13)


@pytest.mark.parametrize("name, options", CASES[1:])
def test_densities_integrate_to_one(name, options):
    likelihood, params = made(name, options)
    low, high = (0, 1) if name == "continuous_bernoulli" else (-16, 16)     # 8 is 11 deviations
    nodes, weights = np.polynomial.legendre.leggauss(400)
    x = (low + high) / 2 + (high - low) / 2 * nodes                 # [N]
    for a in (-8.0, -0.3, 0.0, 1e-9, 2.0):
        cost = likelihood.forward(params, np.full((1, len(x), 1), a), x[:, None])[0]    # [N]
        assert abs((weights * np.exp(-cost)).sum() * (high - low) / 2 - 1) <= 1e-9      # of the quadrature
    assert likelihood.density and not likelihoods.get("bernoulli").density


@pytest.mark.parametrize("name, options", CASES)
def test_the_image_shown_is_the_mean(name, options):
    likelihood, params = made(name, options)
    shown = likelihood.mean(params, A)
    if name == "bernoulli":
        expected = 1 / (1 + np.exp(-A))
    elif name == "gaussian":
        expected = A
    else:                                                           # int x exp(a x) dx / int exp(a x) dx
        nodes, weights = np.polynomial.legendre.leggauss(60)
        x = (nodes + 1) / 2
        e = weights * np.exp(A[..., None] * x)
        expected = (x * e).sum(-1) / e.sum(-1)
    close(shown, expected, 1e-12)


VALUES = [0.0, 1e-30, 1e-8, -1e-8, 0.01, -0.01, 0.7, 0.9999999, 1.0, -1.0000001, 3.0, -20.0, 90.0, -90.0, 1e4, -1e4]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_continuous_bernoulli_agrees_with_mpmath(dtype):
    """In units of the last place of the natural scale: max(|a|, 1) for A, 1/2 for the mean."""
    a = np.array(VALUES, dtype)
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        norm, mean = log_norm(np, a), mean_of(np, a)
    assert norm.dtype == mean.dtype == dtype
    eps = float(np.finfo(dtype).eps)
    with mpmath.workdps(60):
        for v, n, m in zip(a, norm, mean):
            v = mpmath.mpf(float(v))
            exact_norm = mpmath.mpf(0) if v == 0 else mpmath.log(mpmath.expm1(v) / v)
            exact_mean = mpmath.mpf(1) / 2 if v == 0 else 1 / -mpmath.expm1(-v) - 1 / v
            assert abs(float(n) - exact_norm) <= 4 * eps * max(abs(v), 1), v
            assert abs(float(m) - exact_mean) <= 4 * eps, v


def test_gaussian_with_sigma_of_sqrt_half_is_squared_error():
    likelihood, params = made("gaussian", {})
    squares = ((X - A) ** 2).sum(-1)
    close(likelihood.forward(params, A, X), squares + P * math.log(math.pi) / 2, 1e-13)


def test_learned_sigma_stops_at_its_floor_and_comes_back():
    likelihood = likelihoods.get("gaussian", learned=True)
    params = {"likelihood.log_sigma": np.array([LEAST - 1])}
    far, near = np.ones((1, B, P)) * 3, np.broadcast_to(X, (1, B, P)).copy()
    ones = np.ones((1, B))
    assert np.isfinite(likelihood.forward(params, far, X)).all()
    assert likelihood.backward(params, ones, near, X)[1]["likelihood.log_sigma"] == 0     # would go further down
    assert likelihood.backward(params, ones, far, X)[1]["likelihood.log_sigma"] < 0       # descent goes up again
    at = {"likelihood.log_sigma": np.array([LEAST])}
    for weight in (1e-3, 1.0):                  # however small the gradient is
        assert likelihood.backward(at, weight * ones, near, X)[1]["likelihood.log_sigma"] == 0
        assert likelihood.backward(params, 1e-6 * weight * ones, far, X)[1]["likelihood.log_sigma"] < 0
    above = {"likelihood.log_sigma": np.array([LEAST + 0.1])}
    assert likelihood.backward(above, ones, near, X)[1]["likelihood.log_sigma"] > 0


@pytest.mark.parametrize("options, message", [(dict(sigma=0.001), "sigma of at least"), (dict(sigma=0), "sigma"),
                                              (dict(scale=1.0), "no option 'scale'")])
def test_gaussian_refuses_senseless_options(options, message):
    with pytest.raises(ValueError, match=message):
        likelihoods.get("gaussian", **options)


@pytest.mark.parametrize("prior", ["uniform", "learned", "autoregressive"])
@pytest.mark.parametrize("name, options", CASES)
def test_exact_step_is_the_derivative_of_the_bound(name, options, prior):
    """Complex step of the enumerated negative ELBO for every parameter, learned scale and prior included."""
    model = DiscreteVAE(P, (4,), Categorical(2, 3, "exact", prior=prior), likelihoods.get(name, **options), "tanh")
    params = {k: v + 0.3 * NOISE.normal(size=v.shape)
              for k, v in model.init(Generator(0, INIT), np.float64).items()}
    grads = step(model, params, X, None).grads
    assert grads.keys() == params.keys()
    largest = max(np.abs(g).max() for g in grads.values())

    def loss(p):
        done = step(model, p, X.astype(complex), None)
        return (done.cost + done.kl).mean()

    for k, p in params.items():
        for i in list(np.ndindex(p.shape))[:40]:
            moved = {**params, k: p.astype(complex)}
            moved[k][i] += 1j * TINY
            assert abs(loss(moved).imag / TINY - grads[k][i]) <= 1e-12 * largest, (k, i)


def test_likelihoods_are_listed_by_name():
    assert likelihoods.names() == ("bernoulli", "continuous_bernoulli", "gaussian")
    assert likelihoods.get("bernoulli").ops.name == backends.load("numpy").name


@pytest.mark.parametrize("name, options", CASES)
def test_images_drawn_have_the_mean_that_is_shown(name, options):
    """40,000 draws of each of five pixels: five standard errors; the seed is fixed."""
    likelihood, params = made(name, options)
    n, a = 40_000, np.array([[-2.0, -0.5, 0.0, 0.7, 3.0]])
    drawn = likelihood.sample(params, np.repeat(a, n, 0), Generator(1))
    mean = likelihood.mean(params, a)[0]
    assert drawn.shape == (n, 5) and np.isfinite(drawn).all()
    assert (np.abs(drawn.mean(0) - mean) <= 5 * drawn.std(0) / math.sqrt(n) + 1e-12).all()
    if name == "bernoulli":
        assert set(np.unique(drawn)) == {0.0, 1.0}
    elif name == "gaussian":
        assert np.abs(drawn.std(0) / options.get("sigma", math.sqrt(0.5)) - 1).max() < 0.02
    else:                                       # fraction below 1/2 of exp(a x) / Z
        below = np.where(a == 0, 0.5, np.expm1(a / 2) / np.where(a == 0, 1, np.expm1(a)))[0]
        assert np.abs((drawn < 0.5).mean(0) - below).max() < 5 * 0.5 / math.sqrt(n)


def test_only_binary_pixels_have_a_baseline_and_a_floor():
    images = (NOISE.random((20, 6)) * 16).astype(np.uint8)
    bernoulli, gaussian = likelihoods.get("bernoulli"), likelihoods.get("gaussian")
    assert bernoulli.collapsed(images, images, 16) > bernoulli.floor(images, 16) > 0
    assert gaussian.collapsed(images, images, 16) is None and gaussian.floor(images, 16) is None
    assert [x.grey for x in (bernoulli, gaussian, likelihoods.get("continuous_bernoulli"))] == [False, True, True]
    assert bernoulli.outputs(7) == 7


def test_a_likelihood_says_how_many_outputs_the_decoder_has():
    class Twice(type(likelihoods.get("bernoulli"))):
        def outputs(self, pixels):
            return 2 * pixels

    latent = Categorical(2, 3, "exact")
    assert DiscreteVAE(P, (4,), latent, Twice(latent.ops)).decoder.sizes == (6, 4, 2 * P)
