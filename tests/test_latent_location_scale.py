"""The location-scale latents: gradients at fixed noise, expectations by quadrature, evaluation. Share: 3 s."""
import itertools
import math

import numpy as np
import pytest

from npdvae import evaluation, latents
from npdvae.data import Dataset
from npdvae.latents.location_scale import Kept
from npdvae.rng import PRIOR, Generator
from npdvae.verify.gradients import complex_step
from tests.checks import close
from tests.fixed_noise import KL_WEIGHT, check_step, run, small
from tests.test_latent_families import FAMILIES, rule

NAMES = tuple(FAMILIES)
OPTIONS = [dict(), dict(samples=3), dict(transform="exp"), dict(transform="sigmoid", samples=2), dict(kl="sampled"),
           dict(kl="sampled", prior_family="laplace", samples=2, transform="exp"),
           dict(kl="sampled", prior_family="logistic")]
every = pytest.mark.parametrize("name", NAMES)


def layer(name, D=1, **options):
    return latents.get(name, latents=D, **options)


def at_every(nodes, loc, s):
    """h [N, 2] of one latent, the same for each of the nodes."""
    return np.tile([loc, s], (len(nodes), 1))


def weighted(name):
    """Noise e and its probabilities."""
    family = FAMILIES[name]
    e, w = rule(family)
    return e, w * np.exp(family.log_density(e))


# ---- the step -------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("options", OPTIONS)
@every
def test_step_is_the_derivative_at_fixed_noise(name, options):
    check_step(*small(layer(name, 2, **options)))


@pytest.mark.parametrize("name, options", [(name, dict(samples=3)) for name in NAMES if name != "uniform"]
                         + [("gaussian", dict(samples=2, kl="sampled")), ("laplace", dict(samples=2, transform="exp"))])
def test_score_step_is_the_derivative_of_its_surrogate(name, options):
    """mean_s (f_s - b_s) log q(z_s) + f_s + KL, f and z held fixed in the first term, z in all."""
    model, params, x = small(layer(name, 2, gradient="score", **options))
    latent, S = model.latent, options["samples"]
    h = model.encoder.forward(params, x)[0]
    z, kept = latent.forward(params, h, Generator(1))               # [S, B, D]
    f = evaluation.cost_of(model, params, z, x)                     # [S, B]
    above = f - (f.sum(0) - f) / (S - 1)

    def surrogate(p):
        q = model.encode(p, x)
        e = (z - q.loc) / np.exp(q.s)
        log_q = (latent.family.log_density(e) - q.s).sum(-1)        # [S, B]
        kl = run(model, p, x).kl                                    # of z that moves, where it is sampled
        return ((above * log_q + evaluation.cost_of(model, p, z, x)).mean(0) + KL_WEIGHT * kl).mean()

    assert not latent.needs_dz
    check_step(model, params, x, surrogate)


def test_penalty_of_parameters_is_descended_and_the_kl_reported():
    model, params, x = small(layer("gaussian", 2, kl="parameters"))

    def loss(p):
        done, q = run(model, p, x), model.encode(p, x)
        return (done.cost + KL_WEIGHT * (q.loc ** 2 + (np.exp(q.s) - 1) ** 2).sum(-1)).mean()

    check_step(model, params, x, loss)
    assert np.array_equal(run(model, params, x).kl, model.encode(params, x).kl.sum(-1))


@pytest.mark.parametrize("kl", ["analytic", "sampled"])
def test_free_bits_stop_the_gradient_of_small_kl_only(kl):
    model, params, x = small(layer("gaussian", 2, free_bits=1.36, kl=kl))
    exact = model.encode(params, x).kl                              # [B, D]
    assert (exact > 1.36).any() and (exact < 1.36).any()

    def loss(p):
        h = model.encoder.forward(p, x)[0]
        kept = model.latent.forward(p, h, Generator(1))[1]
        return (run(model, p, x).cost + KL_WEIGHT * np.where(exact >= 1.36, kept.kl, 0).sum(-1)).mean()

    check_step(model, params, x, loss)


def test_backward_is_of_one_example_and_the_whole_kl_where_nothing_is_said():
    latent, noise = layer("gaussian", 2), np.random.default_rng(0)
    kept = latent.forward({}, noise.normal(size=(3, 4)), Generator(0))[1]
    dz = noise.normal(size=(1, 3, 2))
    found, expected = latent.backward({}, kept, None, dz), latent.backward({}, kept, None, dz, None, 1.0, 1.0)
    assert np.array_equal(found[0], expected[0]) and found[1] == {}
    assert np.array_equal(latent.backward({}, kept, None, dz, None, 0.0, 0.5)[0][:, :2], dz[0] / 2)


