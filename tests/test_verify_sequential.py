"""check_unbiased: the bets are fair, the intervals hold, each verdict is reached where it should be. 12 s."""
import dataclasses

import numpy as np
import pytest

from npdvae import estimators
from npdvae.backends import load
from npdvae.estimators.rloo import RLOO
from npdvae.verify import check_unbiased, costs, exact_gradient, moments, sequential
from npdvae.verify.betting import Bounded, Spread, detectable
from npdvae.verify.interval import Interval
from npdvae.verify.knowledge import Known

OPS = load("numpy")
LOGITS = np.random.default_rng(1).normal(size=(1, 2, 3))
COST = costs.make("quadratic", 2, 1, 2, 3)


def two_points(seed, coordinates=6):
    """Values low < 0 < high, [N] each, and the probability of high that makes their mean zero."""
    noise = np.random.default_rng(seed)
    low, high = -noise.uniform(0.1, 3, coordinates), noise.uniform(0.1, 3, coordinates)
    return low, high, -low / (high - low)


def expected_growth(increments, p):
    """E exp(increment) over two outcomes: increments [2, *, N], p [N] of the second."""
    return (1 - p) * np.exp(increments[0]) + p * np.exp(increments[1])


@pytest.mark.parametrize("seed", range(5))
def test_wealth_against_zero_is_a_martingale(seed):
    low, high, p = two_points(seed)
    sigma = np.sqrt(-low * high)                                    # of the two points when their mean is zero
    x = np.stack([low, high])
    bounded = Bounded(low, high, sigma, 0.03 * sigma).against_zero(x)
    assert np.abs(expected_growth(bounded, p) - 1).max() <= 1e-14   # exactly fair
    spread = Spread(sigma, 0.03 * sigma).against_zero(x)
    growth = expected_growth(spread, p)
    assert growth.max() <= 1 + 1e-14
    assert growth.max() > 0.9                                       # small bets lose next to nothing


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("excess", [0.0, 0.5, 3.0])
def test_wealth_against_a_bias_never_grows_where_there_is_one(seed, excess):
    low, high, p = two_points(seed)
    sigma = np.sqrt(-low * high)
    delta = 0.05 * sigma
    mean = delta * (1 + excess)
    for side, sign in ((0, 1), (1, -1)):
        x = np.stack([low, high]) + sign * mean
        bounded = Bounded(low + sign * mean, high + sign * mean, sigma, delta).against_bias(x)
        assert expected_growth(bounded[:, side], p).max() <= 1 + 1e-14
        spread = Spread(sigma, delta).against_bias(x)
        assert expected_growth(spread[:, side], p).max() <= 1 + 1e-14


@pytest.mark.parametrize("bets", ["bounded", "spread"])
def test_wealth_grows_where_it_should(bets):
    """Mean zero: both bets against a bias grow; a mean of 0.1 sigma: so does the bet against zero."""
    low, high, p = two_points(3)
    sigma = np.sqrt(-low * high)
    make = (lambda shift: Bounded(low + shift, high + shift, sigma, 0.1 * sigma)) if bets == "bounded" else (
        lambda shift: Spread(sigma, 0.1 * sigma))
    x = np.stack([low, high])
    drift = (1 - p) * make(0).against_bias(x)[0] + p * make(0).against_bias(x)[1]
    assert (drift > 0.003).all()                                    # delta^2 / 2 = 0.005 for the best bet
    biased = make(0.1 * sigma).against_zero(x + 0.1 * sigma)
    drift = (1 - p) * biased[0] + p * biased[1]
    assert (drift.max(0) > 0.003).all()


def test_bounds_of_one_sign_still_make_safe_bets():
    low, high = np.array([0.5, -2.0]), np.array([1.0, -1.0])
    bets = Bounded(low, high, np.ones(2), np.full(2, 0.03))
    x = np.stack([low, high])
    assert np.isfinite(bets.against_zero(x)).all() and np.isfinite(bets.against_bias(x)).all()
    assert bets.against_zero(x).max(1).min() > 0                    # some bet wins on every value


