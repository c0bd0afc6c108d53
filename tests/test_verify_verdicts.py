"""The parts of check_unbiased on estimates made by hand: frames, verdicts, figures, what it asks for. Share: 0.5 s."""
import itertools
import math
from unittest import mock

import numpy as np
import pytest

from npdvae import estimators
from npdvae.estimators.rloo import RLOO
from npdvae.rng import Generator
from npdvae.verify import check_unbiased, costs, exact_gradient, sequential
from npdvae.verify.betting import detectable
from npdvae.verify.knowledge import Known
from npdvae.verify.sequential import Frame, framed, guess, impossible, interval_for, projection, run

TRUE = np.array([[[0.5, -2.0], [0.0, 1.5]]])                        # [1, 2, 2]
EPS = np.finfo(float).eps


def estimates(seed=0, size=8):
    """Endless blocks of estimates about TRUE: [size, 4]."""
    rng = np.random.default_rng(seed)
    while True:
        yield TRUE.ravel() + rng.choice([-1.0, 1.0], (size, 4)) * [0.1, 1.0, 2.0, 0.5]


def test_projection_is_the_share_of_the_true_gradient():
    x = np.array([[1.0, 2.0, 3.0, 4.0], TRUE.ravel()])
    assert np.abs(projection(x, TRUE) - [(0.5 - 4 + 6) / 6.5, 1]).max() <= 1e-15
    assert np.abs(projection(1e-3 * x, 1e-3 * TRUE) - projection(x, TRUE)).max() <= 1e-15
    with np.errstate(all="raise"):
        assert not projection(x, 0 * TRUE).any()


def test_without_a_bound_the_report_has_averages_and_standard_errors_of_eight_blocks():
    report, x = guess(estimates(), TRUE), np.concatenate(list(itertools.islice(estimates(), 8))) - TRUE.ravel()
    assert (report.verdict, report.method, report.samples, report.evidence) == ("INCONCLUSIVE", "none", 64, 0)
    assert report.detectable == math.inf and not report.guaranteed and "bounds=" in report.reason
    mean, margin = x.mean(0).reshape(TRUE.shape), (2.58 * x.std(0) / 8).reshape(TRUE.shape)    # 99 % of the normal law
    for got, expected in ((report.mean, TRUE + mean), (report.low, mean - margin), (report.high, mean + margin),
                          (report.sigma, x.std(0).reshape(TRUE.shape))):
        assert np.abs(got - expected).max() <= 1e-15
    along = x @ TRUE.ravel() / 6.5
    assert abs(report.shrink - 1 - along.mean()) <= 1e-15
    error = 2.58 * along.std() / 8
    assert np.abs(np.array(report.shrink_interval) - 1 - along.mean() - [-error, error]).max() <= 1e-15


def test_the_pilot_block_sets_scales_where_none_are_known():
    pilot = next(estimates(size=500))
    low, high = np.array([-1.0, -2, 0, 1]), np.array([1.0, 2, 0, 1])        # the last two do not vary
    frame = framed(Known("", low, high), TRUE, pilot)
    rounding = 64 * EPS * np.abs(pilot).max()
    assert frame.rounding == rounding and np.abs(pilot).max() > 2   # TRUE's largest entry
    assert np.array_equal(frame.sigma, pilot.std(0)) and frame.free.tolist() == [True, True, False, False]
    assert np.array_equal(frame.low, low - rounding) and np.array_equal(frame.high, high + rounding)
    told = framed(Known("", low, high, np.array([0.0, 1, 2, 3])), TRUE, pilot)
    assert told.sigma.tolist() == [rounding, 1, 2, 3]               # no bet is infinite
    unbounded = framed(Known("", sigma=np.array([0.0, rounding, 2 * rounding, 3])), TRUE, pilot)
    assert unbounded.low is unbounded.high is None and unbounded.free.tolist() == [False, False, True, True]
    edge = framed(Known("", np.zeros(4), np.array([0, rounding, 2 * rounding, 1])), TRUE, pilot)
    assert edge.free.tolist() == [False, False, True, True]


def test_rounding_is_that_of_the_estimates_type_and_of_the_largest_finite_number():
    small = framed(Known("", sigma=np.ones(4)), TRUE, np.full((3, 4), 0.25, np.float32))
    assert small.rounding == 64 * np.finfo(np.float32).eps * 2.0
    broken = np.array([[np.inf, 3.0, -7.0, np.nan]])
    assert framed(Known("", sigma=np.ones(4)), TRUE, broken).rounding == 64 * EPS * 7
    assert framed(Known("", sigma=np.ones(4)), TRUE, broken * np.nan).rounding == 64 * EPS * 2
    assert np.isfinite(framed(Known("", -np.ones(4), np.ones(4)), TRUE, broken).sigma).all()


