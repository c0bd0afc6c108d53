"""Estimators with coupled noise and with relaxed control variates. Share of the suite's time: 5 s."""
import importlib

import numpy as np
import pytest

from npdvae import estimators, rng
from npdvae.estimators.base import Draw
from npdvae.estimators.parts import binary_tree, copula, simplex_cells
from npdvae.estimators.parts.outcomes import all_codes
from npdvae.verify import costs, enumeration


def problem(B, D, K, seed=0, kind="decoder", scale=1.0):
    """Random logits and a random cost."""
    logits = scale * np.random.default_rng(seed).normal(size=(B, D, K))
    return logits, costs.make(kind, seed + 1, B, D, K)


def moments(estimator, logits, cost):
    """Mean, mean of absolute values, and variance of the estimate over its own outcomes: 3 x [B, D, K]."""
    mean = size = square = 0
    for probability, draw in estimator.outcomes(logits):
        g = estimator.backward(draw, cost(draw.codes))
        p = probability[:, None, None]
        mean, size, square = mean + p * g, size + p * abs(g), square + p * g * g
    return mean, size, square - mean ** 2


def bias(estimator, logits, cost):
    """Largest bias, relative to the mean absolute estimate."""
    mean, size, _ = moments(estimator, logits, cost)
    return abs(mean - enumeration.exact_gradient(logits, cost)).max() / size.max()


def worst_twin_difference(estimator, logits, cost):
    """Largest difference from the loop-written twin over all outcomes, relative to the largest estimate."""
    twin = importlib.import_module(f"tests.twins.{estimator.name}")
    worst = largest = 0.0
    for _, draw in estimator.outcomes(logits):
        g = estimator.backward(draw, cost(draw.codes))
        worst = max(worst, abs(g - twin.backward(estimator, draw, cost(draw.codes))).max())
        largest = max(largest, abs(g).max())
    return worst / largest


def close(a, b, tol):
    """|a - b| <= tol everywhere, false for NaN."""
    return bool((abs(np.asarray(a) - np.asarray(b)) <= tol).all())


SHAPES = {"arm": (2, 3, 2), "disarm": (2, 3, 2), "disarm_stick_breaking": (2, 2, 3), "disarm_tree": (2, 2, 3),
          "disarm_iw": (2, 2, 3), "carms": (2, 1, 4), "arsm": (2, 1, 3)}


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("scale", [0.0, 1.0, 30.0])
def test_coupled_estimators_are_exact_in_the_mean_and_equal_their_twins(name, scale):
    B, D, K = SHAPES[name]
    logits, cost = problem(B, D, K, scale=scale)
    estimator = estimators.get(name)
    total = sum(p for p, _ in estimator.outcomes(logits))
    assert close(total, 1, 1e-13)                                   # a few hundred roundings of numbers below 1
    assert bias(estimator, logits, cost) <= 1e-12                   # rounding only; biased ones show above 1e-2
    assert worst_twin_difference(estimator, logits, cost) <= 1e-12


def by_codes(estimator, logits, cost):
    """Probability and mean estimate of each code tuple of a single example."""
    found = {}
    for probability, draw in estimator.outcomes(logits):
        key = tuple(draw.codes.ravel().tolist())
        p, g = found.get(key, (0, 0))
        found[key] = p + probability[0], g + probability[0] * estimator.backward(draw, cost(draw.codes))
    return found


def test_disarm_is_arm_averaged_over_what_its_pair_leaves_open():
    logits, cost = problem(1, 3, 2)
    arm = by_codes(estimators.get("arm"), logits, cost)
    disarm = by_codes(estimators.get("disarm"), logits, cost)
    assert arm.keys() == disarm.keys()
    for key, (p, g) in disarm.items():
        assert close(arm[key][0], p, 1e-14) and close(arm[key][1], g, 1e-14)


def test_disarm_has_less_variance_than_arm():
    logits, cost = problem(2, 3, 2)
    _, _, arm = moments(estimators.get("arm"), logits, cost)
    _, _, disarm = moments(estimators.get("disarm"), logits, cost)
    assert (disarm < arm).all()