@pytest.mark.parametrize("bounded", [True, False])
def test_interval_holds_at_all_times_and_narrows(bounded):
    noise = np.random.default_rng(5)
    low, high, p = two_points(4, 300)                               # 300 means at once, one interval each
    truth = low + (high - low) * p                                  # zero
    interval = Interval(np.sqrt(-low * high), *((low, high) if bounded else (None, None)), miss=0.3 * 300)
    missed, widths = np.zeros(300, bool), []
    for _ in range(30):
        x = np.where(noise.random((256, 300)) < p, high, low)
        interval.add(x)
        lower, upper = interval.ends()
        missed |= ~((lower <= truth) & (truth <= upper))
        widths.append(((upper - lower) / np.sqrt(-low * high)).max())
    assert missed.sum() <= 0.3 * 300                                # 0.3 of each is allowed, far fewer happen
    assert widths[-1] < 0.15 and widths[-1] < widths[3] / 2         # 2.4 sigma / sqrt(7680) = 0.03 would be ideal
    assert np.abs(interval.mean()).max() < 0.2


class WrongSampler(RLOO):
    """Enumerates softmax(logits) and draws from softmax(logits / 2)."""

    name = "wrong_sampler"

    def sample(self, logits, rng, state=None, context=None):
        return dataclasses.replace(super().sample(logits / 2, rng), logits=logits, kept={"p": OPS.softmax(logits)})


class NodesOnly(RLOO):
    """Its outcomes are not all there are: samples are a tenth wider or narrower."""

    name = "nodes_only"

    def backward(self, draw, cost, dcodes=None, state=None):
        return super().backward(draw, cost) * draw.kept.get("wide", 1.0)

    def sample(self, logits, rng, state=None, context=None):
        draw = super().sample(logits, rng)
        wide = 1 + 0.1 * np.sign(rng.uniform((1, len(logits)))[0] - 0.5)
        draw.kept["wide"] = wide[:, None, None]
        return draw


def self_mean(logits, generator, samples=4):
    """A baseline that is the mean of all samples, its own among them: shrinks by 1 - 1/samples."""
    p = OPS.softmax(logits)
    z = OPS.inverse_cdf(p, generator.uniform((samples, *logits.shape[:2])))     # [S, B, D]
    f = COST(z.reshape(-1, 1, 2)).reshape(z.shape[:2])
    return ((f - f.mean(0))[..., None, None] * (OPS.one_hot(z, 3, float) - p)).mean(0)


def leave_one_out(logits, generator, samples=4):
    return self_mean(logits, generator, samples) * samples / (samples - 1)


def test_unbiased_estimators_pass():
    report = check_unbiased(estimators.get("rloo", samples=2), LOGITS, COST)
    assert report.passed and report.method == "bounds enumerated"
    assert report.shrink_interval[0] < 1 < report.shrink_interval[1]
    assert ((report.low < 0) & (0 < report.high)).all()
    assert report.detectable < 0.04
    assert "PASS after" in str(report) and "shrink factor" in str(report)


def test_a_name_stands_for_the_registered_estimator():
    assert check_unbiased("exact", LOGITS, COST).passed             # does not vary at all


@pytest.mark.parametrize("known", [dict(bounds=(-40, 40)), dict(variance=60.0)])
def test_a_self_including_mean_fails_and_its_shrinkage_is_measured(known):
    report = check_unbiased(self_mean, LOGITS, COST, tile=256, **known)
    assert report.verdict == "FAIL"
    assert abs(report.shrink - 0.75) < 0.1 and report.shrink_interval[0] < 0.75 < report.shrink_interval[1] < 1
    assert report.direction < -0.8                                  # along the gradient, shortened
    assert report.evidence >= 9


def test_the_same_with_the_right_factor_passes():
    report = check_unbiased(leave_one_out, LOGITS, COST, tile=512, bounds=(-40, 40))
    assert report.passed, str(report)
    assert report.relative_bias < 0.1


