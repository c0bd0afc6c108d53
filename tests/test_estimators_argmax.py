"""IMLE, AIMLE and direct argmax: exact means over pairs of codes, limits, the learned strength. Share: 3 s."""
import numpy as np
import pytest

from npdvae import backends, estimators
from npdvae.estimators.parts.outcomes import all_codes, codes_log_prob
from npdvae.rng import Generator
from npdvae.verify import costs, exact_gradient
from npdvae.verify.continuous import noise_moments
from npdvae.verify.second_argmax import argmax_moments, joint, transitions

EXACT = 1e-12                                                       # roundings of sums of a few dozen terms


def problem(kind="cubic", D=2, K=3, seed=0):
    return np.random.default_rng(seed).normal(size=(2, D, K)), costs.make(kind, seed + 1, 2, D, K)


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


@pytest.mark.parametrize("K", [2, 3, 5])
def test_second_winners_have_the_probabilities_of_the_shifted_logits(K):
    rng = np.random.default_rng(K)
    p, shift = rng.dirichlet(np.ones(K)), rng.normal(size=K)
    table = np.array([transitions(p, shift, i) for i in range(K)])  # [K, K]
    assert np.abs(p @ table - softmax(np.log(p) + shift)).max() <= EXACT
    assert (table >= -1e-15).all() and np.abs(table.sum(1) - 1).max() <= EXACT
    worse = shift[None] < shift[:, None]
    assert (table[worse] == 0).all()                                # no category that fell behind can win
    assert (transitions(p, 0 * shift, 0) == np.eye(K)[0]).all()


def test_joint_probabilities_are_the_integral_over_the_ratio_of_arrivals():
    p, shift = np.array([0.1, 0.3, 0.2, 0.4]), np.array([-1.0, 0.2, -0.4, 0.9])
    r = np.linspace(1, np.exp(1.9), 200_001)
    entering = np.maximum(1, r[:, None] * np.exp(shift - shift[3]))     # [N, K]
    expected = 0.1 * 0.4 * np.trapezoid(1 / (p * entering).sum(-1) ** 2, r)
    assert abs(joint(p, shift, 0, 3) - expected) <= 1e-9            # of the trapezoid rule


def test_far_shifts_are_certain():
    p, shift = np.array([0.2, 0.3, 0.5]), np.array([-1e3, 0.0, 1e3])
    assert np.abs(transitions(p, shift, 0) - [0, 0, 1]).max() <= EXACT
    assert np.abs(transitions(p, -shift, 1) - [1, 0, 0]).max() <= EXACT
    assert np.abs(transitions(p, np.array([0, 1e3, 1e3]), 0) - [0, 0.375, 0.625]).max() <= EXACT


@pytest.mark.parametrize("eps", [0.5, -0.7])
def test_direct_argmax_has_its_closed_mean_and_variance(eps):
    """E[z'_d | z] = softmax(phi_d + eps f(z_d := .)); with two categories only the better one can be entered."""
    logits, cost = problem(D=2, K=3)
    codes, p = all_codes(np, 2, 3), softmax(logits)                 # [C, D], [B, D, K]
    q = np.exp(codes_log_prob(backends.load("numpy"), logits, codes))    # [C, B]
    expected = 0
    for code, weight in zip(codes, q):
        for d in range(2):
            rows = np.where(np.arange(2) == d, np.arange(3)[:, None], code)[:, None]
            f = cost(rows).T                                        # [B, K]
            part = np.zeros_like(logits)
            part[:, d] = (softmax(logits[:, d] + eps * f) - p[:, d]) / eps
            expected = expected + weight[:, None, None] * part
    found = noise_moments(estimators.get("direct_argmax", eps=eps), logits, cost)
    assert np.abs(found.mean - expected).max() <= EXACT * found.scale.max() and found.error == 0
    assert found.nodes >= 9                                         # pairs of codes that are possible
    logits, cost = problem(D=1, K=2)
    found = noise_moments(estimators.get("direct_argmax", eps=eps), logits, cost)
    entered = np.abs(found.mean[:, 0, 0] * eps)                     # probability that the code changes
    variance = entered * (1 - entered) / eps ** 2
    assert np.abs(found.covariance[:, 0, 0] - variance).max() <= EXACT / eps ** 2
    assert np.abs(found.covariance[:, 0, 1] + variance).max() <= EXACT / eps ** 2


def distance(estimator, logits, cost):
    true, found = exact_gradient(logits, cost), noise_moments(estimator, logits, cost, cost.gradient)
    return np.linalg.norm(found.mean - true), np.trace(found.covariance, axis1=1, axis2=2).sum()


@pytest.mark.parametrize("name, option, kind", [("direct_argmax", "eps", "cubic"), ("imle", "lam", "multilinear")])
def test_bias_falls_with_the_size_of_the_move_and_variance_grows(name, option, kind):
    logits, cost = problem(kind)
    small, large = (distance(estimators.get(name, **{option: s}), logits, cost) for s in (5e-4, 1e-3))
    assert 1.9 < large[0] / small[0] < 2.1                          # the bias has an expansion in the size
    assert 1.9 < small[1] / large[1] < 2.1


def test_imle_keeps_a_bias_for_curved_costs():
    logits, cost = problem("quadratic")
    assert distance(estimators.get("imle", lam=1e-6), logits, cost)[0] > 0.05 * np.linalg.norm(
        exact_gradient(logits, cost))


