"""The standard densities of location-scale families, by quadrature. Share: 2 s."""
import math
import statistics

import numpy as np
import pytest

from npdvae import backends
from npdvae.latents import families
from npdvae.rng import to_uniform
from npdvae.verify.gradients import complex_step, finite_differences
from tests.checks import check_dtypes, close

OPS = backends.load("numpy")
FAMILIES = {"gaussian": families.Gaussian(OPS), "student_t": families.StudentT(OPS, 5.0),
            "laplace": families.Laplace(OPS), "logistic": families.Logistic(OPS),
            "triangular": families.Triangular(OPS), "uniform": families.Uniform(OPS)}
TWO = [name for name, f in FAMILIES.items() if f.uniforms == 2]
every = pytest.mark.parametrize("name", FAMILIES)


def rule(family, n=1200):
    """Points e and weights w with sum w g(e) = the integral of g over the support; the kink at 0 is between points."""
    t = np.linspace(-3.6, 3.6, n)
    x, dx = np.pi / 2 * np.sinh(t), np.pi / 2 * np.cosh(t) * (t[1] - t[0])
    if family.bounded:
        e, w = 1 / (1 + np.exp(-2 * x)), dx / (2 * np.cosh(x) ** 2)         # (0, 1)
    else:
        keep = x < 14                           # e < 1.2e6: past it even Student's variance has 1e-17 left
        e, w = np.exp(x[keep]), (np.exp(x) * dx)[keep]
    keep = e < 1                                # 1 - 1e-16 rounds to the end of the support
    return np.concatenate([-e, e]) if not family.bounded else np.concatenate([-e[keep], e[keep]]), (
        np.concatenate([w, w]) if not family.bounded else np.concatenate([w[keep], w[keep]]))


@every
def test_family_has_its_mass_variance_and_entropy(name):
    family = FAMILIES[name]
    e, w = rule(family)
    log_p = family.log_density(e)
    w = w * np.exp(log_p)
    found = np.array([w.sum(), (w * e).sum(), (w * e ** 2).sum(), -(w * log_p).sum()])
    close(found, np.array([1, 0, family.variance, family.entropy]), 1e-9)   # the rule's own error: 1e-11


@every
def test_slope_is_the_derivative_of_the_log_density(name):
    family, e = FAMILIES[name], np.array([-0.93, -0.4, 0.2, 0.75] + ([] if FAMILIES[name].bounded else [-9.0, 3.0]))
    close(np.diag(complex_step(family.log_density, e)), family.slope(e), 1e-14)


@pytest.mark.parametrize("name", set(FAMILIES) - set(TWO))
def test_noise_of_one_uniform_has_its_density(name):
    """log p0(e) = log p(u) - log |de / du|."""
    family, u = FAMILIES[name], np.array([0.004, 0.13, 0.42, 0.55, 0.8, 0.97])
    slope = np.diag(finite_differences(lambda u: family.noise(u[:, None]), u, 1e-5))
    close(family.log_density(family.noise(u[:, None])), -np.log(slope), 1e-8)       # differences: 1e-9


@pytest.mark.parametrize("name", TWO)
def test_noise_of_two_uniforms_has_its_law(name):
    """Uniforms on a grid of midpoints, so no chance is left."""
    family, u = FAMILIES[name], (np.arange(1000) + 0.5) / 1000
    e = family.noise(np.stack(np.meshgrid(u, u), -1)).ravel()
    at, w = rule(family)
    p = w * np.exp(family.log_density(at))
    for t in (-0.8, -0.3, 0.2, 0.6):
        assert abs((e < t).mean() - p[at < t].sum()) <= 4e-3        # the rule's steps at t: 3e-3
    assert abs((e ** 2).mean() / family.variance - 1) <= 0.01       # Student's tail beyond the grid: 6e-3