def test_without_bounds_there_is_no_verdict():
    report = check_unbiased(self_mean, LOGITS, COST, tile=64)
    assert report.verdict == "INCONCLUSIVE" and not report.guaranteed
    assert "bounds=(low, high)" in report.reason and "variance=" in report.reason
    assert "no guarantee" in str(report)


def test_bounds_that_do_not_hold_give_no_verdict():
    report = check_unbiased(leave_one_out, LOGITS, COST, tile=64, bounds=(-0.5, 0.5))
    assert report.verdict == "INCONCLUSIVE" and "outside its bounds" in report.reason


def test_a_spent_budget_gives_no_verdict():
    report = check_unbiased(leave_one_out, LOGITS, COST, tile=64, bounds=(-40, 40), budget=1024)
    assert report.verdict == "INCONCLUSIVE" and "budget of 1024" in report.reason and report.samples == 1024


def test_right_outcomes_beside_a_wrong_sampler_fail():
    report = check_unbiased(WrongSampler(samples=2), LOGITS, COST)
    assert report.verdict == "FAIL"


def test_samples_beyond_the_enumerated_bounds_are_judged_by_the_variance():
    report = check_unbiased(NodesOnly(samples=2), LOGITS, COST)
    assert report.method == "variance enumerated" and report.passed


def test_values_that_are_not_finite_fail():
    report = check_unbiased(lambda logits, g: np.full(logits.shape, np.nan), LOGITS, COST, bounds=(-1, 1))
    assert report.verdict == "FAIL" and "not finite" in report.reason


@pytest.mark.parametrize("factor, verdict", [(1, "PASS"), (1 + 1e-5, "FAIL")])
@pytest.mark.parametrize("known", [dict(variance=0.0), dict(bounds=True)])
def test_an_estimate_that_does_not_vary_is_compared_as_it_is(factor, verdict, known):
    true = exact_gradient(LOGITS, COST)
    known = dict(bounds=(true * factor, true * factor)) if "bounds" in known else known
    report = check_unbiased(lambda logits, g: true * factor, LOGITS, COST, **known)
    assert report.verdict == verdict, str(report)


def test_an_estimate_that_might_vary_is_not_concluded_from_samples_that_do_not():
    """One in 1e9 samples might be at a bound; where that cannot be, bounds that are equal say so."""
    true, apart = exact_gradient(LOGITS, COST), np.zeros(LOGITS.shape)
    report = check_unbiased(lambda logits, g: true, LOGITS, COST, bounds=(-40, 40), budget=1024)
    assert report.verdict == "INCONCLUSIVE" and "an entry did not vary" in report.reason
    first = np.arange(true.size).reshape(true.shape) == 0           # one that varies, beside the others
    report = check_unbiased(lambda logits, g: true + first * (g.uniform(true.shape) - 0.5), LOGITS, COST,
                            bounds=(-40, 40), budget=1024)
    assert report.verdict == "INCONCLUSIVE" and "an entry did not vary" in report.reason
    apart[0, 0, 1] = 1
    report = check_unbiased(lambda logits, g: true, LOGITS, COST, bounds=(true - apart, true + apart), budget=1024)
    assert report.verdict == "INCONCLUSIVE" and "give bounds that are equal there" in report.reason
    report = check_unbiased(leave_one_out, LOGITS, COST, tile=64, bounds=(-40, 40), budget=1024)
    assert report.verdict == "INCONCLUSIVE" and report.reason == "the budget of 1024 samples is spent"
    assert check_unbiased(lambda logits, g: true, LOGITS, COST, bounds=(true, true)).passed


def test_entries_that_vary_are_judged_beside_one_that_does_not():
    true = exact_gradient(LOGITS, COST)
    low, high = np.full(LOGITS.shape, -40.0), np.full(LOGITS.shape, 40.0)
    low[0, 0, 1] = high[0, 0, 1] = true[0, 0, 1]

    def partly(logits, generator):
        return np.where(low < high, self_mean(logits, generator), true)

    report = check_unbiased(partly, LOGITS, COST, tile=256, bounds=(low, high))
    assert report.verdict == "FAIL" and "biased" in report.reason and report.evidence >= 9
    assert report.mean[0, 0, 1] == pytest.approx(true[0, 0, 1], rel=1e-12)