def frequencies_agree(estimator, logits, state=None, n=20_000):
    """Whether code tuples sampled for one example come as often as `outcomes` says, to 5 standard deviations."""
    expected = {}
    for probability, draw in estimator.outcomes(logits, state):
        key = tuple(draw.codes.ravel().tolist())
        expected[key] = expected.get(key, 0.0) + float(probability[0])
    draw = estimator.sample(np.repeat(logits, n, 0), rng.Generator(7), state)
    seen = draw.codes.transpose(1, 0, 2).reshape(n, -1)             # [n, S D]
    counts = dict.fromkeys(expected, 0)
    for key, count in zip(*np.unique(seen, axis=0, return_counts=True)):
        counts[tuple(key.tolist())] = count
    return counts.keys() == expected.keys() and all(
        abs(counts[key] - n * p) <= 5 * (n * p * (1 - p)) ** 0.5 + 1 for key, p in expected.items())


@pytest.mark.parametrize("name", SHAPES)
def test_coupled_samples_come_as_often_as_enumerated(name):
    _, D, K = SHAPES[name]
    logits, _ = problem(1, D, K, seed=3)
    assert frequencies_agree(estimators.get(name), logits)


PAIRS = ["disarm_stick_breaking", "disarm_tree", "disarm_iw"]


def pair_joint(estimator, logits):
    """Probability of each pair of categories: [B, D, K, K]."""
    kept = estimator.keep(logits)
    return binary_tree.leaf_pair_joint(estimator.ops, kept["a"], kept["left"], kept["right"])


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("K", [2, 3, 5])
@pytest.mark.parametrize("scale", [0.0, 1.0, 30.0])
def test_pair_couplings_have_the_marginals_of_q(name, K, scale):
    logits, _ = problem(3, 2, K, scale=scale)
    estimator = estimators.get(name)
    joint = pair_joint(estimator, logits)                           # [B, D, K, K]
    p = estimator.ops.softmax(logits)
    assert (joint >= 0).all()
    assert close(joint.sum(-1), p, 1e-14) and close(joint.sum(-2), p, 1e-14)


@pytest.mark.parametrize("name", PAIRS)
def test_pair_estimators_are_disarm_for_two_categories(name):
    logits, cost = problem(2, 2, 2, seed=5)
    for _, draw in estimators.get("disarm").outcomes(logits):
        disarm = estimators.get("disarm").backward(draw, cost(draw.codes))
        draw = Draw(draw.codes, logits, estimators.get(name).keep(logits))
        assert close(estimators.get(name).backward(draw, cost(draw.codes)), disarm, 1e-14)


def test_importance_weights_are_the_ratio_of_independent_to_coupled_pairs():
    logits, _ = problem(1, 1, 5, seed=2)
    estimator = estimators.get("disarm_iw")
    joint = pair_joint(estimator, logits)
    p = estimator.ops.softmax(logits)[0, 0]
    cost = np.array([[2.0], [0.0]])
    for z in range(5):
        for other in set(range(5)) - {z}:
            g = estimator.backward(Draw(np.array([[[z]], [[other]]]), logits, estimator.keep(logits)), cost)
            assert close(g[0, 0, z], p[z] * p[other] / joint[0, 0, z, other], 1e-13)


@pytest.mark.parametrize("name", PAIRS)
def test_pair_estimators_serve_a_single_category(name):
    logits, estimator = np.zeros((2, 3, 1)), estimators.get(name)
    draw = estimator.sample(logits, rng.Generator(0))
    assert close(draw.codes, 0, 0) and close(estimator.backward(draw, np.ones((2, 2))), 0, 0)


def test_descending_sticks_would_bias_the_importance_weights(monkeypatch):
    logits, cost = problem(2, 2, 3)
    estimator = estimators.get("disarm_iw")
    monkeypatch.setattr(estimator, "tree", lambda x: binary_tree.stick_breaking(estimator.ops, -x))
    with np.errstate(all="ignore"):
        assert not bias(estimator, logits, cost) <= 1e-2


