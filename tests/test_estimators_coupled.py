"""Estimators with coupled noise and with relaxed control variates. Share of the suite's time: 40 s."""
import importlib

import numpy as np
import pytest

from npdvae import estimators, rng
from npdvae.estimators import binary_tree, copula
from npdvae.estimators.base import Draw
from npdvae.estimators.outcomes import all_codes
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
          "disarm_iw": (2, 2, 3), "carms": (2, 1, 4)}


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


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("K", [2, 3, 5])
@pytest.mark.parametrize("scale", [0.0, 1.0, 30.0])
def test_pair_couplings_have_the_marginals_of_q(name, K, scale):
    logits, _ = problem(3, 2, K, scale=scale)
    estimator = estimators.get(name)
    left, right = estimator.tree(logits)
    a = binary_tree.node_logits(np, logits, left, right)
    joint = binary_tree.leaf_pair_joint(estimator.ops, a, left, right)      # [B, D, K, K]
    p = estimator.ops.softmax(logits)
    assert (joint >= 0).all()
    assert close(joint.sum(-1), p, 1e-14) and close(joint.sum(-2), p, 1e-14)


@pytest.mark.parametrize("name", PAIRS)
def test_pair_estimators_are_disarm_for_two_categories(name):
    logits, cost = problem(2, 2, 2, seed=5)
    for _, draw in estimators.get("disarm").outcomes(logits):
        disarm = estimators.get("disarm").backward(draw, cost(draw.codes))
        assert close(estimators.get(name).backward(draw, cost(draw.codes)), disarm, 1e-14)


def test_importance_weights_are_the_ratio_of_independent_to_coupled_pairs():
    logits, _ = problem(1, 1, 5, seed=2)
    estimator = estimators.get("disarm_iw")
    left, right = estimator.tree(logits)
    joint = binary_tree.leaf_pair_joint(estimator.ops, binary_tree.node_logits(np, logits, left, right), left, right)
    p = estimator.ops.softmax(logits)[0, 0]
    cost = np.array([[2.0], [0.0]])
    for z in range(5):
        for other in set(range(5)) - {z}:
            g = estimator.backward(Draw(np.array([[[z]], [[other]]]), logits), cost)
            assert close(g[0, 0, z], p[z] * p[other] / joint[0, 0, z, other], 1e-13)


@pytest.mark.parametrize("name", PAIRS)
def test_pair_estimators_serve_a_single_category(name):
    logits, estimator = np.zeros((2, 3, 1)), estimators.get(name)
    draw = estimator.sample(logits, rng.Generator(0))
    assert close(draw.codes, 0, 0) and close(estimator.backward(draw, np.ones((2, 2))), 0, 0)


def test_descending_sticks_would_bias_the_importance_weights(monkeypatch):
    logits, cost = problem(2, 2, 3)
    estimator = estimators.get("disarm_iw")
    monkeypatch.setattr(estimator, "tree", lambda x: binary_tree.stick_breaking(np, -x))
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
    rho = copula.ratio(ops, logits, first, other, samples)          # [K**2, B, D]
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
        assert close(carms.backward(draw, cost(draw.codes)), iw.backward(draw, cost(draw.codes)), 1e-14)


def test_carms_has_less_variance_than_independent_samples():
    logits, cost = problem(2, 1, 6)
    _, _, carms = moments(estimators.get("carms", samples=3), logits, cost)
    _, _, rloo = moments(estimators.get("rloo", samples=3), logits, cost)
    assert carms.sum() < 0.9 * rloo.sum()


def test_carms_with_a_clipped_ratio_is_caught(monkeypatch):
    logits, cost = problem(2, 1, 4)
    ratio = copula.ratio
    monkeypatch.setattr(copula, "ratio", lambda *args: np.minimum(ratio(*args), 0.9))
    assert not bias(estimators.get("carms"), logits, cost) <= 1e-3
