"""exact_gradient and moments: against the complex step of enumerated objectives and against plain loops. 3 s."""
import itertools
from unittest import mock

import numpy as np
import pytest

from npdvae import estimators
from npdvae.backends import load
from npdvae.estimators.base import Draw
from npdvae.estimators.parts.outcomes import all_codes, codes_log_prob
from npdvae.estimators.rloo import RLOO
from npdvae.verify import costs, exact_gradient, moments
from npdvae.verify.enumeration import importance_costs
from npdvae.verify.moments import enumerate_moments


def problem(B=2, D=2, K=3, kind="cubic"):
    return np.random.default_rng(B + 10 * D + 100 * K).normal(size=(B, D, K)), costs.make(kind, 5, B, D, K)


def objective_value(name, logits, cost_fn, samples):
    """The objective itself, term by term: [B]."""
    codes = all_codes(np, *logits.shape[1:])
    log_q = codes_log_prob(load("numpy"), logits, codes)            # [C, B]
    cost = cost_fn(codes[:, None])
    total = 0
    for index in itertools.product(range(len(codes)), repeat=samples):
        index = list(index)
        q = np.exp(log_q[index].sum(0))
        if name == "expectation":
            total = total + q * cost[index[0]]
        elif name == "sampled_kl":
            total = total + q * (cost[index[0]] + log_q[index[0]])
        else:
            total = total - q * np.log(np.exp(-cost[index] - log_q[index]).mean(0))
    return total


@pytest.mark.parametrize("name, samples", [("expectation", 1), ("sampled_kl", 1), ("importance_weighted", 1),
                                           ("importance_weighted", 2), ("importance_weighted", 3)])
def test_exact_gradient_is_the_complex_step_of_the_enumerated_objective(name, samples):
    logits, cost = problem()
    small = lambda codes: cost(codes) / 4                           # noqa: E731  weights of comparable size
    gradient = exact_gradient(logits, small, objective=name, samples=samples)
    for d, k in np.ndindex(logits.shape[1:]):
        step = logits.astype(complex)
        step[:, d, k] += 1e-20j
        expected = objective_value(name, step, small, samples).imag / 1e-20
        assert np.abs(gradient[:, d, k] - expected).max() <= 1e-12 * np.abs(gradient).max()


def test_exact_gradient_does_not_see_a_constant_of_the_cost():
    logits, cost = problem(kind="table")
    shifted = exact_gradient(logits, lambda codes: cost(codes) + 1e6)
    gradient = exact_gradient(logits, cost)
    assert np.abs(gradient - shifted).max() <= 1e6 * 1e-15          # eps of the shifted costs, halved by rounding
    assert np.abs(gradient.sum(-1)).max() <= 1e-14
    whole = lambda codes: codes.sum(-1) ** 2.0                      # noqa: E731  so are these with the constant
    large = exact_gradient(logits, lambda codes: whole(codes) + 2 ** 40)
    assert np.abs(exact_gradient(logits, whole) - large).max() <= 1e-12


def test_exact_gradient_in_chunks_is_the_same():
    logits, cost = problem(kind="decoder")
    whole = exact_gradient(logits, cost)
    with mock.patch("npdvae.verify.enumeration.CHUNK", 4):
        assert np.array_equal(whole, exact_gradient(logits, cost))


def test_exact_gradient_is_in_double_precision_whatever_the_logits_are():
    logits, cost = problem()
    expected = exact_gradient(logits, cost)
    assert np.array_equal(exact_gradient(logits.tolist(), cost), expected)
    single = exact_gradient(logits.astype(np.float32), cost)
    assert single.dtype == np.float64
    assert np.array_equal(single, exact_gradient(logits.astype(np.float32).astype(np.float64), cost))


@pytest.mark.parametrize("samples", [1, 2, 3])
def test_importance_costs_are_the_mean_of_the_first_samples_term(samples):
    """samples E[L + w_1 / sum w] over the others, L = -log mean w: all tuples of the others one by one."""
    cost, log_q = np.random.default_rng(0).normal(size=(2, 4, 2))
    log_q -= np.log(np.exp(log_q).sum(0))                           # [C, B]
    w, expected = np.exp(-cost - log_q), np.zeros((4, 2))
    for others in itertools.product(range(4), repeat=samples - 1):
        for c, b in np.ndindex(4, 2):
            all_w = [w[c, b], *(w[o, b] for o in others)]
            q = np.prod([np.exp(log_q[o, b]) for o in others])
            expected[c, b] += samples * q * (-np.log(np.mean(all_w)) + w[c, b] / sum(all_w))
    assert np.abs(importance_costs(cost, log_q, samples) - expected).max() <= 1e-13


