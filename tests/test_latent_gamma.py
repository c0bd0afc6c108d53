"""Gamma and Dirichlet latents, by quadrature and mpmath; chi-squared and F variates from them. Share: 2 s."""
import mpmath
import numpy as np
import pytest

from npdvae import latents
from npdvae.latents import gamma as module
from npdvae.ops.gamma import log_gamma_variate
from npdvae.rng import PRIOR, Generator
from tests.checks import close
from tests.fixed_noise import check_step, small
from tests.test_latent_families import FAMILIES, rule

SHAPES, UNIFORMS = [0.01, 0.3, 1.0, 4.0, 60.0, 500.0], [2.0 ** -24, 0.01, 0.4999, 0.5, 0.9, 1 - 2.0 ** -24]


def uniforms(n):
    """Points and weights of the integral over (0, 1)."""
    u, w = rule(FAMILIES["uniform"], n)
    u, w = (u + 1) / 2, w / 2
    keep = (u > 1e-12) & (u < 1 - 1e-9)         # what is cut off carries 1e-8 of the moments below
    return u[keep], w[keep]


def variates(alpha, u):
    """g and dg / d alpha."""
    log_g, slope = log_gamma_variate(np, np.full_like(u, alpha), u)
    return np.exp(log_g), np.exp(log_g) * slope


# ---- variates -------------------------------------------------------------------------------------------------------

def test_no_variates_are_empty():
    found = log_gamma_variate(np, np.ones((0, 2), np.float32), np.ones((3, 0, 1)))
    assert [(a.shape, a.dtype) for a in found] == [((3, 0, 2), np.float64)] * 2


@pytest.mark.parametrize("alpha", SHAPES)
def test_variates_invert_the_distribution_function(alpha):
    """In log g, and the slope against a difference of mpmath's; 1 - P keeps 1e-16 / 6e-8 at the largest uniform."""
    a, together = mpmath.mpf(alpha), log_gamma_variate(np, np.full(6, alpha), np.array(UNIFORMS))
    alone = [log_gamma_variate(np, alpha, np.float64(u)) for u in UNIFORMS]     # no other asks for more terms
    assert np.array_equal(np.transpose(together), alone)
    for u, (log_g, slope) in zip(UNIFORMS, alone):
        x = mpmath.exp(mpmath.mpf(float(log_g)))
        density = mpmath.exp(a * mpmath.log(x) - x) / mpmath.gamma(a)
        gap = (mpmath.gammainc(a, 0, x, regularized=True) - u) / density
        assert abs(gap) <= (1e-7 if u > 0.99 else 1e-11) * max(1, abs(log_g))
        exact = -mpmath.diff(lambda a: mpmath.gammainc(a, 0, x, regularized=True), a) / density     # noqa: B023
        assert abs(slope - exact) <= (1e-6 if u > 0.99 else 1e-10) * abs(exact)


def test_medians_of_large_shapes():
    """alpha - 1/3 + 8 / (405 alpha) + O(1 / alpha^2), where P at the left end underflows."""
    alpha = 1e5
    median = alpha - 1 / 3 + 8 / (405 * alpha)
    log_g, slope = log_gamma_variate(np, alpha, np.float64(0.5))
    assert abs(log_g - np.log(median)) <= 1e-12 and abs(slope * median - 1) <= 1e-8


def test_variates_of_shapes_without_bound_are_nan():
    """And the others those that they are beside none."""
    alpha = np.array([0.5, np.nan, np.inf, 1.01e8, 7])
    with np.errstate(invalid="ignore"):
        found = log_gamma_variate(np, alpha, np.full(5, 0.3))
    alone = log_gamma_variate(np, alpha[[0, 4]], np.full(2, 0.3))
    for y, x in zip(found, alone, strict=True):
        assert np.isnan(y[1:4]).all() and np.array_equal(y[[0, 4]], x)


def test_variates_are_float64_and_spread_over_shapes():
    log_g, slope = log_gamma_variate(np, np.float32([[1], [2]]), np.float32([0.5, 0.7]))
    assert log_g.shape == slope.shape == (2, 2) and log_g.dtype == slope.dtype == np.float64
    mixed = log_gamma_variate(np, np.array([0.1, 500.0]), np.array([0.5, 0.5]))
    alone = log_gamma_variate(np, np.array([500.0]), np.array([0.5]))
    assert mixed[0][1] == alone[0][0] and mixed[1][1] == alone[1][0]
    close(log_g[0], np.log([-np.log1p(-u) for u in (0.5, float(np.float32(0.7)))]), 1e-13)   # Gamma(1) = Exp(1)