def test_the_shrink_factors_interval_follows_from_those_of_the_entries():
    low, high, sigma = np.array([-1.0, -2, -3, -1]), np.array([2.0, 1, 3, 4]), np.array([1.0, 2, 3, 4])
    frame, t = Frame(sigma, low, high, np.ones(4, bool), 1e-13), TRUE.ravel()
    interval = interval_for(Known("", low, high), frame, TRUE)
    corners = [np.dot(c, t) / 6.5 for c in itertools.product(*zip(low, high))]
    assert np.array_equal(interval.low[:-1], low) and abs(interval.low[-1] - min(corners)) <= 1e-15
    assert abs(interval.width[-1] - (max(corners) - min(corners))) <= 1e-15
    shrink = (np.abs(t) * sigma).sum() / 6.5                        # however the entries depend on each other
    assert np.abs(interval.sigma * interval.width - [*sigma, shrink]).max() <= 1e-15
    known = interval_for(Known("", low, high, sigma_shrink=0.25), frame, TRUE)
    assert abs(known.sigma[-1] * known.width[-1] - 0.25) <= 1e-15
    wide = Frame(np.array([0.0, 0, 0, 4]), None, None, np.ones(4, bool), 1e-13)
    unbounded = interval_for(Known("", sigma=sigma), wide, TRUE)
    assert not unbounded.bounded and unbounded.sigma[:-1].tolist() == [1e-13, 1e-13, 1e-13, 4]
    with np.errstate(all="raise"):
        assert interval_for(Known("", low, high), frame, 0 * TRUE).width[-1] <= 1e-200
    small = interval_for(Known("", low, high), frame, 1e-3 * TRUE)
    assert abs(small.low[-1] - 1e3 * interval.low[-1]) <= 1e-10


FRAME = Frame(np.ones(4), np.array([-1.0, -1, -1, 0]), np.ones(4), np.array([True, True, True, False]), 0.01)


@pytest.mark.parametrize("row, verdict, word", [
    ([-1, 1, 1, 0.04], None, ""), ([0, np.nan, 0, 0], "FAIL", "not finite"), ([0, -np.inf, 0, 0], "FAIL", "not finite"),
    ([-1.001, 0, 0, 0], "INCONCLUSIVE", "outside"), ([0, 1.001, 0, 0], "INCONCLUSIVE", "outside"),
    ([0, 0, 0, 0.041], "FAIL", "does not vary")])
def test_what_no_unbiased_estimate_of_these_bounds_can_be(row, verdict, word):
    found = impossible(np.array([[0.0] * 4, row]), FRAME)
    assert found is None if verdict is None else found[0] == verdict and word in found[1]
    free = FRAME._replace(low=None, high=None)
    assert impossible(np.array([[5.0, 5, 5, 0.04]]), free) is None
    assert impossible(np.array([[5.0, 5, 5, -0.041]]), free)[0] == "FAIL"


def known_bounds():
    spread = np.array([0.1, 1.0, 2.0, 0.5])
    return Known("by hand", -spread, spread, spread)


def test_a_run_measures_all_blocks_but_the_pilot():
    blocks = estimates(1)
    pilot = np.full((8, 4), 100.0)
    report = run(itertools.chain([pilot], blocks), TRUE, known_bounds(), 1e-9, 1e-6, 0.03, 40)
    x = np.concatenate(list(itertools.islice(estimates(1), 5)))
    assert (report.verdict, report.samples, report.method) == ("INCONCLUSIVE", 40, "by hand")
    assert report.reason == "the budget of 40 samples is spent" and report.guaranteed
    assert np.abs(report.mean - x.mean(0).reshape(TRUE.shape)).max() <= 1e-14
    along = projection(x - TRUE.ravel(), TRUE)
    assert abs(report.shrink - 1 - along.mean()) <= 1e-14
    assert report.shrink_interval[0] < report.shrink < report.shrink_interval[1]
    assert (report.low <= report.bias).all() and (report.bias <= report.high).all()
    assert np.abs(report.sigma - [[[0.1, 1.0], [2.0, 0.5]]]).max() <= 1e-12
    assert report.detectable == detectable(40, 4, 1e-9)