def test_noise_depends_on_seed_step_and_example_alone():
    latent, h = layer("student_t", 3, samples=2), np.random.default_rng(0).normal(size=(4, 6))
    whole = latent.forward({}, h, Generator(5).at(2))[0]            # [S, B, D]
    part = latent.forward({}, h[2:], Generator(5).at(2, example=2))[0]
    assert np.array_equal(whole[:, 2:], part) and len(np.unique(whole)) == whole.size


# ---- expectations ---------------------------------------------------------------------------------------------------

@every
def test_kl_is_that_of_the_densities(name):
    """E_q[log q - log p] with e by quadrature; 1e-9: the rule's error."""
    (e, p), family = weighted(name), FAMILIES[name]
    for loc, s in ((0.0, 0.0), (1.3, -0.8), (-0.4, 0.6)):
        q = layer(name).posterior({}, np.array([[loc, s]]))
        log_p = -(loc + math.exp(s) * e) ** 2 / 2 - math.log(2 * math.pi) / 2
        assert abs(q.kl[0, 0] - (p * (family.log_density(e) - s - log_p)).sum()) <= 1e-9 * max(1, q.kl[0, 0])
    v0 = family.variance
    least = layer(name).posterior({}, np.array([[0.0, -math.log(v0) / 2]])).kl[0, 0]
    assert abs(least) <= 1e-15 if name == "gaussian" else least > 1e-3      # only a normal one can be the prior


@pytest.mark.parametrize("prior", ["gaussian", "laplace", "logistic"])
@every
def test_sampled_kl_and_log_ratio_have_the_kl_as_mean(name, prior):
    """Laplace's kink lies between nodes of the reported KL: 3e-4; else 1e-7, 64 nodes of a half-line."""
    e, p = weighted(name)
    latent = layer(name, kl="sampled", prior_family=prior)
    latent.noise = lambda *_: e[None, :, None]                      # [1, N, 1]
    h = at_every(e, 0.4, -0.3)
    z, kept = latent.forward({}, h, None)
    ratio = latent.log_ratio({}, kept.q, z)                         # [1, N]
    inside = np.abs(e) < 1 - 1e-6 if name == "triangular" else p > 0    # its density's floor is not met here
    close(ratio[0][inside], -kept.kl[inside, 0], 1e-8, np.maximum(1, np.abs(ratio[0][inside])))
    expected = kept.q.kl[0, 0]
    assert abs((p * kept.kl[:, 0]).sum() - expected) <= (3e-4 if prior == "laplace" else 1e-7)
    assert np.array_equal(latent.kl({}, kept, None), kept.kl[:, 0])


def gradients(latent, e, loc, s, f, df):
    """The cost's gradients [N, 2] by path and by score, with noise e [S, N] and cost f(z)."""
    h = at_every(e[0], loc, s)
    q, e = latent.posterior({}, h), e[..., None]                    # [S, N, 1]
    z = loc + math.exp(s) * e
    kept = Kept(q, e, z, q.kl)
    return (np.concatenate(latent.pathwise(kept, df(z)), -1), np.concatenate(latent.score(kept, f(z)[..., 0]), -1))


def f(z):
    return np.logaddexp(z - 0.7, 0.7 - z) + 0.8 * z


def df(z):
    return np.tanh(z - 0.7) + 0.8


def expected_gradients(name, loc=0.4, s=-0.5):
    """E of both with S = 2, over all pairs of nodes."""
    family = FAMILIES[name]
    e, w = rule(family, 120)
    p = w * np.exp(family.log_density(e))
    keep = p > 1e-18
    e, p = e[keep], p[keep]
    pairs = np.stack(np.meshgrid(e, e)).reshape(2, -1)              # [S, N]
    by = gradients(layer(name), pairs, loc, s, f, df)
    return [(np.outer(p, p).ravel()[:, None] * g).sum(0) for g in by]


@pytest.mark.parametrize("name", [n for n in NAMES if n != "uniform"])
def test_pathwise_and_score_agree(name):
    path, score = expected_gradients(name)
    close(score, path, 1e-7, 1)                 # 120 nodes of a half-line; triangular psi is singular at the ends
    assert np.abs(path).min() > 0.05