@pytest.mark.parametrize("alpha", [0.4, 1.6, 7.0])
def test_mean_of_the_implicit_gradient_is_that_of_the_mean(alpha):
    """E[f'(g) dg / d alpha] = d E[f] / d alpha for g, g^2, g^3: alpha, alpha (alpha + 1), ..."""
    u, w = uniforms(1600)
    g, dg = variates(alpha, u)
    found = np.array([(w * k * g ** (k - 1) * dg).sum() for k in (1, 2, 3)])
    close(found, np.array([1, 2 * alpha + 1, 3 * alpha ** 2 + 6 * alpha + 2]), 1e-5)    # the tail cut off: 4e-6


def test_chi_squared_and_f_follow():
    """2 Gamma(k / 2), and a ratio of two: mean and its derivative by the path."""
    u, w = uniforms(300)
    k, n = 5.0, 12.0
    (g, dg), (v, dv) = variates(k / 2, u), variates(n / 2, u)
    close(np.array([(w * 2 * g).sum(), (w * dg).sum()]), np.array([k, 1]), 1e-6)        # d (2 g) / dk = dg / d alpha
    ratio = np.outer(2 * g / k, n / (2 * v))                        # F(k, n)
    by_n = ratio * (1 / n - 0.5 * dv / v)
    both = np.outer(w, w)
    close(np.array([(both * ratio).sum(), (both * by_n).sum()]), np.array([n / (n - 2), -2 / (n - 2) ** 2]), 1e-5, 1)


# ---- the latents ----------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("options", [dict(), dict(samples=3)])
@pytest.mark.parametrize("name", ["gamma", "dirichlet"])
def test_step_is_the_derivative_at_fixed_noise(name, options):
    """Complex shapes take the variate's first-order term, whose slope the tests above check."""
    drawn = {}                                  # complex steps leave the real parts alone: a few draws serve all

    def extended(xp, alpha, u):
        key = alpha.real.tobytes() + u.tobytes()
        if key not in drawn:
            drawn[key] = log_gamma_variate(xp, np.broadcast_to(alpha.real, u.shape), u)
        log_g, slope = drawn[key]
        return log_g + (alpha - alpha.real) * slope, slope

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "log_gamma_variate", extended)
        check_step(*small(latents.get(name, latents=3, **options)))


@pytest.mark.parametrize("alpha, theta", [(1.0, 1.0), (0.5, 2.0), (3.0, 0.3)])
def test_gamma_kl_and_log_ratio(alpha, theta):
    latent = latents.get("gamma", latents=1)
    q = latent.posterior({}, np.log([[alpha, theta]]))
    at, w = rule(FAMILIES["logistic"])          # any family's points of the line: z itself
    at, w = at[abs(at) < 300], w[abs(at) < 300]
    ratio = latent.log_ratio({}, q, at[:, None, None])[:, 0]        # [N]
    log_q = alpha * (at - np.log(theta)) - np.exp(np.minimum(at, 99)) / theta - float(mpmath.loggamma(alpha))
    p = w * np.exp(np.minimum(log_q, 0.0 if alpha < 1 else 5.0))
    found = np.array([p.sum(), -(p * np.where(p > 0, ratio, 0)).sum()])
    close(found, np.array([1, q.kl[0, 0]]), 1e-9)
    assert abs(q.kl[0, 0]) <= 1e-14 if alpha == theta == 1 else q.kl[0, 0] > 0.1


def test_gamma_log_ratio_adds_over_latents():
    one, two = (latents.get("gamma", latents=D) for D in (1, 2))
    h, z = np.array([[0.3, -0.2, 0.5, 0.1]]), np.random.default_rng(0).normal(size=(4, 1, 2))
    each = [one.log_ratio({}, one.posterior({}, h[:, d::2]), z[..., [d]]) for d in (0, 1)]
    close(two.log_ratio({}, two.posterior({}, h), z), sum(each), 1e-14)
    assert one.width == 2 and np.array_equal(two.rows({}, z), np.exp(z))


def dirichlet_kl(alpha):
    """KL of Dirichlet(alpha) to the uniform law of the simplex."""
    total, D = mpmath.fsum(alpha), len(alpha)
    return (mpmath.loggamma(total) - mpmath.fsum(map(mpmath.loggamma, alpha)) - mpmath.loggamma(D)
            + mpmath.fsum((a - 1) * (mpmath.digamma(a) - mpmath.digamma(total)) for a in alpha))


@pytest.mark.parametrize("alpha", [(1, 1, 1), (0.5, 2, 3, 0.7), (9, 0.2)])
def test_dirichlet_kl_by_its_sticks(alpha):
    latent = latents.get("dirichlet", latents=len(alpha))
    kl = latent.posterior({}, np.log(np.array([alpha], float))).kl
    assert kl.shape == (1, len(alpha))
    both = latent.posterior({}, np.log(np.array([alpha, (1,) * len(alpha)], float)))
    close(np.exp(latent.mode({}, both))[1], np.full(len(alpha), 1 / len(alpha)), 1e-15)
    assert abs(kl.sum() - float(dirichlet_kl(alpha))) <= 1e-13 and (kl >= -1e-14).all() and kl[0, -1] == 0


