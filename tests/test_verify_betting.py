"""The bets of the sequential test, one number at a time: how large they are, how they pay, the wealth. Share: 0.1 s."""
import math

import numpy as np
import pytest

from npdvae.verify.betting import FRACTIONS, Bounded, Spread, Wealth, catoni, detectable, log_mean_exp

LOW, HIGH = np.array([-2.0, -0.3, -1.0]), np.array([0.5, 4.0, 1.0])
SIGMA, DELTA = np.array([1.0, 0.7, 0.9]), np.array([0.03, 0.05, 0.2])


def wealth(log_increments):
    return np.exp(log_increments[0])


def test_bets_halve_from_half_of_all_down_to_a_thousandth():
    assert FRACTIONS[0] == 1 / 2 and FRACTIONS[-1] == 1 / 1024 and (FRACTIONS[:-1] == 2 * FRACTIONS[1:]).all()


def test_the_worst_outcome_costs_a_bounded_bet_its_fraction_of_the_wealth():
    bets = Bounded(LOW, HIGH, SIGMA, DELTA)
    J = len(FRACTIONS)
    at_low, at_high = (wealth(bets.against_zero(x[None])) for x in (LOW, HIGH))        # [2J, N]
    assert np.abs(at_low[:J] - (1 - FRACTIONS)[:, None]).max() <= 1e-15
    assert np.abs(at_high[J:] - (1 - FRACTIONS)[:, None]).max() <= 1e-15
    assert (at_high[:J] > 1).all() and (at_low[J:] > 1).all()


@pytest.mark.parametrize("sign", [1, -1])
def test_on_values_of_one_sign_a_bet_never_exceeds_a_thousand_over_the_range(sign):
    """There no bet could lose; without a limit it would be infinite."""
    bets = Bounded(*sorted((sign * np.array([0.5]), sign * np.array([4.5]))), np.ones(1), np.full(1, 0.03))
    gained = np.expm1(bets.against_zero(np.array([[sign * 2.0]])))[0, :, 0]            # lambda x
    J = len(FRACTIONS)
    safe, other = (gained[:J], gained[J:]) if sign > 0 else (gained[J:], gained[:J])
    assert np.abs(safe - 2.0 * FRACTIONS * 1000 / 4).max() <= 1e-9
    assert np.abs(other + 2.0 * FRACTIONS / 4.5).max() <= 1e-12


def test_the_bet_against_a_bias_is_the_best_to_second_order_where_the_bounds_allow_it():
    """E y - lambda E y^2 = 0 for y = delta - x, where x = +-sigma are as likely."""
    bets = Bounded(-2 * SIGMA, 2 * SIGMA, SIGMA, DELTA)
    for x in (0.3, -1.7):
        gained = np.expm1(bets.against_bias(np.full((1, 3), x)))[0]                    # [2, N]
        y = DELTA - np.stack([SIGMA, -SIGMA])
        best = y.mean(0) / (y ** 2).mean(0)
        assert np.abs(gained[0] - best * (DELTA - x)).max() <= 1e-13
        assert np.abs(gained[1] - best * (DELTA + x)).max() <= 1e-13


def test_else_no_outcome_costs_it_more_than_half():
    bets = Bounded(LOW, HIGH, SIGMA / 100, DELTA)
    assert np.abs(wealth(bets.against_bias(HIGH[None]))[0] - 0.5).max() <= 1e-15
    assert np.abs(wealth(bets.against_bias(LOW[None]))[1] - 0.5).max() <= 1e-15


@pytest.mark.parametrize("side", [0, 1])
def test_where_no_outcome_costs_it_anything_it_is_five_hundred_over_the_range(side):
    low, high, delta = np.array([-0.5]), np.array([2e-4]), np.array([5e-4])            # high < delta: never loses
    bets = Bounded(low, high, 0 * delta, delta) if side == 0 else Bounded(-high, -low, 0 * delta, delta)
    gained = np.expm1(bets.against_bias(np.zeros((1, 1))))[0, side, 0]
    assert abs(gained - 500 / 0.5002 * delta[0]) <= 1e-12


def influence(y):
    """Catoni's narrowest influence function, written for one number."""
    return math.log(1 + y + y * y / 2) if y > 0 else -math.log(1 - y + y * y / 2)


