"""Smoothing transformations of bits: shape, gradient, mean by quadrature, the bound, what beta does. Share: 2 s."""
import math

import numpy as np
import pytest

from npdvae import estimators
from npdvae.estimators.parts.smoothing_functions import FUNCTIONS, smooth
from npdvae.rng import Generator
from npdvae.verify import costs, exact_gradient
from npdvae.verify.continuous import noise_moments

SPIKES, INVERSES = ["f1", "f2"], ["f1", "f2", "f3"]
OVERLAPPING = ["overlapping_exponential", "overlapping_power"]
BETAS = (2.0, 5.0, 8.0)


def sigmoid(a):
    return 1 / (1 + np.exp(-a))


def zeta(function, p, u, beta, rho=0.5):
    u = np.asarray(u, float)
    return smooth(np, function, np.float64(p), u, rho + 0 * u, beta)[0]


def unit(n=400):
    """Tanh-sinh nodes and weights of (0, 1): errors at rounding for functions smooth inside."""
    t = np.linspace(-3.6, 3.6, n)
    x = 1 / (1 + np.exp(-np.pi * np.sinh(t)))
    keep = (x > 0) & (x < 1)
    return x[keep], (x * (1 - x) * np.pi * np.cosh(t) * (t[1] - t[0]))[keep]


def branch(function, bit, p, t, beta):
    """Rows of one latent given its bit, t uniform: [N, 1, 1, 2]."""
    z = FUNCTIONS[function](np, np.array(bit), p, t, t, beta)[0] + 0 * t
    return np.stack([1 - z, z], -1)[:, None, None]


class OnZeta:
    """The cost of one latent as a polynomial of zeta, for every example."""

    def __call__(self, codes):
        z = codes[..., 0, 1]
        return 1 + z - 3 * z ** 2 + z ** 3

    def gradient(self, codes):
        z, g = codes[..., 0, 1], np.zeros_like(codes)
        g[..., 0, 1] = 1 - 6 * z + 3 * z ** 2
        return g


@pytest.mark.parametrize("beta", BETAS)
@pytest.mark.parametrize("p", [0.2, 0.5, 0.8])
@pytest.mark.parametrize("function", INVERSES)
def test_smoothing_ends(function, p, beta):
    assert abs(zeta(function, p, 1.0, beta)) <= 1e-12 and abs(zeta(function, p, 0.0, beta) - 1) <= 1e-12


@pytest.mark.parametrize("function", OVERLAPPING)
def test_smoothing_ends_where_the_bit_says(function):
    for rho, distance in ((1e-12, 0), (1 - 1e-12, 1)):
        assert abs(zeta(function, 0.3, 0.1, 8.0, rho) - (1 - distance)) <= 1e-9     # e^8 / 8 times 1e-12
        assert abs(zeta(function, 0.3, 0.9, 8.0, rho) - distance) <= 1e-9


@pytest.mark.parametrize("function", INVERSES)
def test_smoothing_monotone(function):
    for beta in BETAS:
        for p in (0.2, 0.8):
            assert (np.diff(zeta(function, p, np.linspace(0, 1, 2001), beta)) <= 0).all()
            assert smooth(np, "f2", np.float64(p), np.array(p), np.array(p), beta)[1] == 0      # the bit is 0 at u = p
            ends = zeta(function, p, p + np.array([-1e-13, 1e-13]), beta)
            assert abs(ends[0] - ends[1]) <= 1e-9                   # continuous where the bit changes


@pytest.mark.parametrize("function", list(FUNCTIONS))
def test_smoothing_distribution(function):
    """eps = 1 - u is F(zeta), rho is F of the component: the published densities."""
    u = rho = np.linspace(0.005, 0.995, 100)
    for beta in BETAS:
        for p in (0.2, 0.7):
            if function in INVERSES:
                z = zeta(function, p, u, beta)
                cdf = {"f1": 1 - p + p * np.expm1(beta * z) / np.expm1(beta), "f2": 1 - p * (1 - z) ** (1 / beta),
                       "f3": np.where(z < 1 - p, (1 - p) * (z / (1 - p)) ** (1 / beta),
                                      1 - p * (np.maximum(1 - z, 0) / p) ** (1 / beta))}[function]
                moving = (z > 0) & (z < 1 - 1e-9)                   # above, 1 - zeta has lost its digits
                assert moving.sum() > 5 and np.abs(cdf - (1 - u))[moving].max() <= 1e-7
                continue
            below, above = zeta(function, p, np.full(100, 0.99), beta, rho), zeta(function, p, 0 * rho, beta, rho)
            cdf = np.expm1(-beta * below) / np.expm1(-beta) if "exp" in function else below ** (1 / beta)
            assert np.abs(cdf - rho).max() <= 1e-12 and np.abs(above - (1 - below)).max() <= 1e-15


