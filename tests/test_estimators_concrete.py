"""The KL of relaxed rows, kl=concrete of gumbel_softmax: twin, laws by quadrature, derivative of a step. Share: 2 s."""
import math

import numpy as np
import pytest

from npdvae import estimators, latents
from npdvae.describe import StepSpec
from npdvae.estimators.parts.concrete import sampled_kl
from npdvae.gpu.support import captured_gradient
from npdvae.rng import Generator
from npdvae.step import step
from npdvae.verify import costs
from tests.checks import close
from tests.frozen import OPS, X, check_gradients, model_of, parameters, softplus

TAU, PRIOR = 0.7, 1.1
CONCRETE = dict(kl="concrete", temperature=TAU, prior_temperature=PRIOR)


def log_density(phi, tau, l):
    """Of Concrete(phi, tau) at l = log y, number by number (Maddison et al. 2017, equation 22)."""
    K, powers = len(phi), [math.exp(a - tau * v) for a, v in zip(phi, l)]
    return math.lgamma(K) + (K - 1) * math.log(tau) + sum(a - tau * v for a, v in zip(phi, l)) - K * math.log(
        sum(powers))


def simplex(n=80):
    """Nodes of uniform shares of three, [N, 3], with weights: Gumbel noise -log share, up to what all three share."""
    t, w = np.polynomial.legendre.leggauss(n)
    t, w = (t + 1) / 2, w / 2
    t, w = t ** 3 * (10 - 15 * t + 6 * t ** 2), w * 30 * t ** 2 * (1 - t) ** 2      # flat at both ends
    first, second = (a.ravel() for a in np.meshgrid(1 - np.sqrt(1 - t), t, indexing="ij"))
    return np.stack([first, (1 - first) * second, (1 - first) * (1 - second)], -1), np.outer(w, w).ravel()


def logistic(x, loc, scale):
    """log density of the difference of two Gumbel variates, scaled."""
    v = (x - loc) / scale
    return -v - 2 * np.logaddexp(0, -v) - math.log(scale)


@pytest.mark.parametrize("K", [2, 3, 5])
def test_concrete_kl_is_the_twins(K):
    estimator = estimators.get("gumbel_softmax", samples=3, **CONCRETE)
    draw = estimator.sample(np.random.default_rng(0).normal(size=(2, 2, K)), Generator(1))
    expected = np.zeros((3, 2, 2))
    for s, b, d in np.ndindex(expected.shape):
        l = [math.log(v) for v in draw.codes[s, b, d]]
        expected[s, b, d] = log_density(list(draw.logits[b, d]), TAU, l) - log_density([0.0] * K, PRIOR, l)
    close(estimator.rows_kl(draw), expected.mean(0), 1e-12)         # rounding of log y of rows down to 1e-4


def test_concrete_densities_have_mass_one():
    """E_q[p / q] = 1, by quadrature over the noise of three categories."""
    shares, w = simplex()
    phi = np.array([0.4, -0.8, 1.1])
    gumbels = -np.log(shares)[:, None, None]                        # [N, 1, 1, 3]
    kl = sampled_kl(OPS, gumbels, OPS.log_softmax((phi + gumbels) / TAU), TAU, PRIOR)
    assert abs(w @ np.exp(-kl.ravel()) - 1) <= 1e-9                 # 2e-12 with these nodes


@pytest.mark.parametrize(("a", "tau", "prior_tau"), [(0.0, 0.6, 0.6), (1.7, 0.7, 1.1), (-2.5, 1.3, 0.5)])
def test_concrete_kl_of_two_categories_is_that_of_logistic_variables(a, tau, prior_tau):
    """log y_1 - log y_0 is logistic about a / tau, of scale 1 / tau; the prior's about 0, of scale 1 / prior_tau."""
    x = np.linspace(-300, 300, 60_001)
    log_q, log_p = logistic(x, a / tau, 1 / tau), logistic(x, 0.0, 1 / prior_tau)
    expected = (np.exp(log_q) * (log_q - log_p)).sum() * 0.01
    g = np.linspace(-60, 60, 12_001)                                # the difference of the noise
    gumbels = np.stack([0 * g, g], -1)[:, None, None]               # [S, 1, 1, 2]
    log_y = OPS.log_softmax((np.array([0.0, a]) + gumbels) / tau)
    found = (np.exp(logistic(g, 0.0, 1.0)) * sampled_kl(OPS, gumbels, log_y, tau, prior_tau).ravel()).sum() * 0.01
    assert abs(found - expected) <= 1e-10 and (expected > 0.01) == (a != 0)


