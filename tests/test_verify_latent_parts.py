"""What the proofs of latents are made of: nodes, layers, errors, each by numbers known beforehand. Share: 3 s."""
import types

import numpy as np
import pytest

from npdvae import latents
from npdvae.latents.location_scale import Gaussian, Uniform
from npdvae.rng import INIT, Generator
from npdvae.verify.code_claims import matches
from npdvae.verify.family_claims import ends
from npdvae.verify.gradients import complex_step, finite_differences
from npdvae.verify.latent_claims import (
    EXAMPLES_OF_MANY,
    analytic_kl,
    density,
    density_gradients,
    drawn,
    examples,
    kl,
    mean_cost,
    mean_gradient,
    over_examples,
    step_of,
    tiled,
)
from npdvae.verify.latent_fixed import by_complex_steps, fixed_noise, gap, jacobian
from npdvae.verify.latent_layer import KL_WEIGHT, Layer, largest, proof
from npdvae.verify.latent_noise import STEPS, Nodes, Recorder, TooMany, finest, nodes, product, uniforms, unit_rule
from npdvae.verify.surrogates import entropy, rotations, surrogate, unit
from tests.checks import close

HERE = "tests.test_verify_latent_parts"


# ---- errors ----------------------------------------------------------------------------------------------------------

def test_errors_are_of_the_largest_entry_and_nan_counts():
    assert gap(np.array([1.0, -4.5]), np.array([1.0, -5.0])) == 0.1
    assert gap(np.zeros(2), np.zeros(2)) == 0 and gap(np.full(1, 1e-310), np.zeros(1)) < 1e-9
    assert largest(1.0, np.array([[2.0, 3.0]]), np.array([-5.0])) == 3
    for values in ((1.0, np.nan), (np.nan, 1.0), (np.array([1.0, np.nan]), 2.0)):
        assert np.isnan(largest(*values))
    assert np.isnan(gap(np.array([1.0, np.nan]), np.ones(2))) and np.isnan(gap(np.ones(2), np.array([1.0, np.nan])))


def test_a_proof_holds_up_to_its_tolerance_and_nan_is_broken():
    layer = types.SimpleNamespace(name="mine", size="2")
    for error, verdict in ((0.0, "holds"), (0.5, "holds"), (0.6, "BROKEN"), (np.nan, "BROKEN")):
        found = proof(layer, "a claim", "a method", error, 0.5, "a note")
        assert found.verdict == verdict and found[:4] == ("mine", "a claim", "2", "a method")
        assert (found.tolerance, found.note) == (0.5, "a note")


def test_jacobians_take_complex_steps_where_differences_bear_them_out():
    x = np.array([0.4, -1.3])
    found, method, tolerance = jacobian(lambda x: (x ** 3).sum(), x)
    assert method == "complex step" and tolerance == 1e-12 and gap(found, 3 * x ** 2) <= 1e-15
    for f in (lambda x: abs(x).sum(), lambda x: x.astype(float).sum(), lambda x: float(x[0]) + 0 * x[1].real):
        found, method, tolerance = jacobian(f, x)
        assert method == "differences" and tolerance == 1e-8
    assert by_complex_steps(lambda x: x.astype(float).sum(), x) is None
    assert (by_complex_steps(lambda x: abs(x).sum(), x) == 0).all()     # silently real: differences tell


class Fake:
    """A layer of two numbers h and one parameter a: loss = weight h . c + a^2, gradients as given."""

    name, size, kl_weight = "fake", "1", 0.25

    def __init__(self, dh, **grads):
        self.h, self.dh, self.grads = np.array([[1.0, 2.0]]), np.array([dh]), grads
        self.params = {"decoder.0.weight": np.ones(1), "a": np.array([3.0]), "fixed": np.array([1.0])}

    def gradients(self, h, rng=None, kl_weight=None):
        assert kl_weight == 0.25
        return self.dh, self.grads

    def loss(self, h, params, kl_weight):
        return 4 * kl_weight * (h * np.array([1.0, -8.0])).sum() + params["a"][0] ** 2

    def total(self, h, params):
        return self.loss(h, params, 0.25) + 5 * params["fixed"][0]


@pytest.mark.parametrize("dh, a, error", [((1.0, -8.0), 6.0, 0.0), ((1.0, -8.0), 5.0, 1 / 8), ((3.0, -8.0), 6.0, 2 / 8),
                                          ((1.0, -8.0), 16.0, 10 / 16), ((1.0, -4.0), 6.0, 4 / 6),
                                          ((np.nan, -8.0), 6.0, np.nan), ((1.0, -8.0), np.nan, np.nan)])