def test_score_of_uniform_misses_its_boundary_term():
    """d/dtheta of the integral over a support that moves: its ends' share is what the score does not see."""
    loc, s = 0.4, -0.5
    path, score = expected_gradients("uniform", loc, s)
    low, high = f(loc - math.exp(s)), f(loc + math.exp(s))
    e, p = weighted("uniform")
    mean = (p * f(loc + math.exp(s) * e)).sum() # -E[f] is the score's share of d/ds; the baseline takes it away
    close(path - score, np.array([(high - low) / (2 * math.exp(s)), (high + low) / 2 - mean]), 1e-7, 1)
    assert np.abs(score).max() <= 1e-15 and np.abs(path).min() > 0.05


# ---- transforms -----------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("transform, inverse", [("exp", np.log), ("sigmoid", lambda t: np.log(t) - np.log1p(-t))])
def test_transform_leaves_kl(transform, inverse):
    """KL of the densities of T(z), T(z) ~ q and T(N(0, 1)), by quadrature in T(z); and the adjoint of T."""
    latent, z = layer("gaussian", transform=transform), np.linspace(-9, 9, 4001)
    t = latent.rows({}, z)                                          # nodes of the trapezoid rule
    y, slope = inverse(t), np.diag(complex_step(lambda z: latent.rows({}, z), z[::400]))
    close(y, z, 1e-11)                                              # 1 - t cancels for sigmoid
    close(latent.rows_backward(np.ones(11), z[::400]), slope, 1e-14)
    loc, s = 0.4, -0.3
    log_jacobian = -np.log(latent.rows_backward(np.ones_like(z), z))
    log_q = FAMILIES["gaussian"].log_density((y - loc) / math.exp(s)) - s + log_jacobian
    log_p = FAMILIES["gaussian"].log_density(y) + log_jacobian
    kl = np.trapezoid(np.exp(log_q) * (log_q - log_p), t)
    # the trapezoid rule on uneven nodes: (18 / 4000)^2
    assert abs(kl - latent.posterior({}, np.array([[loc, s]])).kl[0, 0]) <= 1e-4
    assert latent.rows({}, np.array([0.0])) == (1 if transform == "exp" else 0.5)


# ---- evaluation -----------------------------------------------------------------------------------------------------

def joint(D):
    """A gaussian model of float32, its images, and log p(x) by Gauss and Hermite's rule: [N]."""
    model, params, x = small(layer("gaussian", D), pixels=6, images=40)
    params = {k: (0.5 * v).astype(np.float32) for k, v in params.items()}
    at, w = np.polynomial.hermite_e.hermegauss(24)
    z = np.array(list(itertools.product(at, repeat=D)), np.float32)
    log_w = np.log(np.array(list(itertools.product(w / w.sum(), repeat=D)))).sum(-1)   # [C]
    x = x.astype(np.float32)
    cost = np.stack([evaluation.cost_of(model, params, np.repeat(z[:, None], len(x), 1), x)])[0]    # [C, N]
    return model, params, x, np.log(np.exp(log_w[:, None] - cost).sum(0))


@pytest.mark.parametrize("D", [1, 2])
def test_bounds_stand_below_log_px_by_quadrature(D):
    """ELBO < importance-weighted bound of 2 samples < of 8 < log p(x), and that of 2,000 is log p(x)."""
    model, params, x, exact = joint(D)
    data = Dataset("test", x, x[:1], (2, 3), 1)
    split = evaluation.Split(data, np.tile(x, (20, 1)), "none")     # 800 rows: standard errors of 3e-3
    cost, kl = evaluation.cost_and_kl(model, params, split, 20)
    bounds = [-(cost + kl), *(evaluation.importance_weighted(model, params, split, S) for S in (2, 8))]
    assert (np.diff([*bounds, exact.mean()]) > 0.01).all(), (bounds, exact.mean())
    tight = evaluation.importance_weighted(model, params, evaluation.Split(data, x, "none"), 2000)
    assert abs(tight - exact.mean()) <= 0.01    # 40 images, 2,000 samples each: 2e-3
    assert evaluation.summary(model, params, split, 2)["log_prob"] is None