def test_rounding_is_64_units_in_the_last_place_of_the_largest_value():
    known = Known("variance declared", sigma=np.ones(2))
    for true, pilot, largest in (([0.01, -0.02], [[0.01, 0.005]], 0.02), ([0.01, 0.0], [[-0.03, np.inf]], 0.03)):
        frame = sequential.framed(known, np.array(true), np.array(pilot))
        assert frame.rounding == 64 * 2 ** -52 * largest


class Measured:
    """A wealth of 10^7 and an interval of two entries and the shrink factor, as a run of 1024 samples leaves them."""

    samples = 1024

    def evidence(self):
        return 7 * np.log(10)

    def mean(self):
        return np.array([0.1, -0.2, -0.25])

    def ends(self):
        return np.array([-0.3, -0.4, -0.5]), np.array([0.6, 0.7, -0.125])


@pytest.mark.parametrize("free", [(True, True), (True, False), (False, False)])
def test_the_report_says_what_was_measured(free):
    frame = sequential.Frame(np.array([1.0, 2.0]), None, None, np.array(free), 1e-14)
    true = np.array([[[3.0, 5.0]]])
    report = sequential.summary("FAIL", "why", "how", Measured(), Measured(), true, frame, 1e-9)
    assert (report.verdict, report.reason, report.method, report.samples) == ("FAIL", "why", "how", 1024)
    assert report.evidence == pytest.approx(7 if any(free) else 0, rel=1e-15)
    for found, expected in ((report.true, true), (report.mean, [[[3.1, 4.8]]]), (report.low, [[[-0.3, -0.4]]]),
                            (report.high, [[[0.6, 0.7]]]), (report.sigma, [[[1, 2]]])):
        assert np.array_equal(found, np.array(expected))
    assert report.shrink == 0.75 and report.shrink_interval == (0.5, 0.875)
    assert report.detectable == detectable(1024, max(sum(free), 1), 1e-9)


def test_estimates_in_single_precision_pass():
    single = lambda logits, g: leave_one_out(logits, g).astype(np.float32)      # noqa: E731
    assert check_unbiased(single, LOGITS, COST, tile=512, variance=25.0, delta=0.1).passed


def test_bounds_that_an_estimator_derives_are_used():
    logits, cost = np.random.default_rng(2).normal(size=(1, 1, 5)), costs.make("table", 3, 1, 1, 5)
    report = check_unbiased("arsm", logits, cost, delta=0.2)        # more categories than ARSM enumerates
    assert report.method == "bounds analytic" and report.passed, str(report)


def test_a_batch_that_is_coupled_is_not_tiled():
    calls = []

    class Coupled(RLOO):
        couples_batch = True

        def sample(self, logits, rng, state=None, context=None):
            calls.append(len(logits))
            return super().sample(logits, rng)

    report = check_unbiased(Coupled(samples=2), LOGITS, COST, delta=0.3)
    assert set(calls) == {1} and report.passed


def test_a_batch_of_different_examples_is_tiled_in_order():
    logits = np.random.default_rng(3).normal(size=(3, 2, 2))
    cost = costs.make("table", 4, 3, 2, 2)                          # another cost for each example
    assert check_unbiased(estimators.get("rloo", samples=2), logits, cost, delta=0.1).passed
    assert check_unbiased(estimators.get("straight_through"), logits, cost, cost.gradient, delta=0.1).passed