def test_exact_gradient_counts_what_it_would_enumerate():
    """2**13 codes are few enough for an expectation, their pairs are too many."""
    logits = np.zeros((1, 13, 2))
    assert not exact_gradient(logits, lambda codes: np.ones((len(codes), 1))).any()
    with pytest.raises(ValueError, match="67108864 codes or tuples of codes"):
        exact_gradient(logits, None, objective="importance_weighted", samples=2)
    with pytest.raises(ValueError, match="33554432 codes .*2 categories, 25 latents.*more than 16777216"):
        exact_gradient(np.zeros((1, 25, 2)), None)


@pytest.mark.parametrize("arguments, message", [
    (dict(objective="elbo"), "unknown objective 'elbo'"),
    (dict(objective="importance_weighted"), "needs samples >= 1"),
    (dict(objective="importance_weighted", samples=20), "more than"),
])
def test_exact_gradient_names_what_is_wrong(arguments, message):
    logits, cost = problem()
    with pytest.raises(ValueError, match=message):
        exact_gradient(logits, cost, **arguments)
    with pytest.raises(ValueError, match="shape"):
        exact_gradient(logits[0], cost)
    with pytest.raises(ValueError, match="expected \\[S, B\\]"):
        exact_gradient(logits, lambda codes: np.zeros(3))


def test_moments_are_those_of_a_plain_loop():
    logits, cost = problem()
    B, D, K = logits.shape
    p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    first, second, total = np.zeros((B, D * K)), np.zeros((B, D * K, D * K)), 0
    codes = list(itertools.product(range(K), repeat=D))
    for pair in itertools.product(codes, repeat=2):
        for b in range(B):
            f = [cost(np.array(code)[None, None])[0, b] for code in pair]
            z = [np.eye(K)[list(code)] for code in pair]
            probability = np.prod([p[b, d, code[d]] for code in pair for d in range(D)])
            g = ((f[0] - f[1]) * (z[0] - z[1]) / 2).ravel()         # RLOO of two samples in closed form
            first[b] += probability * g
            second[b] += probability * np.outer(g, g)
            total += probability
    mean, covariance = moments(estimators.get("rloo", samples=2), logits, cost)
    expected = second - first[:, :, None] * first[:, None, :]
    assert abs(total - B) <= 1e-12
    assert np.abs(mean.reshape(B, -1) - first).max() <= 1e-12 * np.abs(first).max()
    assert np.abs(covariance - expected).max() <= 1e-12 * np.abs(second).max()
    assert np.abs(mean - exact_gradient(logits, cost)).max() <= 1e-12 * np.abs(mean).max()


def test_moments_of_the_exact_estimator_have_no_variance():
    logits, cost = problem()
    found = enumerate_moments(estimators.get("exact"), logits, cost)
    assert np.abs(found.covariance).max() <= 1e-14 * np.abs(found.mean).max() ** 2
    assert np.abs(found.total - 1).max() <= 1e-15 and found.outcomes == 1
    assert np.abs(found.mean - exact_gradient(logits, cost)).max() <= 1e-13 * found.scale.max()


class Weighing(RLOO):
    """Outcomes of probability zero whose value is infinite."""

    def outcomes(self, logits, state=None, context=None):
        yield from super().outcomes(logits)
        yield np.zeros(len(logits)), Draw(np.zeros((2, 1, 2), int), logits, {"p": np.full(logits.shape, np.nan)})


def test_moments_leave_out_what_cannot_happen():
    logits, cost = problem()
    mean, _ = moments(Weighing(samples=2), logits, cost)
    assert np.abs(mean - exact_gradient(logits, cost)).max() <= 1e-12 * np.abs(mean).max()


class OneExampleAtATime(RLOO):
    """Each outcome twice, possible for one example only; for the other its value is not a number."""

    def outcomes(self, logits, state=None, context=None):
        for probability, draw in super().outcomes(logits):
            for b in range(2):
                only = np.arange(2) == b
                kept = np.where(only[:, None, None], draw.kept["p"], np.nan)
                yield probability * only, Draw(draw.codes, logits, {"p": kept})

    def backward(self, draw, cost, dcodes=None, state=None):
        return super().backward(draw, cost) + 0 * draw.kept["p"]


def test_moments_leave_out_what_cannot_happen_for_one_example():
    logits, cost = problem()
    expected, found = (enumerate_moments(cls(samples=2), logits, cost) for cls in (RLOO, OneExampleAtATime))
    for field in ("mean", "covariance", "low", "high", "total"):
        a, b = getattr(expected, field), getattr(found, field)
        assert np.abs(a - b).max() <= 1e-12 * np.abs(expected.high).max() ** 2, field


def test_moments_say_what_is_missing():
    logits, cost = problem()
    needing = estimators.get("rloo", samples=2)
    needing.needs_dcodes = True
    with pytest.raises(ValueError, match="rloo reads the gradient of the cost: give dcost_fn"):
        moments(needing, logits, cost)
    endless = estimators.get("rloo")
    endless.outcomes = lambda *arguments: None
    with pytest.raises(ValueError, match="no finite noise"):
        moments(endless, logits, cost)