@every
def test_samples_stand_where_the_posterior_says(name):
    latent = layer(name, 2)
    q = latent.posterior({}, np.array([[0.5, -1.0, 0.3, -0.7]]))
    z = latent.sample({}, q, Generator(3), 20_000)[:, 0]            # [S, D]
    scale = latent.readout(q)["scale"][0] * math.sqrt(FAMILIES[name].variance)
    assert (np.abs(z.mean(0) - q.loc[0]) <= 5 * scale / math.sqrt(20_000)).all()   # five standard errors
    assert (np.abs(z.std(0) / scale - 1) <= 0.05).all()             # Student's fourth moment is 9: 0.01
    assert np.array_equal(latent.mode({}, q), q.loc) and set(latent.readout(q)) == {"loc", "scale"}


@pytest.mark.parametrize("prior", ["gaussian", "laplace", "logistic"])
def test_prior_samples_and_traversals_follow_the_prior(prior):
    latent = layer("gaussian", 3, kl="sampled", prior_family=prior)
    z = latent.sample_prior({}, Generator(1, PRIOR), 40_000)        # [n, D]
    u = Generator(1, PRIOR).uniform((1, 40_000, 3, latent.prior.uniforms))
    assert np.array_equal(z, latent.prior.noise(u)[0]) and z.shape == (40_000, 3)
    rows = latent.traverse({}, np.float32([7, 8, 9]), 1)
    assert rows.shape == (12, 3) and rows.dtype == np.float32 and (np.diff(rows[:, 1]) > 0).all()
    assert (rows[:, [0, 2]] == [7, 9]).all()
    share = (z[:, 1, None] <= rows[:, 1]).mean(0)                   # [12]
    assert np.abs(share - (np.arange(12) + 0.5) / 12).max() <= 0.0125       # five standard errors


# ---- refusals -------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("name, options, message", [
    ("gaussian", dict(D=0), "latents must be at least 1, got 0"),
    ("gaussian", dict(gradient="path"), "latent gaussian: gradient must be one of pathwise, score, got 'path'"),
    ("laplace", dict(kl="exact"), "latent laplace: kl must be one of analytic, sampled, parameters, got 'exact'"),
    ("gaussian", dict(prior_family="uniform", kl="sampled"),
     "prior_family must be one of gaussian, laplace, logistic, got 'uniform'"),
    ("gaussian", dict(transform="log"), "transform must be one of none, exp, sigmoid, got 'log'"),
    ("gaussian", dict(samples=0), "latent gaussian: samples must be at least 1, got 0"),
    ("gaussian", dict(gradient="score"), "gradient score compares samples, so it needs at least 2, got 1"),
    ("uniform", dict(gradient="score", samples=2), "latent uniform: gradient score misses"),
    ("gaussian", dict(prior_family="laplace"), "prior_family laplace needs kl sampled"),
    ("gaussian", dict(free_bits=-0.1), "free bits must not be negative, got -0.1"),
    ("gaussian", dict(free_bits=0.1, kl="parameters"), "free bits are of a KL"),
    ("student_t", dict(nu=2.0), "nu must be above 2"),
    ("gaussian", dict(nu=3.0), "latent gaussian has no option 'nu'"),
    ("gaussian", dict(categories=4), "latent gaussian has no option 'categories'"),
])
def test_options_that_do_not_go_together_are_refused(name, options, message):
    with pytest.raises(ValueError, match=message):
        layer(name, **options)


def test_z_of_a_user_is_checked():
    latent, z = layer("gaussian", 2), np.zeros((3, 2), np.float32)
    assert latent.check_z(z) is z
    for bad, message in ((z.astype(int), r"z must be float \[N, 2\], got int64 \[3, 2\]"),
                         (z[:, :1], r"z must be float \[N, 2\], got float32 \[3, 1\]"),
                         (z[0], r"got float32 \[2\]"), (z + np.float32(np.nan), "z must be finite")):
        with pytest.raises(ValueError, match=message):
            latent.check_z(bad)


def test_description_names_latent_and_settings():
    assert {layer(name).samples for name in NAMES} == {1}
    latent = layer("logistic", 2, samples=3, free_bits=0.1, transform="exp")
    assert latents.registry.name_of(latent) == "logistic" and (latent.width, latent.features) == (4, 2)
    assert latent.spec() == {"free_bits": 0.1, "settings": {
        "samples": 3, "gradient": "pathwise", "penalty": "analytic", "prior_family": "gaussian", "transform": "exp"}}
    assert latent.codes() is None and latent.categories is None