@pytest.mark.parametrize("samples", [2, 3, 4])
@pytest.mark.parametrize("scale", [0.0, 1.0, 8.0])
def test_carms_joint_has_the_marginals_of_q_and_the_pairs_of_its_ratio(samples, scale):
    logits, _ = problem(2, 2, 4, scale=scale)
    ops = estimators.get("carms").ops
    p = ops.softmax(logits)                                         # [B, D, K]
    joint = copula.joint(ops, logits, all_codes(np, samples, 4).T)  # [K**S, B, D]
    joint = np.moveaxis(joint, 0, -1).reshape(2, 2, *(4,) * samples)
    pair = joint.sum(tuple(range(4, 2 + samples)))                  # [B, D, K, K]
    assert (joint >= 0).all() and close(pair.sum(-1), p, 1e-14) and close(pair.sum(-2), p, 1e-14)
    first, other = all_codes(np, 2, 4).T[:, :, None, None]          # [K**2, 1, 1] twice
    first, other = (np.broadcast_to(k, (16, 2, 2)) for k in (first, other))
    rho = copula.pair_ratio(ops, logits, first, other, samples)          # [K**2, B, D]
    for n, (z, z_other) in enumerate(all_codes(np, 2, 4)):
        if z != z_other:
            assert close(rho[n] * pair[..., z, z_other], p[..., z] * p[..., z_other], 1e-15)
            assert (pair[..., z, z_other] > 0).all()


@pytest.mark.parametrize("samples", [2, 3, 4])
def test_carms_is_exact_in_the_mean_for_any_number_of_samples(samples):
    logits, cost = problem(2, 1, 4)
    assert bias(estimators.get("carms", samples=samples), logits, cost) <= 1e-12


def test_carms_with_two_samples_is_disarm_iw():
    logits, cost = problem(2, 2, 3)
    carms, iw = estimators.get("carms", samples=2), estimators.get("disarm_iw")
    pairs = zip(carms.outcomes(logits), iw.outcomes(logits), strict=True)
    for (p, draw), (q, same) in pairs:
        assert (draw.codes == same.codes).all() and close(p, q, 1e-15)
        assert close(carms.backward(draw, cost(draw.codes)), iw.backward(same, cost(draw.codes)), 1e-14)


def test_carms_has_less_variance_than_independent_samples():
    logits, cost = problem(2, 1, 6)
    _, _, carms = moments(estimators.get("carms", samples=3), logits, cost)
    _, _, rloo = moments(estimators.get("rloo", samples=3), logits, cost)
    assert carms.sum() < 0.9 * rloo.sum()


def test_carms_with_a_clipped_ratio_is_caught(monkeypatch):
    logits, cost = problem(2, 1, 4)
    ratio = copula.pair_ratio
    monkeypatch.setattr(copula, "pair_ratio", lambda *args: np.minimum(ratio(*args), 0.9))
    assert not bias(estimators.get("carms"), logits, cost) <= 1e-3


def many(estimator, logits, u, v, cost, state=None, context=None):
    """Estimates for N draws of the noise of one example: u, v [N, D, K] -> [N, D, K]."""
    N, D, K = u.shape
    repeated = None if context is None else np.repeat(context, N, 0)
    draw = estimator.from_noise(np.repeat(logits, N, 0), u[None], v[None], state, repeated)
    flat = draw.codes.reshape(-1, 1, *draw.codes.shape[2:])         # [S N, 1, ...]
    f, g = cost(flat).reshape(-1, N), cost.gradient(flat).reshape(-1, N, D, K)
    return estimator.backward(draw, f, g, state)


def mean_by_quadrature(estimator, logits, cost, state=None, context=None):
    """Mean over Gumbel noise at one latent, code by code: given that b wins, E_j = E_b p_j / p_b + (own) and so on.

    Trapezoid rule in logistic coordinates; u and v may share nodes, since the estimate is additive in them given b.
    """
    K = logits.shape[-1]
    p = np.exp(logits[0, 0]) / np.exp(logits[0, 0]).sum()
    t = np.arange(-24, 24, 0.3)
    weight = 0.3 / (2 * np.cosh(t / 2)) ** 2
    e = np.stack(np.meshgrid(*[np.logaddexp(0, t)] * K, indexing="ij"), -1).reshape(-1, 1, K)    # exponentials
    weight = np.stack(np.meshgrid(*[weight] * K, indexing="ij"), -1).reshape(-1, K).prod(-1)
    mean = np.zeros_like(logits[0])
    for b in range(K):
        own = np.where(np.arange(K) == b, 0, e)                     # E of u_j is p_j E_b + own, E of u_b is p_b E_b
        u = np.minimum(np.exp(-(p * e[..., b:b + 1] + own)), 1 - 2.0 ** -53)
        g = many(estimator, logits, u, np.exp(-e), cost, state, context)    # [N, 1, K]
        mean += p[b] * (weight[:, None, None] * g).sum(0)
    return mean