def test_smoothing_f3_slope():
    """By eps = 1 - u: beta on both sides of eps = 1 - p, 0 at both ends."""
    d = 1e-7
    for beta in BETAS:
        for p in (0.2, 0.6):
            at = lambda u: float(zeta("f3", p, u, beta))            # noqa: B023, E731
            near = [(at(p - d) - at(p)) / d, (at(p) - at(p + d)) / d]
            ends = [at(1 - d) / d, (1 - at(d)) / d]
            assert np.abs(np.array(near) - beta).max() <= 1e-4      # one-sided differences
            assert np.abs(ends).max() <= 1e-4


@pytest.mark.parametrize("function", [*INVERSES, "overlapping_power"])
def test_smoothing_limit(function):
    """Nearly the bit itself at beta = 600."""
    assert np.abs(zeta(function, 0.57, np.array([0.2, 0.9]), 600.0) - [1, 0]).max() <= 2e-3


@pytest.mark.parametrize("beta", BETAS)
@pytest.mark.parametrize("function", INVERSES)
def test_smoothing_gradient(function, beta):
    """The estimate is the complex step of the relaxed cost along its noise."""
    estimator = estimators.get("smoothing", function=function, samples=3, temperature=1 / beta)
    cost, logits = costs.make("cubic", 0, 1, 2, 2), np.random.default_rng(1).normal(size=(1, 2, 2))
    u, v = Generator(2).uniform((3, 1, 2, 2)).transpose(3, 0, 1, 2)
    draw = estimator.from_noise(logits, u, v)
    found = estimator.backward(draw, cost(draw.codes), cost.gradient(draw.codes))
    slope = np.zeros_like(logits)
    for i in np.ndindex(logits.shape):
        moved = logits.astype(complex)
        moved[i] += 1e-20j
        p = sigmoid(moved[..., 1] - moved[..., 0])
        rows = smooth(np, function, p, u, v, beta)[0]
        slope[i] = cost(np.stack([1 - rows, rows], -1)).mean().imag / 1e-20
    assert np.abs(found - slope).max() <= 1e-12 * np.abs(slope).max() and found.any()


@pytest.mark.parametrize("function", list(FUNCTIONS))
def test_smoothing_branch_mean(function):
    """The mean by the rule is d E[cost(zeta)] / da, E by its two branches, each integrated given the bit."""
    t, w = unit()
    for beta in BETAS:
        for a in (-1.4, 0.0, 1.4):
            logits, cost = np.array([[[0.0, a]]]), OnZeta()
            estimator = estimators.get("smoothing", function=function, samples=1, temperature=1 / beta)
            found = noise_moments(estimator, logits, cost, cost.gradient)

            p = sigmoid(a + 1e-20j)
            ones, zeros = (w @ cost(branch(function, bit, p, t, beta))[:, 0] for bit in (True, False))
            expected = (p * ones + (1 - p) * zeros).imag / 1e-20
            assert np.abs(found.mean - expected * np.array([-1, 1])).max() <= 1e-9
            assert found.error <= 1e-12 and found.nodes == 2 * 271


@pytest.mark.parametrize("function", ["f1", "f2", *OVERLAPPING])
def test_smoothing_bound_of_smoothed_model(function):
    """E[cost(zeta)] + KL(q || p) >= -log E_p exp(-cost(zeta)), zeta given the bit the same for q and p."""
    (t, w), cost = unit(), costs.make("decoder", 3, 1, 1, 2)
    zero, one = (cost(branch(function, bit, np.float64(0.4), t, 4.0))[:, 0] for bit in (False, True))   # [N]
    log_p = math.log((w * (np.exp(-zero) + np.exp(-one))).sum() / 2)
    slacks = []
    for p in np.linspace(0.01, 0.99, 99):
        kl = p * math.log(2 * p) + (1 - p) * math.log(2 - 2 * p)
        slacks.append((1 - p) * (w * zero).sum() + p * (w * one).sum() + kl + log_p)
    assert min(slacks) >= -1e-12 and max(slacks) > 0.01


