"""What each estimator is without options: defaults, evaluations, several samples. Share: 1 s."""
import importlib
import inspect

import numpy as np
import pytest

from npdvae import backends, estimators
from npdvae.estimators.parts import baselines
from npdvae.estimators.parts.antithetic import bit_cells
from npdvae.estimators.parts.distinct_codes import draw_outside, log_outside
from npdvae.estimators.parts.outcomes import all_codes
from npdvae.estimators.parts.simplex_cells import cells, nodes, root
from npdvae.rng import Generator
from npdvae.verify import costs
from npdvae.verify.moments import prepared
from tests.checks import close
from tests.strategies import twin


def options_of(name):
    """The constructor's options with their defaults."""
    parameters = inspect.signature(estimators.find(name).__init__).parameters
    return {k: p.default for k, p in parameters.items() if k not in ("self", "ops") and p.default is not p.empty}


@pytest.mark.parametrize("name", estimators.names())
def test_estimator_defaults_and_evaluations_are_the_documented_ones(name):
    options, *evaluations = importlib.import_module(f"tests.twins.{name}").DOCUMENTED
    estimator = estimators.get(name)
    assert options_of(name) == options
    for K, expected in zip((2, 4), evaluations):
        if expected is None:
            with pytest.raises(ValueError, match="binary"):
                estimator.check(3, K)
        else:
            estimator.check(3, K)
            assert estimator.evaluations(3, K) == expected
    state = estimator.init(Generator(1), 2, 2)
    context = estimator.init(Generator(1), 2, 2, 0)
    assert (state is None) == (context is None) and (state or {}).keys() == (context or {}).keys()


@pytest.mark.parametrize("name", [name for name in estimators.names() if "samples" in options_of(name)])
def test_several_samples_are_averaged_as_the_twin_does(name):
    estimator = estimators.get(name, samples=3)
    logits = np.random.default_rng(1).normal(size=(2, 2, 2 if estimator.binary else 3))
    state, context = prepared(estimator, logits)
    cost = costs.make("cubic", 3, *logits.shape)
    draw = estimator.sample(logits, Generator(5), state, context)
    f, g = cost(draw.codes), cost.gradient(draw.codes)
    expected = twin(name)(estimator, draw, f, g, state)
    close(estimator.backward(draw, f, g, state), expected, 1e-12, np.abs(expected).max() + np.abs(f).max())


@pytest.mark.parametrize("name, options, uniform, zero", [
    ("reinforce", {"baseline": "nvil", "hidden": 400}, {"hidden_weight": 7, "hidden_bias": 7},
     ("output_weight", "output_bias")),
    ("relax", {"hidden": 400}, {"code_weight": 6 + 7, "context_weight": 6 + 7, "hidden_bias": 6 + 7,
                                "output_weight": 400}, ("output_bias",)),
    ("rodeo", {"hidden": 400}, {"hidden_weight": 2, "hidden_bias": 2}, ("output_weight", "output_bias"))])
def test_learned_parts_start_uniform_within_one_over_the_root_of_their_inputs(name, options, uniform, zero):
    state = estimators.get(name, **options).init(Generator(1), 2, 3, 7)
    for key, inputs in uniform.items():
        a = state[key] * np.sqrt(inputs)
        assert -1 < a.min() < -0.97 and 0.97 < a.max() < 1 and abs(a.mean()) < 0.15   # 400 numbers: five deviations
    assert not any(state[key].any() for key in zero)
    values = np.concatenate([state[key].ravel() * np.sqrt(inputs) for key, inputs in uniform.items()])
    assert len(np.unique(values)) >= values.size - 3                # no weight is another's copy, up to chance


def test_exact_enumerates_up_to_a_million_codes():
    exact = estimators.get("exact")
    exact.check(20, 2)
    exact.check(5, 16)
    for D, K in ((21, 2), (5, 17), (1, 2 ** 20 + 1)):
        with pytest.raises(ValueError, match="more than 1048576; choose a sampling estimator"):
            exact.check(D, K)


def test_baselines_have_the_documented_defaults():
    ops = backends.load("numpy")
    assert baselines.Constant(ops).baseline_value == 125 and baselines.RunningMean(ops).decay == 0.95
    nvil = baselines.NVIL(ops)
    assert (nvil.decay, nvil.hidden, nvil.normalise) == (0.95, 100, False)
    assert baselines.NoBaseline(ops).advance(np.ones((1, 1)), None, None) is None
    state = nvil.init(Generator(1), 0)
    assert (nvil.inputs(np.full((2, 3), 7.0), None, state) == np.ones((3, 1))).all()
    for key in ("cost_sum", "weight_sum", "square_sum", "output_bias"):
        assert state[key].shape == (1,) and not state[key].any()


def test_arsm_bounds_are_those_of_its_formula():
    """|sum_m (1/K - w_m) (f_mk - mean_j f_mj)| <= sum_m |1/K - w_m| R (1 - 1/K) <= 2 (1 - 1/K) R (1 - 1/K)."""
    low, high = estimators.get("arsm").bounds(np.zeros((1, 2, 4)), 3.0)
    assert low.shape == high.shape == (1, 2, 4) and (low == -high).all() and (high == 2 * 3 * 0.75 ** 2).all()