@pytest.mark.parametrize("bounded", [True, False])
@pytest.mark.parametrize("shift, verdict", [(0.0, "PASS"), (0.5, "FAIL")])
def test_a_run_ends_at_the_first_verdict(bounded, shift, verdict):
    known = known_bounds()
    shifted = (block + shift * np.array([0, 0, 2.0, 0]) for block in estimates(2, 64))     # by that many sigma
    known = known._replace(high=known.high + [0, 0, 1, 0]) if bounded else known._replace(low=None, high=None)
    report = run(shifted, TRUE, known, 1e-9, 1e-6, 0.3, 2 ** 16)
    assert report.verdict == verdict and report.samples % 64 == 0 and 64 < report.samples < 2000
    assert report.reason == {
        "FAIL": "the estimate is biased (wrong with probability at most 1e-09)",
        "PASS": "no entry is off by 0.3 standard deviations (wrong with probability at most 1e-06)"}[verdict]
    assert (report.evidence >= 9) == (verdict == "FAIL")            # log10
    if verdict == "FAIL":
        assert report.evidence < 15 and report.largest() == (0, 1, 0)


def test_a_run_on_what_does_not_vary_needs_no_bet():
    fixed = itertools.repeat(np.repeat(TRUE.reshape(1, 4), 8, 0))
    report = run(fixed, TRUE, Known("by hand", np.zeros(4), np.zeros(4)), 1e-9, 1e-6, 0.03, 100)
    assert report.passed and report.samples == 8 and report.evidence == 0
    assert report.detectable == detectable(8, 1, 1e-9)


def test_a_run_stops_where_an_estimate_cannot_be():
    blocks = itertools.chain(itertools.islice(estimates(3), 3), [np.full((8, 4), np.nan)])
    report = run(blocks, TRUE, known_bounds(), 1e-9, 1e-6, 0.03, 1000)
    assert report.verdict == "FAIL" and "not finite" in report.reason and report.samples == 16      # pilot not counted


LOGITS = np.random.default_rng(1).normal(size=(1, 1, 3))
COST = costs.make("quadratic", 2, 1, 1, 3)


class Wider(RLOO):
    """Its outcomes are not all there are; `factor` is its bias."""

    factor = 1.0

    def backward(self, draw, cost, dcodes=None, state=None):
        return self.factor * super().backward(draw, cost) * draw.kept.get("wide", 1.0)

    def sample(self, logits, rng, state=None, context=None):
        draw = super().sample(logits, rng)
        draw.kept["wide"] = 1 + 0.1 * np.sign(rng.uniform((1, len(logits)))[0] - 0.5)[:, None, None]
        return draw


def test_two_tests_share_alpha_and_no_samples():
    streams = []

    def watched(seed, stream):
        streams.append((seed, stream))
        return Generator(seed, stream)

    wider = Wider(samples=2)
    wider.factor = 1.5
    with mock.patch.object(sequential, "Generator", watched):
        report = check_unbiased(wider, LOGITS, COST, seed=7)
    assert report.verdict == "FAIL" and report.method == "variance enumerated" and "5e-10" in report.reason
    assert [seed for seed, _ in streams] == [7, 7] and len(set(streams)) == 2
    enumerated = check_unbiased("straight_through", LOGITS, COST, COST.gradient)
    assert enumerated.method == "bounds enumerated" and "5e-10" in enumerated.reason
    declared = check_unbiased("straight_through", LOGITS, COST, COST.gradient, variance=100.0)
    assert declared.method == "variance declared" and declared.verdict == "FAIL" and "1e-09" in declared.reason


def test_the_objective_and_the_samples_are_the_estimators_own_unless_told():
    for name, options, told in (("vimco", {"samples": 3}, ("importance_weighted", 3)),
                                ("reinforce_sampled_kl", {}, ("sampled_kl", 1)), ("exact", {}, ("expectation", None))):
        estimator = estimators.get(name, **options)
        report = check_unbiased(estimator, LOGITS, COST, budget=1)
        assert np.array_equal(report.true, exact_gradient(LOGITS, COST, objective=told[0], samples=told[1]))
    mine = lambda logits, rng: 0 * logits                           # noqa: E731
    report = check_unbiased(mine, LOGITS, COST, objective="importance_weighted", samples=2)
    assert np.array_equal(report.true, exact_gradient(LOGITS, COST, objective="importance_weighted", samples=2))
    assert np.array_equal(check_unbiased(mine, LOGITS, COST).true, exact_gradient(LOGITS, COST))
    assert np.array_equal(check_unbiased("exact", LOGITS.tolist(), COST).true, exact_gradient(LOGITS, COST))
    given = check_unbiased(mine, LOGITS, None, true=2.5)
    assert given.true.shape == LOGITS.shape and (given.true == 2.5).all() and given.shrink == 0