@pytest.mark.parametrize("arguments, message", [
    (dict(bounds=(1, 0)), "low <= high"),
    (dict(bounds=(0,)), "pair"),
    (dict(bounds=(np.zeros(3), 1)), "shape"),
    (dict(variance=-1.0), "not negative"),
    (dict(variance=np.nan), "finite"),
    (dict(bounds=3), r"pair \(low, high\), got 3"),
    (dict(alpha=2), "alpha must be a number between 0 and 1, got 2"), (dict(alpha=0), "alpha"),
    (dict(alpha=-1), "alpha"), (dict(alpha=np.nan), "alpha"),
    (dict(beta=3), "beta must be a number between 0 and 1, got 3"), (dict(beta=0), "beta"), (dict(beta="1e-6"), "beta"),
    (dict(delta=0), "delta must be a positive finite number, got 0"), (dict(delta=np.nan), "delta"),
    (dict(delta=np.inf), "delta"),
    (dict(tile=-1), "tile must be a whole number, at least 1, got -1"), (dict(tile=0), "tile"),
    (dict(tile=2.5), "tile"), (dict(samples=-1), "samples must be a whole number, at least 1, got -1"),
    (dict(budget=-5), "budget must be a number, at least 1, got -5"), (dict(budget=np.nan), "budget"),
    (dict(budget="x"), "budget must be a number, at least 1, got 'x'"),
    (dict(true=np.nan), "true: the gradient to compare with is not finite"),
    (dict(true=[1.0] * 5), r"true must be a number or an array of shape \(1, 2, 3\), got shape \(5,\)"),
])
def test_what_is_declared_is_checked(arguments, message):
    with pytest.raises(ValueError, match=message):
        check_unbiased(self_mean, LOGITS, COST, **arguments)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("check", [check_unbiased, moments, lambda _, *rest: exact_gradient(*rest)])
def test_logits_that_no_softmax_has_are_refused(check, value):
    logits = LOGITS.copy()
    logits[0, 1, 2] = value
    with pytest.raises(ValueError, match="^logits must be finite: some are NaN or infinite$"):
        check("rloo", logits, COST)


def test_a_category_that_is_never_drawn_is_allowed():
    logits = LOGITS.copy()
    logits[0, 1, 2] = -np.inf
    mean, _ = moments("rloo", logits, COST)
    assert np.abs(mean - exact_gradient(logits, COST)).max() <= 1e-14 * np.abs(mean).max()      # rounding, 64 terms
    logits[0, 1] = -np.inf
    with pytest.raises(ValueError, match="logits must be finite"):
        moments("rloo", logits, COST)


def test_a_cost_that_is_not_finite_accuses_no_estimator():
    with pytest.raises(ValueError, match="^cost_fn: the gradient to compare with is not finite$"):
        check_unbiased(self_mean, LOGITS, lambda codes: COST(codes) + np.nan, bounds=(-40, 40))


@pytest.mark.parametrize("check", [check_unbiased, moments])
def test_a_class_in_place_of_an_object_is_refused(check):
    with pytest.raises(ValueError, match=r"^estimator must be an object, got the class RLOO: give RLOO\(...\)$"):
        check(RLOO, LOGITS, COST)


def test_moments_takes_a_name_as_the_test_does():
    for found, expected in zip(moments("rloo", LOGITS, COST), moments(estimators.get("rloo"), LOGITS, COST)):
        assert np.array_equal(found, expected)
    with pytest.raises(ValueError, match="unknown estimator 'rlo'; did you mean rloo"):
        moments("rlo", LOGITS, COST)
    with pytest.raises(ValueError, match="^estimator must be registered or of a class that has outcomes, got <f"):
        moments(self_mean, LOGITS, COST)


def test_estimators_that_are_none_are_refused():
    with pytest.raises(ValueError, match="registered or a callable"):
        check_unbiased(3, LOGITS, COST)
    with pytest.raises(ValueError, match="returned shape"):
        check_unbiased(lambda logits, g: logits[0], LOGITS, COST, bounds=(-1, 1))


def test_the_same_seed_gives_the_same_report():
    first, second = (check_unbiased(self_mean, LOGITS, COST, tile=64, bounds=(-40, 40), seed=5) for _ in range(2))
    assert np.array_equal(first.mean, second.mean) and first.samples == second.samples