def test_catonis_function_is_odd_and_lies_between_its_two_logarithms():
    y = np.linspace(-5, 5, 41)
    assert np.abs(catoni(y) - [influence(v) for v in y]).max() <= 1e-15
    assert np.array_equal(catoni(y), -catoni(-y))
    assert (catoni(y) <= np.log(1 + y + y ** 2 / 2) + 1e-15).all()  # what makes the wealth a supermartingale


def test_unbounded_bets_pay_catoni_less_half_the_variance_they_risk():
    bets, x = Spread(SIGMA, DELTA), np.array([[0.4, -1.2, 3.0], [-2.0, 0.1, 0.0]])
    found, biased = bets.against_zero(x), bets.against_bias(x)
    for n, i in np.ndindex(x.shape):
        sizes = [2.0 ** -j / SIGMA[i] for j in range(10)]           # 1, 1/2, ... standard deviations
        for j, bet in enumerate([*sizes, *(-s for s in sizes)]):
            assert abs(found[n, j, i] - (influence(bet * x[n, i]) - (bet * SIGMA[i]) ** 2 / 2)) <= 1e-14
        bet = DELTA[i] / SIGMA[i] ** 2
        for side, sign in enumerate((-1, 1)):
            gain = influence(bet * (DELTA[i] + sign * x[n, i]))
            assert abs(biased[n, side, i] - (gain - (bet * SIGMA[i]) ** 2 / 2)) <= 1e-14


@pytest.mark.parametrize("bets", [Bounded(LOW, HIGH, SIGMA, DELTA), Spread(SIGMA, DELTA)], ids=["bounded", "spread"])
def test_wealth_multiplies_over_samples_and_is_averaged_over_bets(bets):
    x = np.random.default_rng(0).uniform(LOW, HIGH, (7, 3))
    held = Wealth(bets, 3)
    assert held.samples == 0 and held.evidence() == 0               # a wealth of one, nothing seen
    for block in (x[:2], x[2:3], x[3:]):
        held.add(block)
    assert held.samples == 7
    products = np.exp(bets.against_zero(x)).prod(0)                 # [2J, N]
    assert abs(math.exp(held.evidence()) / products.mean() - 1) <= 1e-13
    assert np.abs(np.exp(held.bias) / np.exp(bets.against_bias(x)).prod(0) - 1).max() <= 1e-13


def test_verdict_needs_all_bets_for_pass_and_their_mean_for_fail():
    wealth = Wealth(Bounded(-np.ones(2), np.ones(2), np.ones(2), np.full(2, 0.03)), 2)
    wealth.bias[:] = 20.0
    assert wealth.verdict(1e-9, 1e-6) == "PASS"
    wealth.bias[1, 1] = 13.0                                        # log 1e6 = 13.8
    assert wealth.verdict(1e-9, 1e-6) is None
    wealth.zero[3, 1] = np.log(1e9 * wealth.zero.size) + 0.01       # one bet, averaged over all
    assert wealth.verdict(1e-9, 1e-6) == "FAIL"
    wealth.zero[3, 1] -= 0.02
    assert wealth.verdict(1e-9, 1e-6) is None
    wealth.zero[:] = -np.log(1e-9)                                  # just enough, for either verdict
    assert wealth.verdict(1e-9, 1e-6) == "FAIL"
    wealth.zero[:], wealth.bias[:] = 0, -np.log(1e-6)
    assert wealth.verdict(1e-9, 1e-6) == "PASS"


def test_log_mean_exp_along_an_axis_and_far_from_zero():
    w = np.random.default_rng(1).normal(size=(4, 3))
    assert abs(log_mean_exp(w) - math.log(np.exp(w).mean())) <= 1e-15
    for axis in (0, 1):
        assert np.abs(log_mean_exp(w, axis) - np.log(np.exp(w).mean(axis))).max() <= 1e-15
    for shift in (-5000.0, 5000.0):
        assert abs(log_mean_exp(w + shift) - shift - log_mean_exp(w)) <= 1e-11
    assert log_mean_exp(np.array([-5000.0, 5000.0])) == 5000 - math.log(2)


def test_the_detectable_bias_is_the_one_whose_best_bet_alone_would_have_reached_the_limit():
    """A bias of d standard deviations grows the best of 2 J N bets by d^2 / 2 a sample, up to third order."""
    d = detectable(1000, 3, 1e-9)
    assert abs(math.exp(1000 * d ** 2 / 2) / (2 * 10 * 3) / 1e9 - 1) <= 1e-12
    assert detectable(0, 3, 1e-9) == math.inf