@pytest.mark.parametrize("nodes, degree", [(1, 1), (2, 3)])
def test_nodes_of_bit_cells_integrate_polynomials_of_the_uniform(nodes, degree):
    """On each side of the cuts: the moments of u - 1/2 over all cells, and over those where the bits agree."""
    a = np.array([[0.7], [-2.0]])
    cells = list(bit_cells(backends.load("numpy"), a, nodes))
    thin = 1 / (1 + np.exp(np.abs(a[:, 0])))
    for power in range(degree + 1):
        whole = sum(p * u[:, 0] ** power for p, _, u in cells)
        agreeing = sum(p * u[:, 0] ** power * (codes[0] == codes[1])[:, 0] for p, codes, u in cells)
        close(whole, np.full(2, (0.5 ** (power + 1) - (-0.5) ** (power + 1)) / (power + 1)), 1e-14, 1)
        edge = 0.5 - thin
        close(agreeing, (edge ** (power + 1) - (-edge) ** (power + 1)) / (power + 1), 1e-14, 1)


@pytest.mark.parametrize("phi", [[0, 400, 800], [0, 1, 740], [0, 350, 355]])
def test_simplex_nodes_survive_cells_whose_volume_underflows(phi):
    phi = np.array([phi], float)
    weight, w, _ = nodes(np, phi)
    assert (cells(np, phi).volume == 0).any() and np.isfinite(w).all()
    close(weight.sum(1), np.ones(1), 1e-14)


def test_shares_outside_a_set_are_those_of_its_definition():
    """Three latents of three categories: below every prefix of a member, one category further."""
    D = K = 3
    log_p = backends.load("numpy").log_softmax(np.random.default_rng(2).normal(size=(1, D, K)))
    everything = all_codes(np, D, K)
    members = everything[[5, 7, 26]]
    q = np.exp(log_p[0, np.arange(D), everything].sum(-1))          # [27]
    outside = ~(everything[:, None] == members).all(-1).any(1)      # [27]
    total, tables = log_outside(backends.load("numpy"), log_p, members[:, None])
    close(np.exp(total), q[outside].sum(keepdims=True), 1e-14)
    for n, d, k in np.ndindex(3, D, K):
        below = (everything[:, :d] == members[n, :d]).all(1) & (everything[:, d] == k)
        close(np.exp(tables[d][n, 0, k]), q[below & outside].sum() / q[below].sum(), 1e-14, 1)


def test_codes_drawn_outside_a_set_have_the_conditional_law():
    """Members that agree in later latents but not in earlier ones: the prefix drawn so far decides who counts."""
    ops, D, K, N = backends.load("numpy"), 3, 3, 10_000
    log_p = np.repeat(ops.log_softmax(np.random.default_rng(6).normal(size=(1, D, K))), N, 0)
    members = np.array([[0, 0, 0], [0, 1, 0], [0, 1, 1], [1, 1, 0], [1, 2, 1], [2, 0, 0], [2, 0, 1], [2, 0, 2]])
    everything = all_codes(np, D, K)
    q = np.exp(log_p[0, np.arange(D), everything].sum(-1)) * ~(everything[:, None] == members).all(-1).any(1)
    codes = np.repeat(members[:, None], N, 1)
    drawn = draw_outside(ops, log_p, codes, log_outside(ops, log_p, codes)[1], Generator(3).uniform((1, N, D))[0])
    share = np.bincount(drawn @ [9, 3, 1], minlength=27) / N
    close(share, q / q.sum(), 5 * np.sqrt(0.25 / N), 1)             # five standard deviations
    assert not share[q == 0].any()


@pytest.mark.parametrize("name, entry", [("double_cv", "alpha"), ("rebar", "eta")])
def test_coefficients_follow_the_gradient_of_the_mean_squared_norm_over_the_batch(name, entry):
    """dlogits is affine in the coefficient c, so d/dc mean_b |dlogits_b|^2 = mean_b 2 <dlogits_b, slope_b>."""
    estimator, logits = estimators.get(name), np.random.default_rng(6).normal(size=(3, 2, 4))
    state, context = prepared(estimator, logits)
    cost = costs.make("cubic", 1, *logits.shape)
    draw = estimator.sample(logits, Generator(2), state, context)
    f, g = cost(draw.codes), cost.gradient(draw.codes)
    at, further = (estimator.backward(draw, f, g, {**state, entry: state[entry] + c}) for c in (0.0, 1.0))
    expected = (2 * at * (further - at)).sum((1, 2)).mean(keepdims=True)
    close(estimator.learn(draw, f, g, state)[entry], expected, 1e-12)


def test_a_learned_temperature_starts_at_the_one_given():
    state = estimators.get("gumbel_softmax", temperature=0.7, anneal="learned").init(Generator(1), 2, 3)
    close(np.exp(state["log_temperature"]), state["temperature"], 1e-15)
    assert float(state["temperature"]) == 0.7


def test_root_of_a_covariance_without_width_in_some_direction():
    b = np.random.default_rng(4).normal(size=(3, 5, 5))
    b[0, 0] = 0                                 # no width in the first direction
    b[1, 2] = 0
    b[2, 1] = 2 * b[2, 0]                       # none across two directions
    a = b @ b.swapaxes(1, 2)                    # [3, K, K]
    found = root(np, a)
    close(found @ found.swapaxes(1, 2), a[:, :4, :4], 1e-7)         # a rounded pivot of 0 has a root of 1e-8
    assert not np.triu(found, 1).any() and not found[0, :, 0].any() and not found[1, 3, 2].any()


def test_unordered_set_takes_two_to_ten_codes():
    assert estimators.get("unordered_set", k=2).k == 2 and estimators.get("unordered_set", k=10).k == 10
    for k in (1, 11):
        with pytest.raises(ValueError, match=f"between 2 and 10 codes, got {k}"):
            estimators.get("unordered_set", k=k)