@every
def test_noise_is_what_the_page_says(name):
    """docs/latents.md, one number at a time."""
    formulas = {"gaussian": lambda u, v: math.sqrt(-2 * math.log(u)) * math.cos(2 * math.pi * v),
                "student_t": lambda u, v: math.sqrt(5 * (u ** (-2 / 5) - 1)) * math.cos(2 * math.pi * v),
                "laplace": lambda u, v: math.log(2 * u) if u < 0.5 else -math.log(2 - 2 * u),
                "logistic": lambda u, v: math.log(u / (1 - u)), "triangular": lambda u, v: u + v - 1,
                "uniform": lambda u, v: 2 * u - 1}
    family, pairs = FAMILIES[name], np.array([[0.3, 0.2], [0.85, 0.6], [0.01, 0.95]])
    exact = np.array([formulas[name](*pair) for pair in pairs])
    close(family.noise(pairs[:, :family.uniforms]), exact, 1e-14)


@every
def test_noise_is_finite_where_uniforms_end(name):
    family = FAMILIES[name]
    most = {"gaussian": 5.8, "student_t": 62.3, "laplace": 15.95, "logistic": 16.7, "triangular": 1, "uniform": 1}[name]
    ends = to_uniform(np.array([0, 2 ** 31, 2 ** 32 - 1], np.uint32), np.float32)
    u = np.stack(np.meshgrid(ends, ends), -1).reshape(-1, 2)[:, :family.uniforms]
    with np.errstate(all="raise", under="ignore"):
        e = family.noise(u)
        assert np.isfinite(family.log_density(e)).all() and np.isfinite(family.slope(e)).all()
    assert 0.9 * most <= np.abs(e).max() <= most and (not family.bounded or np.abs(e).max() < 1)


@every
def test_families_keep_types(name):
    family = FAMILIES[name]
    check_dtypes(lambda dtype: [family.log_density(np.array([0.2, -0.5], dtype))])
    for dtype in (np.float32, np.float64):
        e = family.noise(np.array([[0.2, 0.7]], dtype)[:, :family.uniforms])
        assert e.dtype == dtype == family.slope(e).dtype


def test_a_bounded_density_ends_where_noise_does_and_no_sooner():
    triangular, uniform = FAMILIES["triangular"], FAMILIES["uniform"]
    e = np.array([1 - 2.0 ** -22, 1.0, -1.0, 1 + 1e-7])             # the last as rounding may move it
    assert np.array_equal(triangular.log_density(e), np.log(2.0) * np.array([-22, -23, -23, -23]))
    assert np.array_equal(triangular.slope(e), np.array([-2.0 ** 22, -2.0 ** 23, 2.0 ** 23, -2.0 ** 23]))
    assert (uniform.log_density(e) == -math.log(2)).all() and (uniform.slope(e) == 0).all()


@every
def test_nodes_integrate(name):
    family = FAMILIES[name]
    e, w = families.nodes(family, 64)
    assert e.shape == w.shape == (128,) and abs(w.sum() - 1) <= 1e-14
    x = np.pi / 2 * np.sinh(np.linspace(-4, 4 if family.bounded else 2.5, 64))
    close(e[64:] / (1 / (1 + np.exp(-2 * x)) if family.bounded else np.exp(x)), np.ones(64), 1e-12)
    assert np.array_equal(e, -e[::-1]) and np.array_equal(w, w[::-1])
    at, weights = rule(family)
    for f in (abs, np.square, lambda e: np.logaddexp(0, e - 1)):
        exact = (weights * np.exp(family.log_density(at)) * f(at)).sum()
        assert abs((w * f(e)).sum() - exact) <= 1e-6                # 64 points of a half-line


def test_quantiles_of_the_priors():
    p = (np.arange(12) + 0.5) / 12
    normal = np.array([statistics.NormalDist().inv_cdf(v) for v in p])
    for name, exact in (("gaussian", normal), ("logistic", np.log(p / (1 - p))),
                        ("laplace", np.sign(p - 0.5) * -np.log(1 - 2 * abs(p - 0.5)))):
        assert np.abs(families.quantiles(FAMILIES[name], 12) - exact).max() <= 2e-4     # linear between 8,000 points


def test_student_needs_a_variance():
    with pytest.raises(ValueError, match="nu must be above 2 for a finite variance, got 2"):
        families.StudentT(OPS, 2)
    assert math.isclose(families.StudentT(OPS, 1e9).entropy, FAMILIES["gaussian"].entropy, rel_tol=1e-6)