def test_gradients_are_compared_entry_by_entry_with_those_of_the_loss(dh, a, error):
    """Relative to the largest found; to 1e-9, of differences, where complex steps are not borne out."""
    layer = Fake(dh, a=np.array([a]))
    found = fixed_noise(layer)
    np.testing.assert_allclose([found.error, matches(layer, layer.total, fixed=("fixed",))], [error, error], atol=1e-14)
    assert found.verdict == ("holds" if error == 0 else "BROKEN") and found.method == "complex step"


def test_a_parameter_without_a_gradient_has_to_have_none():
    layer = Fake((1.0, -8.0))
    assert matches(layer, layer.total, fixed=("fixed",)) == 6 / 8 and matches(layer, layer.total) == 6 / 8
    layer = Fake((1.0, -8.0), a=np.array([6.0]))
    assert matches(layer, layer.total) == 5 / 8
    assert np.isnan(matches(layer, lambda h, p: h.astype(float).sum(), fixed=("fixed",)))


# ---- nodes -----------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("dims", [1, 2])
def test_rules_integrate_over_the_unit_cube(dims):
    """To 1e-8, what steps of 0.5 and ends of 1e-14 leave; a kink of one dimension does no harm."""
    u, w = uniforms(dims, 0.5)
    assert u.shape == (len(w), dims) and abs(w.sum() - 1) <= 1e-14 and (0 < u).all() and (u < 1).all()
    for k in (1, 2, 5):
        assert abs(w @ u[:, -1] ** k - 1 / (k + 1)) <= 1e-8
    assert abs(w @ -np.log(u[:, 0]) - 1) <= 1e-8 and abs(w @ -np.log1p(-u[:, 0]) - 1) <= 1e-8
    if dims == 1:
        assert abs(w @ abs(u[:, 0] - 0.5) - 0.25) <= 1e-8
    else:
        assert abs(w @ (u[:, 0] * u[:, 1] ** 2) - 1 / 6) <= 1e-8 and len(w) < len(unit_rule(2, 0.5)[0]) ** 2


def test_nodes_of_the_unit_interval_are_symmetric_and_weights_sum_to_one():
    """From sigma(-32) to sigma(32); of one dimension as many again, each half by itself."""
    for dims, count in ((1, 258), (2, 129)):
        u, w = unit_rule(dims, 0.5)
        assert len(u) == len(w) == count and abs(w.sum() - 1) <= 1e-14 and w.argmax() == 64
        close(u, 1 - np.roll(u, 129) if dims == 1 else 1 - u[::-1], 1e-15)
        assert u[0] < 1e-13 and abs(u[64] - 0.5 / (3 - dims)) <= 1e-15


def test_products_leave_out_the_lightest_nodes_alone():
    x, w = product(np.array([1.0, 2.0, 3.0]), np.array([1.0, 1e-8, 1e-16]), 2)
    assert x.tolist() == [[1, 1], [1, 2], [2, 1]] and abs(w.sum() - 1) <= 1e-15 and w[1] == w[2] < 1e-7
    assert product(np.array([1.0, 2.0]), np.array([1.0, 1e-14]), 1)[0].tolist() == [[1], [2]]
    for dims in (0, 3):
        with pytest.raises(TooMany, match=f"{dims} numbers of noise, where quadrature takes 1 to 2"):
            product(np.ones(2), np.ones(2), dims)


def test_the_step_is_the_first_that_changes_nothing():
    assert STEPS == (1.0, 0.5, 0.25, 0.125)
    for error, step in ((0.0, 0.5), (1e-7, 0.5), (1e-5, 0.5), (2e-5, 0.25), (1e-3, 0.125)):
        assert finest(lambda step: np.array([7.0, 2 - error * step])) == step       # noqa: B023
    seen = []
    assert finest(lambda step: seen.append(step) or np.array([len(seen)])) == 0.125 and seen == list(STEPS)
    assert finest(lambda step: np.array([-100.0, float(step > 0.6)])) == 0.25       # of the largest in size
    assert finest(lambda step: np.array([-100.0, 5e-5 * (step > 0.6)])) == 0.5
    assert finest(lambda step: np.zeros(2)) == 0.5