def relaxed_estimator(name, D, K, seed=0, **options):
    """An estimator with a state that is not its first, and a context."""
    noise = np.random.default_rng(seed)
    estimator = estimators.get(name, **({"hidden": 4} if name == "relax" else {}), **options)
    state = estimator.init(rng.Generator(seed), D, K, 2)
    if name == "rebar":
        state["eta"] = np.array([0.7])
    else:
        state.update(cost_sum=np.array([1.5]), weight_sum=np.array([0.5]), square_sum=np.array([2.0]),
                     code_weight=2 * noise.normal(size=(D * K, 4)), output_weight=noise.normal(size=4))
    return estimator, state, noise.normal(size=(1, 2))


@pytest.mark.parametrize("name", ["rebar", "relax"])
@pytest.mark.parametrize("temperature", [0.4, 1.0])
def test_relaxed_control_variates_are_exact_in_the_mean(name, temperature):
    logits, cost = problem(1, 1, 2)
    estimator, state, context = relaxed_estimator(name, 1, 2, temperature=temperature)
    true = enumeration.exact_gradient(logits, cost)[0]
    mean = mean_by_quadrature(estimator, logits, cost, state, context)
    assert close(mean, true, 1e-9)                                  # the rule's own error: 2e-11


@pytest.mark.parametrize("name", ["rebar", "relax"])
def test_detached_conditional_path_is_seen_as_biased(name, monkeypatch):
    logits, cost = problem(1, 1, 2, kind="cubic")
    estimator, state, context = relaxed_estimator(name, 1, 2)
    module = importlib.import_module(f"npdvae.estimators.{name}")
    monkeypatch.setattr(module, "conditional_gumbels_backward", lambda ops, dnoisy, *rest: 0 * dnoisy)
    true = enumeration.exact_gradient(logits, cost)[0]
    assert not close(mean_by_quadrature(estimator, logits, cost, state, context), true, 2.5e-2)


@pytest.mark.parametrize("name", ["rebar", "relax"])
@pytest.mark.parametrize("with_state", [False, True])
def test_relaxed_control_variates_equal_their_twins(name, with_state):
    logits, cost = problem(2, 2, 3)
    estimator, state, _ = relaxed_estimator(name, 2, 3, samples=2)
    state = state if with_state else None
    draw = estimator.sample(logits, rng.Generator(1), state, np.ones((2, 2)))
    f, g = cost(draw.codes), cost.gradient(draw.codes)
    twin = importlib.import_module(f"tests.twins.{name}")
    mine = estimator.backward(draw, f, g, state)
    assert close(mine, twin.backward(estimator, draw, f, g, state), 1e-13 * abs(mine).max())


@pytest.mark.parametrize("name", ["rebar", "relax"])
@pytest.mark.parametrize("samples", [1, 2])
def test_learned_entries_descend_the_squared_norm_of_the_estimate(name, samples):
    """Complex step of the mean over the batch of |dlogits|^2, every learned entry."""
    logits, cost = problem(3, 2, 3)
    estimator, state, _ = relaxed_estimator(name, 2, 3, samples=samples)
    context = np.random.default_rng(3).normal(size=(3, 2))
    draw = estimator.sample(logits, rng.Generator(1), state, context)
    f, g = cost(draw.codes), cost.gradient(draw.codes)
    learned = estimator.learn(draw, f, g, state)

    def loss(moved):
        dlogits = ComplexParts(estimator).backward(draw, f, g, moved)
        return (dlogits ** 2).sum((1, 2)).mean()

    assert set(learned) == {"rebar": {"eta"}, "relax": {"code_weight", "context_weight", "hidden_bias", "output_weight",
                                                        "output_bias"}}[name]
    for key, gradient in learned.items():
        assert gradient.shape == state[key].shape
        for index in np.ndindex(gradient.shape):
            step = np.zeros(gradient.shape, complex)
            step[index] = 1e-20j
            exact = loss({**state, key: state[key] + step}).imag / 1e-20
            assert close(gradient[index], exact, 1e-12 * max(1, abs(gradient).max()))


