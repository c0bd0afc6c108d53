"""Confidence sequences against a loop over the samples, and where they end before the first sample. Share: 0.1 s."""
import math

import numpy as np
import pytest

from npdvae.verify.interval import Interval

LOW, HIGH, SIGMA = np.array([-2.0, 0.5, -1.0]), np.array([1.0, 4.0, 1.0]), np.array([0.8, 1.5, 0.05])
MISS = 0.05


def blocks():
    x = np.random.default_rng(2).uniform(LOW, HIGH, (300, 3))
    return x[:40], x[40:41], x[41:]


def bets_of(blocks, sigma):
    """The bet on every sample of one entry, n counted to the end of its block.

    sqrt(2 log(2 N / miss) / (sigma^2 n log(1 + n))).
    """
    seen = 0
    for block in blocks:
        seen += len(block)
        yield from [math.sqrt(2 * math.log(2 * 3 / MISS) / (sigma ** 2 * seen * math.log(1 + seen)))] * len(block)


def test_bounded_interval_is_the_empirical_bernstein_sequence():
    """Waudby-Smith & Ramdas 2024, theorem 2: (sum bet y +- (log(2 / miss) + sum psi(bet) (y - y')^2)) / sum bet.

    y in [0, 1]; y' is the mean of the blocks before, 1/2 at first; psi(b) = -log(1 - b) - b; bets at most 1/2.
    """
    interval = Interval(SIGMA, LOW, HIGH, miss=MISS)
    for block in blocks():
        interval.add(block)
    low, high = interval.ends()
    for i in range(3):
        width, centre, ys = HIGH[i] - LOW[i], 0.5, []
        bets = iter(min(bet, 0.5) for bet in bets_of(blocks(), SIGMA[i] / width))
        top = bottom = cost = 0.0
        for block in blocks():
            for x in block[:, i]:
                bet, y = next(bets), (x - LOW[i]) / width
                top, bottom = top + bet * y, bottom + bet
                cost += (-math.log(1 - bet) - bet) * (y - centre) ** 2
                ys.append(y)
            centre = sum(ys) / len(ys)
        margin = (math.log(2 * 3 / MISS) + cost) / bottom
        assert abs(low[i] - (LOW[i] + width * max(top / bottom - margin, 0))) <= 1e-13
        assert abs(high[i] - (LOW[i] + width * min(top / bottom + margin, 1))) <= 1e-13
    assert LOW[0] < low[0] < high[0] < HIGH[0]                      # an end that is not cut off, and one that is:
    few = Interval(SIGMA, LOW, HIGH, miss=MISS)
    few.add(blocks()[1])
    assert np.array_equal(few.ends(), [LOW, HIGH])


def test_unbounded_ends_are_where_the_wealth_of_all_blocks_reaches_the_limit():
    """Wang & Ramdas 2023, section 4: the bets on x - m reach log(2 N / miss) at the lower end m, those on m - x above.

    They pay sum bet (x - m) - bet^2 ((x - m)^2 + 2 sigma^2) / 6.
    """
    interval = Interval(SIGMA, miss=MISS)
    for block in blocks():
        interval.add(block)
    x = np.concatenate(blocks())
    bets = np.stack([list(bets_of(blocks(), sigma)) for sigma in SIGMA], 1)        # [n, N]

    def paid(m, sign):
        return (bets * sign * (x - m) - bets ** 2 * ((x - m) ** 2 + 2 * SIGMA ** 2) / 6).sum(0)

    for end, sign in zip(interval.ends(), (1, -1)):
        assert np.abs(paid(end, sign) - math.log(2 * 3 / MISS)).max() <= 1e-10
        assert (paid(end - sign * 1e-3, sign) > paid(end, sign)).all()      # beyond it they pay more


@pytest.mark.parametrize("need, reached", [(4.0, True), (4.5, False)])
def test_without_bounds_an_end_is_finite_as_soon_as_the_bets_can_pay_enough(need, reached):
    """The bets on 4 samples of 0 pay 4 (3/2 - bet^2 / 3) at most, bet^2 = need / (2 log 5): enough up to need 4.24."""
    interval = Interval(np.ones(1), miss=2 * math.exp(-need))
    with np.errstate(all="raise"):
        interval.add(np.zeros((4, 1)))
        low, high = interval.ends()
    assert np.isfinite(low) == np.isfinite(high) == reached and low == -high < 0


@pytest.mark.parametrize("bounded", [True, False])
def test_interval_scales_with_its_samples(bounded):
    ends = []
    for scale in (1, 1000):
        interval = Interval(scale * SIGMA, *((scale * LOW, scale * HIGH) if bounded else ()), miss=MISS)
        for block in blocks():
            interval.add(scale * block)
        ends.append(np.stack(interval.ends()) / scale)
    assert np.abs(ends[0] - ends[1]).max() <= 1e-12


@pytest.mark.parametrize("bounds", [(LOW, HIGH), (None, None)])
def test_mean_is_that_of_all_samples_and_nothing_is_known_before_the_first(bounds):
    interval = Interval(SIGMA, *bounds)
    assert (interval.ends()[0] == -np.inf).all() and (interval.ends()[1] == np.inf).all()
    assert np.isfinite(interval.mean()).all()
    interval.add(blocks()[1])
    assert np.abs(interval.mean() - blocks()[1][0]).max() <= 1e-15
    interval = Interval(SIGMA, *bounds)
    for block in blocks():
        interval.add(block)
    assert interval.samples == 300 and np.abs(interval.mean() - np.concatenate(blocks()).mean(0)).max() <= 1e-13


def test_an_entry_that_does_not_vary_has_an_interval_of_no_width():
    fixed = np.array([0.7, -3.0])
    interval = Interval(np.zeros(2), fixed, fixed)
    with np.errstate(all="raise"):
        interval.add(np.stack([fixed] * 5))
        low, high = interval.ends()
    assert np.array_equal(low, fixed) and np.array_equal(high, fixed) and np.array_equal(interval.mean(), fixed)


def test_miss_is_one_in_a_hundred_unless_told():
    given, default = Interval(SIGMA, LOW, HIGH, miss=0.01), Interval(SIGMA, LOW, HIGH)
    for interval in (given, default):
        interval.add(blocks()[2])
    assert np.array_equal(given.ends(), default.ends())