def test_dirichlet_log_ratio_is_of_its_density():
    latent, alpha = latents.get("dirichlet", latents=3), np.array([[2.0, 0.5, 3.0]])
    x = np.array([0.2, 0.1, 0.7])
    q = latent.posterior({}, np.log(alpha))
    density = mpmath.gamma(5.5) / (mpmath.gamma(2) * mpmath.gamma(0.5) * mpmath.gamma(3)) * 0.2 * 0.1 ** -0.5 * 0.7 ** 2
    found = latent.log_ratio({}, q, np.log(x)[None, None])
    assert found.shape == (1, 1) and abs(found[0, 0] - float(mpmath.log(2 / density))) <= 1e-13     # the prior's is 2


H = np.log([[2.0, 0.5, 3.0, 1.5, 1.0, 0.5]])
MEANS = {"gamma": np.array([3, 0.5, 1.5]), "dirichlet": np.array([2, 0.5, 3]) / 5.5}


def posterior(name):
    """A latent of three, its h, q and mean."""
    latent = latents.get(name, latents=3)
    h = H[:, :latent.width]
    return latent, h, latent.posterior({}, h), MEANS[name]


@pytest.mark.parametrize("name", MEANS)
def test_samples_follow_the_posterior(name):
    """Means within five standard errors; the seed is fixed."""
    latent, h, q, mean = posterior(name)
    n = 20_000
    x = np.exp(latent.sample({}, q, Generator(4), n)[:, 0])         # [S, D]
    assert (np.abs(x.mean(0) - mean) <= 5 * x.std(0) / np.sqrt(n)).all()
    z, kept = latent.forward({}, h, Generator(4))
    assert np.array_equal(np.exp(z)[0, 0], x[0]) and np.array_equal(latent.kl({}, kept, None), q.kl.sum(-1))


@pytest.mark.parametrize("name", MEANS)
def test_samples_follow_the_prior_and_rows_its_quantiles(name):
    """Means within five standard errors; the seed is fixed."""
    latent, _, q, mean = posterior(name)
    n = 20_000
    close(np.exp(latent.mode({}, q))[0], mean, 1e-14)
    prior = np.exp(latent.sample_prior({}, Generator(1, PRIOR), n))
    expected = np.ones(3) if name == "gamma" else np.full(3, 1 / 3)
    assert prior.shape == (n, 3) and (np.abs(prior.mean(0) - expected) <= 5 * prior.std(0) / np.sqrt(n)).all()
    rows = latent.traverse({}, latent.mode({}, q)[0], 1)
    share = (prior[:, 1, None] <= np.exp(rows[:, 1])).mean(0)       # [12], the quantiles of the prior
    assert rows.shape == (12, 3) and np.abs(share - (np.arange(12) + 0.5) / 12).max() <= 0.018
    assert latent.check_z(rows) is rows
    ratio = rows[:, 0] - rows[:, 2]                                 # the others keep their places, or proportions
    close(ratio, np.full(12, np.log(mean[0] / mean[2])), 1e-13)


def test_readout_and_refusals():
    q = latents.get("gamma", latents=1).posterior({}, np.log([[2.0, 3.0]]))
    assert {k: round(float(v[0, 0]), 12) for k, v in latents.get("gamma", latents=1).readout(q).items()} == {
        "alpha": 2, "scale": 3}
    dirichlet = latents.get("dirichlet", latents=2)
    assert set(dirichlet.readout(dirichlet.posterior({}, np.zeros((1, 2))))) == {"alpha"}
    assert latents.get("gamma", latents=2).spec() == {"free_bits": 0.0, "settings": {"samples": 1}}
    assert latents.get("dirichlet", latents=2).spec() == {"free_bits": 0.0, "settings": {"samples": 1}}
    with pytest.raises(ValueError, match="a simplex has at least 2 corners, got latents 1"):
        latents.get("dirichlet", latents=1)
    with pytest.raises(ValueError, match=r"exp\(z\) must sum to 1, got 1.5 to 1.5"):
        latents.get("dirichlet", latents=3).check_z(np.log([[0.5, 0.5, 0.5]]))
    with pytest.raises(ValueError, match="has no option 'free_bits'"):
        latents.get("dirichlet", latents=3, free_bits=0.1)
    with pytest.raises(ValueError, match="latent gamma: samples must be at least 1, got 0"):
        latents.get("gamma", latents=3, samples=0)


def test_a_simplex_at_its_corner_still_traverses():
    latent = latents.get("dirichlet", latents=3)
    rows = latent.traverse({}, np.array([0.0, -60.0, -61.0]), 0)
    assert np.isfinite(rows).all() and (np.diff(rows[:, 0]) > 0).all()