class ComplexParts:
    """An estimator's backward that keeps the imaginary part of its learned entries."""

    def __init__(self, estimator):
        self.estimator = estimator

    def backward(self, draw, f, g, state):
        return self.estimator.backward(draw, f.astype(complex), g, state)


def test_rebar_learns_an_eta_that_reduces_the_variance():
    """From 1, by plain descent on fresh draws: the mean squared norm at the end is below that at 0 and at 1."""
    logits, cost = problem(1, 2, 3, kind="quadratic")
    logits, estimator = np.repeat(logits, 500, 0), estimators.get("rebar")
    state, generator = estimator.init(rng.Generator(0), 2, 3), rng.Generator(1)

    def drawn(state):
        draw = estimator.sample(logits, generator, state)
        flat = draw.codes.reshape(-1, 1, 2, 3)
        return draw, cost(flat).reshape(3, -1), cost.gradient(flat).reshape(3, -1, 2, 3)

    def square(eta):
        moved = {**state, "eta": np.array([eta])}
        return (estimator.backward(*last, moved) ** 2).sum((1, 2)).mean()

    for _ in range(60):
        last = drawn(state)
        state = {**state, "eta": state["eta"] - 0.002 * estimator.learn(*last, state)["eta"]}
        state = estimator.advance(last[0], last[1], state)
    assert square(state["eta"][0]) < min(square(0.0), square(1.0))


@pytest.mark.parametrize("name", ["rebar", "relax"])
@pytest.mark.parametrize("scale", [0.0, 17.0, 1e4, 8e37])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_relaxed_control_variates_stay_finite(name, scale, dtype):
    logits = (scale * np.random.default_rng(0).uniform(-1, 1, size=(4, 2, 3))).astype(dtype)
    cost = costs.make("decoder", 0, 4, 2, 3, dtype)
    estimator, state, _ = relaxed_estimator(name, 2, 3)
    noise = [np.array([2.0 ** -24, 0.5, 1 - 2.0 ** -24], dtype)[np.random.default_rng(n).integers(0, 3, (1, 4, 2, 3))]
             for n in (0, 1)]                                       # both ends of the uniforms
    draw = estimator.from_noise(logits, *noise, state, np.ones((4, 2), dtype))
    f, g = cost(draw.codes), cost.gradient(draw.codes)
    dlogits = estimator.backward(draw, f, g, state)
    assert dlogits.dtype == dtype and np.isfinite(dlogits).all()
    assert all(np.isfinite(v).all() for v in estimator.learn(draw, f, g, state).values())


def test_relax_refuses_a_context_of_another_size():
    estimator, state, _ = relaxed_estimator("relax", 2, 3)
    draw = estimator.sample(np.zeros((1, 2, 3)), rng.Generator(0), state)
    with pytest.raises(ValueError, match="context of 2 numbers"):
        estimator.backward(draw, np.ones((1, 1)), None, state)


def test_relaxed_rows_of_rebar_do_not_train_the_decoder():
    estimator = estimators.get("rebar", samples=2)
    assert close(estimator.weigh(None, np.ones((6, 4)))[:, 0], [0.5, 0.5, 0, 0, 0, 0], 0)


def test_arsm_is_arm_for_two_categories():
    logits, cost = problem(2, 3, 2)
    arsm, arm = (moments(estimators.get(name), logits, cost) for name in ("arsm", "arm"))
    assert all(close(a, b, 1e-12) for a, b in zip(arsm, arm) if a is not arsm[1])     # mean and variance; nodes differ