def test_concrete_kl_with_the_cost_bounds_the_relaxed_model():
    """E[cost(y)] + KL >= -log E_p exp(-cost(y)), y in (0, 1) by the difference of its logarithms."""
    cost, x = costs.make("decoder", 3, 1, 1, 2), np.linspace(-80, 80, 8001)
    rows = OPS.softmax(np.stack([0 * x, x], -1))[:, None, None]     # [N, 1, 1, 2]
    f, log_p = cost(rows)[:, 0], logistic(x, 0.0, 1 / PRIOR)
    truth = -math.log((np.exp(log_p - f)).sum() * 0.02)
    slacks = []
    for a in np.linspace(-6, 6, 25):
        log_q = logistic(x, a / TAU, 1 / TAU)
        slacks.append((np.exp(log_q) * (f + log_q - log_p)).sum() * 0.02 - truth)
    assert min(slacks) >= -1e-9 and max(slacks) > 0.1


@pytest.mark.parametrize("name", ["categorical", "soft_vq"])
def test_step_with_the_concrete_kl_is_the_derivative_at_fixed_noise(name):
    model = model_of(latents.get(name, latents=2, categories=3, estimator="gumbel_softmax", samples=2, **CONCRETE))
    params, state = parameters(model), model.latent.init_state(Generator(0), 0)
    noise = -np.log(-np.log(Generator(5).uniform((2, len(X), 2, 3))))           # [S, B, D, K]

    def loss(p):
        logits = model.latent.logits(p, model.encoder.forward(p, X)[0])
        scaled = (logits + noise) / TAU
        l = scaled - np.log(np.exp(scaled).sum(-1, keepdims=True))              # [S, B, D, K]
        a, _ = model.decoder.forward(p, model.latent.rows(p, np.exp(l)))
        log_q, log_p = ((phi - tau * l).sum(-1) - 3 * np.log(np.exp(phi - tau * l).sum(-1))     # [S, B, D]
                        for phi, tau in ((logits, TAU), (0 * logits, PRIOR)))
        return ((softplus(a) - X * a).sum(-1) + 0.7 * (log_q - log_p).sum(-1)).mean()

    done = step(model, params, X, Generator(5), state, kl_weight=0.7)
    check_gradients(loss, params, done.grads)
    constant = 2 * 2 * math.log(TAU / PRIOR)                        # D (K - 1) logarithms
    close((done.cost + 0.7 * (done.kl - constant)).mean(), np.array(loss(params)), 1e-12)


def test_concrete_kl_is_finite_where_rows_underflow():
    estimator = estimators.get("gumbel_softmax", kl="concrete", temperature=0.02)
    logits = np.array([[[40.0, -40.0, 0.0]]], np.float32)
    with np.errstate(all="raise", under="ignore"):
        draw = estimator.sample(logits, Generator(0))
        kl, dlogits = estimator.rows_kl(draw), estimator.rows_kl_backward(draw)
    assert (draw.codes == 0).any() and kl.dtype == dlogits.dtype == np.float32
    assert np.isfinite(kl).all() and kl > 0 and np.isfinite(dlogits).all()


def test_without_it_nothing_changes_and_no_kernel_takes_it():
    plain, concrete = (estimators.get("gumbel_softmax", kl=kl) for kl in ("analytic", "concrete"))
    assert not plain.has_kl and concrete.has_kl
    logits, g = np.random.default_rng(0).normal(size=(2, 2, 3, 4))
    one, other = (e.backward(e.sample(logits, Generator(3)), None, g[None]) for e in (plain, concrete))
    assert (one == other).all()
    spec = StepSpec.__new__(StepSpec)
    for e, captured in ((plain, True), (concrete, False)):
        vars(spec).update(estimator=e.name, settings=e.settings())
        assert (captured_gradient(spec) is not None) == captured


@pytest.mark.parametrize(("options", "message"), [
    (dict(kl="relaxed"), "kl must be one of analytic, concrete, got 'relaxed'"),
    (dict(kl="concrete", prior_temperature=0), "prior_temperature must be positive, got 0"),
    (dict(prior_temperature=0.7), "prior_temperature does nothing without kl=concrete"),
    (dict(kl="concrete", anneal="learned"), "a learned temperature does not follow kl=concrete")])
def test_options_of_the_kl_without_sense_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        estimators.get("gumbel_softmax", **options)


@pytest.mark.parametrize("options", [dict(prior="learned"), dict(prior="autoregressive"), dict(free_bits=0.1)])
def test_the_concrete_prior_is_uniform_and_has_no_free_bits(options):
    with pytest.raises(ValueError, match="KL of its own, to a uniform prior, without free bits"):
        latents.get("categorical", latents=2, estimator="gumbel_softmax", kl="concrete", **options)