def test_noise_is_counted_for_each_example_and_handed_out_in_order():
    seen = Recorder()
    a, b = seen.uniform((2, 5, 3)), seen.uniform((1, 5, 2, 4), np.float32)
    assert seen.drawn == 2 * 3 + 2 * 4 and a.shape == (2, 5, 3) and b.dtype == np.float32
    assert np.array_equal(a, Generator(0).uniform((2, 5, 3)))
    u = np.arange(5 * 16.0).reshape(5, 16)
    given = Nodes(u)
    assert np.array_equal(given.uniform((2, 5, 3)), np.moveaxis(u[:, :6].reshape(5, 2, 3), 1, 0))
    rest = given.uniform((1, 5, 2, 4), np.float32)
    assert np.array_equal(rest[0], u[:, 6:14].reshape(5, 2, 4)) and rest.dtype == np.float32
    assert np.array_equal(given.uniform((2, 5)), u[:, 14:].T)


@pytest.mark.parametrize("name", ["laplace", "kumaraswamy"])
def test_rules_of_a_latent_give_its_moments(name):
    """Mean and variance of z, by the density of a family or by the uniforms drawn; the latent is left as it was."""
    latent = latents.get(name, latents=1)
    layer, h = Layer(latent), np.array([0.3, -0.4])
    noise = getattr(latent, "noise", None)
    at = drawn(layer, h)
    assert at.z.shape == (1, len(at.weights), 1) and getattr(latent, "noise", None) == noise
    mean = at.weights @ (at.z if name == "laplace" else np.exp(at.z))[0, :, 0]
    a, b = np.exp(h)
    exact = 0.3 if name == "laplace" else b * beta(1 + 1 / a, b)
    assert abs(mean - exact) <= 1e-9
    count = len(nodes(latent, 0.5, lambda latent, rng: latent.forward({}, h[None], rng)).weights)
    assert 300 < count < 400 if name == "laplace" else count == len(uniforms(1, 0.5)[1])


@pytest.mark.parametrize("options", [dict(latents=2), dict(latents=1, samples=2)])
def test_noise_of_a_density_is_that_of_every_latent_and_sample(options):
    """Independent standard normal numbers: E e = 0, E e e' = I."""
    latent, h = latents.get("gaussian", **options), np.zeros(2 * options["latents"])
    rule = nodes(latent, 1.0, lambda latent, rng: latent.forward({}, h[None], rng))
    e = rule.latent.forward({}, tiled(h, len(rule.weights)), rule.rng)[1].e     # [S, N, D]
    assert e.shape == (latent.samples, len(rule.weights), latent.latents)
    e = np.moveaxis(e, 1, 0).reshape(len(e[0]), 2)
    close(rule.weights @ e, np.zeros(2), 1e-12, scale=1)
    close((rule.weights[:, None] * e).T @ e, np.eye(2), 1e-12)


def beta(x, y):
    from math import gamma
    return gamma(x) * gamma(y) / gamma(x + y)


# ---- layers ----------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("latent", [latents.get("gaussian", latents=2, samples=3),
                                    latents.get("categorical", latents=2, categories=3, estimator="straight_through"),
                                    latents.get("categorical", latents=2, categories=3, estimator="gumbel_softmax")])
def test_the_cost_has_its_gradient(latent):
    layer = Layer(latent)
    rows = latent.rows(layer.params, layer.forward(layer.h)[0])
    cost, found = layer.cost(rows), layer.dcost(rows)
    assert cost.shape == rows.shape[:2] and len(np.unique(cost)) > 1
    soft = np.eye(3)[rows] if rows.dtype.kind in "iu" else rows
    if rows.dtype.kind in "iu":
        close(cost, layer.of_rows(soft.reshape(-1, 1, 2, 3)).reshape(cost.shape), 1e-14)
        slopes = complex_step(lambda x: layer.of_rows(x.reshape(-1, 1, 2, 3)).sum(), soft)
    else:
        slopes = complex_step(lambda x: layer.cost(x).sum(), soft)
    close(found, slopes, 1e-13)