@pytest.mark.parametrize("K", [1, 2, 3, 4])
@pytest.mark.parametrize("scale", [0.0, 1.0, 30.0, 1e4])
def test_simplex_nodes_have_the_moments_of_the_dirichlet_distribution(K, scale):
    phi = scale * np.random.default_rng(K).normal(size=(2, K))
    weight, w, _ = simplex_cells.nodes(np, phi)
    second = np.einsum("mr,mri,mrj->mij", weight, w, w)
    assert (weight >= 0).all() and close(weight.sum(-1), 1, 1e-14)
    assert close(np.einsum("mr,mri->mi", weight, w), 1 / K, 1e-14)
    assert close(second, (1 + np.eye(K)) / (K * (K + 1)), 1e-14)


@pytest.mark.parametrize("name, K", [("arm", 2), ("arsm", 2), ("arsm", 3)])
def test_samples_have_the_mean_and_variance_of_the_quadrature(name, K):
    """For estimators whose outcomes are nodes: what `sample` keeps is not seen in the frequencies of its codes."""
    logits, cost = problem(1, 1, K, seed=4)
    estimator, n = estimators.get(name), 40_000
    mean, _, variance = moments(estimator, logits, cost)
    draw = estimator.sample(np.repeat(logits, n, 0), rng.Generator(2))
    g = estimator.backward(draw, cost(draw.codes.reshape(-1, 1, 1)).reshape(-1, n))
    squares = (g - mean) ** 2
    assert close(g.mean(0), mean[0], 5 * g.std(0).max() / n ** 0.5)                     # 5 standard errors
    assert close(squares.mean(0), variance[0], 5 * squares.std(0).max() / n ** 0.5)


def test_arsm_stays_within_its_bounds():
    logits, cost = problem(3, 2, 4)
    logits, estimator = np.repeat(logits, 500, 0), estimators.get("arsm")
    draw = estimator.sample(logits, rng.Generator(5))
    f = np.random.default_rng(0).choice([0.0, 2.0], size=(7, len(logits)))
    low, high = estimator.bounds(logits, 2.0)
    g = estimator.backward(draw, f)
    assert (low <= g).all() and (g <= high).all() and abs(g).max() > 0.5 * high.max()


def test_arsm_has_no_outcomes_for_many_categories():
    assert estimators.get("arsm").outcomes(np.zeros((1, 1, 5))) is None


def test_relax_centres_and_scales_by_past_costs_only():
    estimator = estimators.get("relax", hidden=2)
    state = estimator.init(rng.Generator(0), 1, 2)
    logits, past, now = np.zeros((4, 1, 2)), np.array([[10.0, 14.0, 10.0, 14.0]]), np.array([[1.0, 2.0, 3.0, 4.0]])
    draw = estimator.sample(logits, rng.Generator(1), state)
    after = estimator.advance(draw, past, state)
    assert close(estimator.running.mean(after, "cost_sum"), 12, 1e-12)
    assert close(estimator.scale(after, float), 2, 1e-12)
    assert state["cost_sum"] == 0 and estimator.scale(state, float) == 1
    flat = {**after, "output_weight": np.zeros(2)}                  # c is the mean of past costs
    score = (draw.codes[0, :, :, None] == np.arange(2)) - 0.5
    assert close(estimator.backward(draw, now, None, flat), (now[0] - 12)[:, None, None] * score, 1e-12)


@pytest.mark.parametrize("name, options, message", [
    ("carms", {"samples": 1}, "samples >= 2"), ("relax", {"hidden": 0}, "hidden >= 1"),
    ("relax", {"samples": 0}, "samples >= 1"), ("rebar", {"temperature": 0.0}, "positive temperature"),
    ("rebar", {"anneal": "linear"}, "anneal_rate > 0")])
def test_options_that_cannot_work_are_refused(name, options, message):
    with pytest.raises(ValueError, match=message):
        estimators.get(name, **options)


@pytest.mark.parametrize("name", ["arm", "disarm"])
def test_binary_estimators_refuse_more_categories(name):
    with pytest.raises(ValueError, match="categories must be 2"):
        estimators.get(name).check(2, 3)