def test_imle_of_linear_costs_is_direct_argmax_of_them_with_a_negative_size():
    """Within a latent a multilinear cost is linear, so only the rounding of argmaxes' arguments differs."""
    logits, cost = problem("multilinear")
    u = Generator(1).uniform((1, 2, 2, 3))
    one, other = estimators.get("imle", lam=0.4), estimators.get("direct_argmax", eps=-0.4)
    draws = [e.from_noise(logits, u) for e in (one, other)]
    assert (draws[0].codes[0] == draws[1].codes[0]).all()
    found, expected = (e.backward(d, cost(d.codes), cost.gradient(d.codes)) for e, d in zip((one, other), draws))
    assert (found == expected).all() and np.abs(found).max() > 0


def test_aimle_follows_the_scale_of_the_gradient():
    logits, cost = problem()
    estimator = estimators.get("aimle", samples=2, beta=0.7)
    draw = estimator.sample(logits, Generator(0))
    g = cost.gradient(draw.codes)
    found = estimator.backward(draw, None, g)
    for scale in (4, 2.0 ** -20):
        assert (estimator.backward(draw, None, scale * g) == scale * found).all() and found.any()
    one = estimators.get("aimle", beta=0.7)
    for s in range(2):                                              # norms are of one sample of one example
        alone = type(draw)(draw.codes[s:s + 1], logits, {k: v[s:s + 1] for k, v in draw.kept.items()})
        lam = 0.7 * np.sqrt((logits ** 2).sum((1, 2)) / (g[s] ** 2).sum((1, 2)))
        for b in range(2):
            fixed = estimators.get("imle", lam=float(lam[b])).backward(alone, None, g[s:s + 1])
            assert np.abs(one.backward(alone, None, g[s:s + 1])[b] - fixed[b]).max() <= EXACT * np.abs(g).max()


def test_aimle_without_gradient_or_logits_gives_zero_or_finite_estimates():
    logits, cost = problem()
    estimator = estimators.get("aimle")
    draw = estimator.sample(logits, Generator(0))
    assert not estimator.backward(draw, None, np.zeros((1, 2, 2, 3))).any()
    state = estimator.init(Generator(0), 2, 3)
    assert estimator.learn(draw, None, np.zeros((1, 2, 2, 3)), state)["log_beta"] == -1     # no code changes
    draw = estimator.sample(0 * logits, Generator(0))
    g = cost.gradient(draw.codes)
    fixed = [estimators.get("imle", lam=1 / np.linalg.norm(g[0, b])).backward(draw, None, g)[b] for b in range(2)]
    assert np.abs(estimator.backward(draw, None, g) - fixed).max() <= EXACT * np.abs(g).max()


def test_aimle_learns_the_strength_at_which_the_target_of_entries_changes():
    logits, cost = problem(D=3)
    estimator = estimators.get("aimle", samples=50, beta=3.0, target=0.6)
    state = estimator.init(Generator(0), 3, 3)
    assert state["log_beta"].shape == (1,) and abs(state["log_beta"][0] - np.log(3)) <= EXACT
    draw = estimator.sample(logits, Generator(0))
    g = cost.gradient(draw.codes)
    shift, _ = estimator.move(draw, None, g, state)
    moved = (logits + shift + draw.kept["gumbels"]).argmax(-1)
    expected = 2 * (moved != draw.codes).sum(-1).mean() - 0.6       # a change makes two entries
    found = estimator.learn(draw, None, g, state)["log_beta"]
    assert found.shape == (1,) and abs(found[0] - expected) <= EXACT and expected > 0
    for i in range(300):
        draw = estimator.sample(logits, Generator(i))
        state = {"log_beta": state["log_beta"] - 0.05 * estimator.learn(draw, None, cost.gradient(draw.codes),
                                                                        state)["log_beta"]}
    assert abs(estimator.learn(draw, None, cost.gradient(draw.codes), state)["log_beta"][0]) < 0.25


def test_the_state_of_the_estimator_sets_the_strength():
    logits, cost = problem()
    estimator, given = estimators.get("aimle"), estimators.get("aimle", beta=2.5)
    draw = estimator.sample(logits, Generator(0))
    g = cost.gradient(draw.codes)
    found = estimator.backward(draw, None, g, {"log_beta": np.log(np.full(1, 2.5))})
    assert np.abs(found - given.backward(draw, None, g)).max() <= EXACT * np.abs(g).max()


def test_the_rule_for_pairs_takes_the_state():
    logits, cost = problem()
    moved = argmax_moments(estimators.get("aimle"), logits, cost, cost.gradient, state={"log_beta": np.log([4.0])})
    given = argmax_moments(estimators.get("aimle", beta=4.0), logits, cost, cost.gradient)
    assert np.abs(moved.mean - given.mean).max() <= EXACT * given.scale.max()


@pytest.mark.parametrize(("name", "options", "message"), [
    ("imle", dict(samples=0), "samples >= 1"), ("imle", dict(lam=0.0), "lam > 0"),
    ("aimle", dict(samples=0), "samples >= 1"), ("aimle", dict(beta=0.0), "beta > 0"),
    ("aimle", dict(target=0.0), "target > 0"), ("direct_argmax", dict(eps=0.0), "eps that is not 0")])
def test_options_of_no_use_are_refused(name, options, message):
    with pytest.raises(ValueError, match=message):
        estimators.get(name, **options)
