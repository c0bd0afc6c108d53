"""What is known of an estimate before any sample, and on which problems it is judged. Share: 0.3 s."""
import itertools
from unittest import mock

import numpy as np
import pytest

from npdvae import estimators
from npdvae.estimators.rloo import RLOO
from npdvae.rng import Generator
from npdvae.verify import costs, exact_gradient
from npdvae.verify import problems as problems_module
from npdvae.verify.knowledge import analytic, by_quadrature, countable, declared, enumerated, spreads
from npdvae.verify.moments import enumerate_moments
from npdvae.verify.problems import enumerable_size, random_logits, random_problem
from npdvae.verify.quadrature import gumbel_moments

LOGITS = np.random.default_rng(1).normal(size=(2, 1, 3))
COST = costs.make("table", 2, 2, 1, 3)
TRUE = exact_gradient(LOGITS, COST)


def test_declared_bounds_are_of_the_estimate_and_known_ones_of_its_error():
    known = declared((-1.0, np.full(TRUE.shape, 3.0)), None, TRUE)
    assert known.method == "bounds declared" and known.sigma is None
    assert np.array_equal(known.low, (-1 - TRUE).ravel()) and np.array_equal(known.high, (3 - TRUE).ravel())
    both = declared((-1.0, 3.0), 4.0, TRUE)
    assert np.array_equal(both.sigma, np.full(6, 2.0)) and both.low is not None
    only = declared(None, np.full(TRUE.shape, 9.0), TRUE)
    assert only.method == "variance declared" and only.low is None and np.array_equal(only.sigma, np.full(6, 3.0))
    assert declared(None, None, TRUE) is None
    equal = declared((TRUE, TRUE), 0.0, TRUE)                       # an estimate that does not vary
    assert not equal.low.any() and not equal.high.any() and not equal.sigma.any()


@pytest.mark.parametrize("bounds, variance, message", [
    ((0, np.inf), None, "bounds must be finite"), ((0, np.zeros((2, 3))), None, "shape"), ((1, 0), None, "low <= high"),
    ((0, 1, 2), None, "3 entries"),
    (None, -1e-9, "finite and not negative"), (None, np.nan, "variance must be finite")])
def test_what_cannot_be_declared(bounds, variance, message):
    with pytest.raises(ValueError, match=message):
        declared(bounds, variance, TRUE)


def test_bounds_and_spreads_by_enumeration():
    estimator = RLOO(samples=2)
    found, known = enumerate_moments(estimator, LOGITS, COST), enumerated(estimator, LOGITS, COST, None, TRUE)
    assert known.method == "bounds enumerated"
    assert np.array_equal(known.low, (found.low - TRUE).ravel())
    assert np.array_equal(known.high, (found.high - TRUE).ravel())
    assert np.abs(known.sigma ** 2 - found.variance().ravel()).max() <= 1e-14
    t = TRUE.reshape(2, 3)
    each = [np.sqrt(t[b] @ found.covariance[b] @ t[b]) for b in range(2)]
    assert abs(known.sigma_shrink - sum(each) / (TRUE ** 2).sum()) <= 1e-14


def test_hundreds_of_outcomes_are_enumerated():
    logits, cost = np.zeros((1, 1, 4)), costs.make("table", 2, 1, 1, 4)
    known = enumerated(RLOO(samples=4), logits, cost, None, exact_gradient(logits, cost))      # 256
    assert known.method == "bounds enumerated"


def test_spreads_of_nothing_are_zero():
    with np.errstate(all="raise"):
        sigma, shrink = spreads(np.full((2, 3, 3), -1e-20), np.zeros((2, 1, 3)))
        assert not sigma.any() and shrink == 0                      # below zero by rounding
        sigma, shrink = spreads(np.stack([-1e-20 * np.eye(3)] * 2), TRUE)
        assert not sigma.any() and shrink == 0
    covariance = np.array([[[4.0, 1.0], [1.0, 1.0]]]) * 1e-6        # far below 1
    sigma, shrink = spreads(covariance, np.array([[[1e-3, 0.0]]]))
    assert np.abs(sigma - [2e-3, 1e-3]).max() <= 1e-18 and abs(shrink - 2e-6 / 1e-6) <= 1e-12


class Stateful(RLOO):
    """Reads its state and its context where it enumerates."""

    name = "stateful"

    def init(self, rng, latents, categories, context_size=0):
        return {"size": np.array([context_size])}

    def outcomes(self, logits, state=None, context=None):
        assert state["size"] == context.shape[1] and len(context) == len(logits)
        return super().outcomes(logits)


def test_an_estimator_is_enumerated_in_the_state_it_starts_from():
    assert enumerated(Stateful(samples=2), LOGITS, COST, None, TRUE).method == "bounds enumerated"