def test_a_layer_is_random_but_always_the_same():
    latent = latents.get("vq", latents=2, categories=3, size=2, prior="learned")
    a, b, c = Layer(latent), Layer(latent, "mine"), Layer(latent, seed=1)
    assert all(np.array_equal(a.params[k], b.params[k]) for k in a.params) and a.name == "vq" and b.name == "mine"
    assert not any(np.array_equal(a.params[k], c.params[k]) for k in ("latent.codebook", "latent.prior"))
    assert np.array_equal(a.h, b.h) and a.h.shape == (3, 4) and 0.4 < np.abs(a.h).max() <= 0.8 and (a.h < 0).any()
    assert (a.state["size"] > 0).all() and len(np.unique(a.state["size"])) == 3 and a.state["sums"].any()
    sizes = a.state["size"] / (2 / 3)
    assert (0.6 <= sizes).all() and (sizes <= 1.4).all() and a.size == "2x3"
    close(a.params["latent.codebook"], a.state["sums"] / a.state["size"][..., None], 1e-14)
    assert Layer(latents.get("gaussian", latents=2)).size == "2"
    assert a.params["decoder.0.weight"].shape == (4, 1) and not a.params["decoder.0.weight"].any()
    spread = Layer(latents.get("vq", latents=1, categories=50, size=20, codebook="gradient")).params["latent.codebook"]
    assert 0.45 < spread.std() < 0.55           # U(-1/K, 1/K) and half a normal number


def test_parameters_of_a_layer_are_the_latents_and_noise_added():
    latent = latents.get("vq", latents=2, categories=3, size=2, codebook="gradient")
    fresh = latent.init(Generator(4, INIT), np.float64)["latent.codebook"]
    noise = np.random.default_rng(4).normal(size=fresh.shape)
    close(Layer(latent, seed=4).params["latent.codebook"], fresh + noise / 2, 1e-15)


class Remembers(Gaussian):
    """Has a state, and knows how many numbers of context it was promised for each example."""

    def init_state(self, rng, context_size):
        self.promised = context_size
        return {"some": np.array([0.0, 2.0]), "none": np.zeros(2)}

    def forward(self, params, h, rng, state=None, context=None):
        assert context.shape == (len(h), self.promised)
        return super().forward(params, h, rng, state, context)


def test_context_is_as_promised_and_states_are_not_zero():
    layer = Layer(latents.get(f"{HERE}:Remembers", latents=1))
    assert layer.latent.promised == layer.context.shape[1] == 3
    assert mean_gradient(layer, layer.h[0], 1.0, 1.0).all()
    some, none = layer.state["some"], layer.state["none"]
    assert some[0] == 0 and 1.2 <= some[1] <= 2.8 and none.all()


class Weighted(Gaussian):
    """Weights as the cost."""

    def weigh(self, params, kept, cost):
        return cost / cost.sum(0)


def test_losses_hold_the_weights_of_evaluations_fixed():
    """To 1e-13: sums of three terms."""
    layer = Layer(latents.get(f"{HERE}:Weighted", latents=2, samples=3))
    z, _ = layer.forward(layer.h)
    cost = layer.cost(z)                        # [S, B]
    slopes = complex_step(lambda h: layer.loss(h, layer.params, 0.0), layer.h)[:, :2]
    close(slopes, ((cost / cost.sum(0))[..., None] * layer.dcost(z)).sum(0), 1e-13)


def test_weights_of_the_kl_are_those_that_a_latent_takes():
    assert Layer(latents.get("gaussian", latents=1)).kl_weight == KL_WEIGHT == 0.7
    assert Layer(latents.get("gaussian", latents=1, kl="parameters")).kl_weight == 0
    assert Layer(latents.get("fsq", latents=1)).kl_weight == 1


def test_losses_and_gradients_weigh_cost_and_kl():
    layer = Layer(latents.get("gaussian", latents=2, samples=2))
    z, kept = layer.forward(layer.h)
    cost = layer.cost(z)
    for weight in (0.0, 0.7):
        expected = cost.mean(0).sum() + weight * kept.kl.sum()
        assert abs(layer.loss(layer.h, layer.params, weight) - expected) <= 1e-13 * expected
    both, alone = layer.gradients(layer.h)[0], layer.gradients(layer.h, kl_weight=0.0)[0]
    penalty = layer.gradients(layer.h, kl_weight=0.7, cost_weight=0.0)[0]
    close(both, alone + penalty, 1e-14)
    assert alone.any() and penalty.any()
    other = layer.with_params({"x": 1})
    assert other.params == {"x": 1} and layer.params != other.params and other.h is layer.h
    assert layer.with_step(0.25).step == 0.25 and layer.step is None and layer.with_latent(3).latent == 3