@pytest.mark.parametrize("function", ["f2", "f3", *OVERLAPPING])
def test_smoothing_bias_falls_with_beta(function):
    """Like 1 / beta: from 8 to 16 about a half."""
    logits, cost = np.random.default_rng(0).normal(size=(2, 2, 2)), costs.make("decoder", 1, 2, 2, 2)
    true, found = exact_gradient(logits, cost), []
    for beta in (8, 16):
        estimator = estimators.get("smoothing", function=function, samples=1, temperature=1 / beta)
        found.append(np.linalg.norm(noise_moments(estimator, logits, cost, cost.gradient).mean - true))
    assert 1.6 < found[0] / found[1] < 2.4


def deviation(function, beta):
    logits, cost = np.random.default_rng(0).normal(size=(2, 1, 2)), costs.make("decoder", 1, 2, 1, 2)
    estimator = estimators.get("smoothing", function=function, samples=1, temperature=1 / beta)
    found = noise_moments(estimator, logits, cost, cost.gradient)
    return np.sqrt(np.trace(found.covariance, axis1=1, axis2=2).sum())


def test_deviation_of_exponentials_explodes():
    """Like e^(beta / 2) / beta, e^(beta / 4) / beta where they overlap; that of powers grows like sqrt(beta)."""
    assert deviation("f1", 8) / deviation("f1", 4) > 3
    assert deviation("overlapping_exponential", 16) / deviation("overlapping_exponential", 8) > 4
    for function in ("f2", "f3", "overlapping_power"):
        assert deviation(function, 8) / deviation(function, 4) < 2


def test_overlapping_powers_are_finite_where_a_power_underflows():
    for dtype in (np.float32, np.float64):
        estimator = estimators.get("smoothing", function="overlapping_power", samples=1, temperature=1 / 60)
        logits, u = np.zeros((1, 3, 2), dtype), np.full((1, 1, 3), 0.25, dtype)
        rho = np.array([[[1e-6, 1e-3, 1 - 2.0 ** -24]]], dtype)
        with np.errstate(all="raise", under="ignore"):
            draw = estimator.from_noise(logits, u, rho)
        assert draw.codes.dtype == dtype and np.isfinite(draw.kept["slope"]).all()
        assert draw.kept["slope"][0, 0, 0] == pytest.approx(0, abs=1e-30) and draw.codes[0, 0, 0, 1] == 1


def test_samples_are_drawn_from_uniforms_of_their_own():
    estimator = estimators.get("smoothing", function="overlapping_power", samples=2)
    draw = estimator.sample(np.zeros((20_000, 2, 2)), Generator(0))
    zeta = draw.codes[..., 1].transpose(1, 0, 2).reshape(20_000, 4)
    assert np.abs(np.corrcoef(zeta.T) - np.eye(4)).max() <= 5 / np.sqrt(20_000)
    bits = zeta > 0.5
    assert np.abs(bits.mean(0) - 0.5).max() <= 5 * 0.5 / np.sqrt(20_000)


@pytest.mark.parametrize(("options", "message"), [
    (dict(samples=0), "samples >= 1"),
    (dict(function="f4"), "function must be one of f1, f2, f3, overlapping_exponential"),
    (dict(function="f1", temperature=0.12), "temperature >= 1/8 .beta <= 8.*got 0.12"),
    (dict(function="f1", anneal="linear", anneal_rate=0.1, anneal_min=0.1), "beta <= 8.*got 0.1"),
    (dict(function="overlapping_exponential", temperature=0.06), "temperature >= 1/16 .beta <= 16.*got 0.06"),
    (dict(function="f3", temperature=1.0), "temperature < 1 .beta > 1., got 1.0")])
def test_smoothing_refuses_what_has_no_use(options, message):
    with pytest.raises(ValueError, match=message):
        estimators.get("smoothing", **options)


def test_smoothing_takes_the_ends_of_its_ranges():
    estimators.get("smoothing", function="f1", temperature=1 / 8)
    estimators.get("smoothing", function="f1", anneal="linear", anneal_rate=0.1, anneal_min=1 / 8)
    estimators.get("smoothing", function="overlapping_exponential", temperature=1 / 16)
    estimators.get("smoothing", function="f3", temperature=0.99, anneal="linear", anneal_rate=0.1, anneal_min=0.01)
    estimators.get("smoothing", function="f2", temperature=0.01)
    with pytest.raises(ValueError, match="binary latents: categories must be 2, got 3"):
        estimators.get("smoothing").check(2, 3)