def test_counting_stops_one_beyond_the_most_that_is_enumerated():
    drawn = []

    class Counting(RLOO):
        def outcomes(self, logits, state=None, context=None):
            return (drawn.append(0) for _ in itertools.count())

    assert countable(RLOO(samples=2), LOGITS, None, None, most=9)   # 3^2 pairs of codes
    assert not countable(RLOO(samples=2), LOGITS, None, None, most=8)
    assert not countable(Counting(samples=2), LOGITS, None, None, most=5) and len(drawn) == 6
    assert not countable(estimators.get("gumbel_softmax"), LOGITS, None, None)


def test_bounds_of_an_estimator_are_asked_for_the_widest_range_of_costs():
    asked = []

    class Bounding(RLOO):
        def bounds(self, logits, cost_range):
            asked.append(cost_range)
            return np.full(logits.shape, -2.0), np.full(logits.shape, 5.0)

    apart = lambda codes: COST(codes) + [10, 0]                     # noqa: E731  of examples, not between them
    known = analytic(Bounding(samples=2), LOGITS, apart, TRUE)
    ranges = [np.ptp(COST.table[b]) for b in range(2)]
    assert ranges[0] != ranges[1] and abs(asked[0] - max(ranges)) <= 1e-14 and known.method == "bounds analytic"
    assert np.array_equal(known.low, (-2 - TRUE).ravel()) and np.array_equal(known.high, (5 - TRUE).ravel())
    endless = Bounding(samples=2)
    endless.outcomes = lambda *arguments: itertools.count()         # bounds are what is left
    assert enumerated(endless, LOGITS, COST, None, TRUE).method == "bounds analytic"


def test_spreads_by_quadrature_or_nothing():
    estimator, logits = estimators.get("gumbel_softmax"), LOGITS[..., :2]
    cost = costs.make("table", 2, 2, 1, 2)
    true = exact_gradient(logits, cost)
    found = gumbel_moments(estimator, logits, cost, cost.gradient)
    known = enumerated(estimator, logits, cost, cost.gradient, true)
    assert known.method == "variance by quadrature" and known.low is None
    assert np.array_equal(known.sigma, spreads(found.covariance, true)[0])
    assert by_quadrature(RLOO(samples=2), LOGITS, COST, None, TRUE, None, None) is None


@pytest.mark.parametrize("latents, categories, most, expected", [
    (3, 2, 64, (3, 2)), (3, 2, 63, (2, 2)), (2, 3, 9, (1, 3)), (1, 3, 8, (1, 2)), (1, 5, 16, (1, 4)), (1, 5, 9, (1, 3)),
    (2, 3, 4, (1, 2)), (2, 3, 3, None)])
def test_the_largest_size_that_can_be_gone_through(latents, categories, most, expected):
    """RLOO with two samples has K^(2 D) outcomes; latents are lowered first, then categories."""
    with mock.patch.object(problems_module, "MOST_OUTCOMES", most):
        assert enumerable_size(RLOO(samples=2), latents, categories) == expected


def test_sizes_are_tried_once_each_and_hundreds_of_outcomes_are_gone_through():
    tried = []

    class Noting(RLOO):
        def check(self, latents, categories):
            tried.append((latents, categories))

    with mock.patch.object(problems_module, "MOST_OUTCOMES", 1):
        assert enumerable_size(Noting(samples=2), 2, 4) is None
    assert tried == [(2, 4), (1, 4), (1, 3), (1, 2)]
    assert enumerable_size(RLOO(samples=3), 4, 3) == (2, 3)         # 729 outcomes; the next size has 19683


def test_a_problem_holds_two_examples_their_gradient_and_a_state_that_has_moved():
    estimator = estimators.get("reinforce", baseline="nvil", samples=2)
    p = random_problem(estimator, 2, 3, "decoder", 4)
    assert p.size == "2x3" and np.array_equal(p.logits, random_logits(2, 3, 4)) and len(p.logits) == 2
    assert np.array_equal(p.true, exact_gradient(p.logits, p.cost))
    start = estimator.init(Generator(1), 2, 3, p.context.shape[1])
    state, rng = start, Generator(4)
    for _ in range(20):                                             # steps of rate 0.01
        draw = estimator.sample(p.logits, rng, state, p.context)
        f = p.cost(draw.codes)
        moves = estimator.learn(draw, f, None, state)
        state = estimator.advance(draw, f, {**state, **{k: state[k] - 0.01 * moves[k] for k in moves}})
    assert moves and all(np.array_equal(state[k], p.state[k]) for k in state)
    assert all(not np.array_equal(p.state[k], start[k]) for k in moves)


def test_a_problem_knows_its_estimators_objective():
    for name, samples in (("vimco", 3), ("reinforce_sampled_kl", None)):
        estimator = estimators.get(name, **({"samples": samples} if samples else {}))
        p = random_problem(estimator, 1, 2, "table", 0)
        expected = exact_gradient(p.logits, p.cost, objective=estimator.objective, samples=samples)
        assert np.array_equal(p.true, expected)
        assert not np.allclose(p.true, exact_gradient(p.logits, p.cost))