def test_means_are_of_one_example_where_nodes_are_many():
    assert len(examples(Layer(latents.get("gaussian", latents=1)))) == 2
    assert len(examples(Layer(latents.get("dirichlet", latents=2)))) == EXAMPLES_OF_MANY == 1
    layer = Layer(latents.get("laplace", latents=1))
    layer.step = 0.25
    assert len(examples(layer)) == 1
    layer.step = 0.5
    assert over_examples(layer, lambda h: h, lambda h: h * (1 + (h[0] == layer.h[1, 0]))) == 0.5
    assert over_examples(layer, lambda h: h, lambda h: h) == 0


def test_steps_are_those_that_the_first_example_needs():
    layer = Layer(latents.get("kumaraswamy", latents=1))
    layer.h[1:] = np.nan                        # no step is fine enough for these
    assert step_of(layer) == layer.step == 0.5


class RealGaussian(Gaussian):
    """A density that does not let complex numbers through."""

    def log_ratio(self, params, q, z):
        return super().log_ratio(params, q, z).astype(float)


class RealUniform(RealGaussian, Uniform):
    name = "uniform"


def test_densities_that_take_no_complex_numbers_are_left_to_differences():
    for name, claim in ((f"{HERE}:RealGaussian", density), (f"{HERE}:RealUniform", ends)):
        layer = Layer(latents.get(name, latents=1))
        assert len(density_gradients(layer, layer.h[0])) == 1 and claim(layer).verdict == "holds"
    assert len(density_gradients(Layer(latents.get("gaussian", latents=1)), layer.h[0])) == 2


def test_kl_is_summed_over_latents_and_held_less_sharply_where_it_is_itself_a_sum():
    layer = Layer(latents.get("gaussian", latents=2))
    h = layer.h[0]
    assert abs(analytic_kl(layer, h) - ((h[:2] ** 2 + np.exp(2 * h[2:]) - 1) / 2 - h[2:]).sum()) <= 1e-14
    for options, tolerance in (({}, 1e-7), (dict(kl="sampled", prior_family="logistic"), 1e-6)):
        found = kl(Layer(latents.get("gaussian", latents=1, **options)))
        assert found.verdict == "holds" and found.tolerance == tolerance


def test_means_over_noise_are_sums_over_nodes():
    """A cost linear in z: E = loc w, and its gradient w, 0."""
    layer = Layer(latents.get("gaussian", latents=1))
    layer.cost, layer.dcost = lambda rows: 3 * rows[..., 0], lambda rows: 3 + 0 * rows
    h = np.array([0.2, 0.5])
    assert abs(mean_cost(layer, h) - 0.6) <= 1e-12
    close(mean_gradient(layer, h, 0.0, 1.0), np.array([3.0, 0.0]), 1e-12)
    close(mean_gradient(layer, h, 1.0, 0.0), np.array([0.2, np.exp(1.0) - 1]), 1e-12)
    close(mean_gradient(layer, h, 2.0, 0.5), np.array([1.9, 2 * np.exp(1.0) - 2]), 1e-12)


# ---- surrogates ------------------------------------------------------------------------------------------------------

def test_rotations_map_and_turn():
    v, q = np.random.default_rng(0).normal(size=(2, 4, 3))
    turns = rotations(v, q)
    close(np.einsum("nij,nj->ni", turns, v), q, 1e-14)
    ratio = np.linalg.norm(q, axis=-1) / np.linalg.norm(v, axis=-1)
    close(np.linalg.det(turns), ratio ** 3, 1e-13)
    close(turns @ turns.swapaxes(1, 2), ratio[:, None, None] ** 2 * np.eye(3), 1e-13)
    normal = np.cross(v, q)                     # the axis stays
    close(np.einsum("nij,nj->ni", turns, normal), ratio[:, None] * normal, 1e-13)
    close((unit(v) ** 2).sum(-1), np.ones(4), 1e-15)
    assert abs(entropy(np.array(0.5)) - np.log(2)) <= 1e-15
    assert abs(finite_differences(entropy, np.array([0.2]))[0, 0] - np.log(4)) <= 1e-9


@pytest.mark.parametrize("name", ["lfq", "bsq"])
def test_surrogates_of_bits_have_every_option(name):
    options = dict(commitment=0.4, entropy_weight=0.6, mix=0.3, inverse_temperature=1.5)
    found = surrogate(Layer(latents.get(name, latents=2, **options)))
    assert found.verdict == "holds" and found.tolerance == 1e-12
