"""What npdvae.verify makes of moments and reports: figures by definition, verdicts at their edges. Share: 1 s."""
import dataclasses
from unittest import mock

import numpy as np
import pytest

from npdvae import estimators
from npdvae.estimators.parts.baselines import BASELINES
from npdvae.estimators.reinmax import ReinMax
from npdvae.estimators.rloo import RLOO
from npdvae.verify import claims, costs
from npdvae.verify.claims import Finding, exactly, judge, measure, promise, sequentially, variants
from npdvae.verify.moments import enumerate_moments
from npdvae.verify.problems import random_problem
from npdvae.verify.quadrature import Quadrature
from npdvae.verify.report import Report

HERE = "tests.test_verify_findings" if __name__.startswith("tests") else __name__
SHAPE = (2, 1, 2)                                                   # B, D, K


class AtMostTwo(RLOO):
    """Takes two samples, no more."""

    name = "at_most_two"

    def __init__(self, ops=None, samples=2):
        super().__init__(ops, samples)
        if samples > 2:
            raise ValueError(f"two samples, not {samples}")


class ExactForAny(RLOO):
    """Says the same as `unbiased` in the other words."""

    name = "exact_for_any"
    unbiased = False


class UnbiasedOnly(RLOO):
    """Says that it is unbiased and names no class of costs."""

    name = "unbiased_only"
    exact_for = None


@pytest.mark.parametrize("name, samples, expected", [
    ("exact", 3, [{}]), ("straight_through", 1, [{"samples": 1}]), ("straight_through", 3, [{"samples": 3}]),
    ("rloo", 1, [{"samples": 2}]), ("rloo", 2, [{"samples": 2}]), ("rloo", 3, [{"samples": 3}]),
    ("rebar", 3, [{"samples": 1}]), ("reinforce", 2, [{"samples": 2, "baseline": b} for b in sorted(BASELINES)]),
    (f"{HERE}:AtMostTwo", 3, [{"samples": 3}])])                    # what was asked for, so that the refusal is told
def test_variants_to_try(name, samples, expected):
    assert list(variants(name, samples)) == expected


def problem(estimator=None):
    return random_problem(estimator or RLOO(samples=2), *SHAPE[1:], "table", 0)


def moved(p, by=0.0, **changes):
    """Moments whose mean is off by so much, and other changes."""
    found = enumerate_moments(*p.arguments(), **p.setting())
    return found._replace(**{"mean": p.true + by, **changes})


def test_a_finding_holds_the_moments_figures_by_their_definition():
    p = problem()
    by = np.array([[[0.1, -0.3]], [[0.2, 0.0]]])
    found = moved(p, by, covariance=np.array([[[1.0, 5.0], [5.0, 2.0]], [[3.0, -7.0], [-7.0, 6.0]]]),
                  scale=np.array([[[0.5, 0.25]], [[0.1, 0.4]]]))
    got = exactly(p, found, "enumeration")
    assert abs(got.bias - 0.3 / 0.5) <= 1e-15                       # largest |bias| / largest E |dlogits|
    assert abs(got.relative_bias - np.sqrt(0.14 / (p.true ** 2).sum())) <= 1e-15
    assert got.variance == (3 + 9) / 2                              # traces, their mean over the examples
    assert not got.unbiased and not got.leaks and got.method == "enumeration" and got.size == "1x2"


def test_a_gradient_of_zero_is_no_division_by_zero():
    p = problem()._replace(true=np.zeros(SHAPE))
    zero = moved(p, scale=np.zeros(SHAPE), covariance=np.full((2, 2, 2), -1e-20))       # below zero by rounding
    got = exactly(p, zero, "enumeration")
    assert got.unbiased and got.bias == got.relative_bias == got.variance == 0
    tiny = exactly(p, moved(p, 1e-20, scale=np.full(SHAPE, 1e-19)), "enumeration")
    assert abs(tiny.bias - 0.1) <= 1e-15 and not tiny.unbiased
    small = exactly(p._replace(true=np.full(SHAPE, 1e-19)), moved(p, 1e-20), "enumeration")
    assert abs(small.relative_bias - 0.9) <= 1e-15


@pytest.mark.parametrize("method, bias, unbiased", [
    ("enumeration", 1e-12, True), ("enumeration", 1.1e-12, False), ("quadrature", 1e-8, True),
    ("quadrature", 1.1e-8, False)])
def test_what_counts_as_no_bias(method, bias, unbiased):
    p = problem()._replace(true=np.zeros(SHAPE))
    assert exactly(p, moved(p, bias, scale=np.ones(SHAPE)), method).unbiased == unbiased


def test_probabilities_must_sum_to_one_for_every_example():
    p = problem()
    for total in ([1.0, 0.5], [1.0, 1 + 1e-11]):
        got = exactly(p, moved(p, total=np.array(total)), "enumeration")
        assert not got.unbiased and "probabilities of outcomes() sum to 1" in got.note
    assert exactly(p, moved(p, total=np.array([1.0, 1 + 1e-13])), "enumeration").unbiased


def report(p, bias, sigma, verdict="PASS"):
    zero = np.zeros(SHAPE)
    return Report(verdict, "because", "none", 7, 0.0, p.true, p.true + bias, zero, zero, sigma, 1.0, (1.0, 1.0), 0.1)


def test_a_finding_of_the_sequential_test_says_the_same_in_its_words():
    p = problem()._replace(true=np.array([[[0.5, -2.0]], [[0.1, 0.0]]]))
    bias, sigma = np.array([[[0.1, -0.3]], [[0.2, 0.0]]]), np.array([[[1.0, 2.0]], [[3.0, 4.0]]])
    with mock.patch.object(claims, "check_unbiased", lambda *a, **k: report(p, bias, sigma)):
        got = sequentially(p, 0)
    assert abs(got.bias - 0.3 / 2) <= 1e-15
    assert abs(got.relative_bias - np.sqrt(0.14 / 4.26)) <= 1e-15
    assert got.variance == (1 + 4 + 9 + 16) / 2                     # of the batch's examples, their mean
    assert got.unbiased and got.method == "sequential" and got.note == "PASS: because" and not got.leaks


def finding(bias, leaks=False, size="2x3"):
    return Finding(bias, bias, 3.0, "enumeration", bias <= 1e-12, size, "a note", leaks)


@pytest.mark.parametrize("estimator, claim, bias, verdict", [
    ("rloo", "unbiased", 0.0, "holds"), ("rloo", "unbiased", 0.5, "BROKEN"),
    (f"{HERE}:ExactForAny", "exact: any", 0.0, "holds"), (f"{HERE}:UnbiasedOnly", "unbiased", 0.0, "holds"),
    ("arm", "unbiased", 0.0, "holds"), ("gumbel_softmax", "-", 0.5, "no claim"),
    ("reinmax", "exact: quadratic", 0.5, "promised")])
def test_a_row_says_what_is_claimed_and_whether_it_holds(estimator, claim, bias, verdict):
    def found(measured, latents, categories, kind, seed):
        assert (latents, categories, kind, seed) == (2, 2 if estimator == "arm" else 3, "table", 0)    # arm is binary
        return finding(bias)

    with mock.patch.object(claims, "measure", found), \
            mock.patch.object(claims, "promise", lambda *a: ("promised", "by its class")):
        row = judge(estimator, {}, 2, 3, "table", 0)
    assert (row.estimator, row.claim, row.verdict, row.size, row.bias) == (estimator, claim, verdict, "2x3", bias)
    assert row.note == ("by its class" if verdict == "promised" else "a note")
    assert row.evaluations == estimators.get(estimator).evaluations(2, 3)
    assert row.variance_times_evaluations == 3.0 * row.evaluations


def test_a_row_names_the_baseline_and_a_leak():
    with mock.patch.object(claims, "measure", lambda *a: finding(0.0, leaks=True)):
        row = judge("reinforce", {"baseline": "nvil", "samples": 3}, 2, 3, "table", 0)
        assert row.estimator == "reinforce (nvil)" and row.verdict == "BROKEN" and "other examples" in row.note
        coupled = judge("reinforce", {"baseline": "batch_leave_one_out"}, 2, 3, "table", 0)
        assert coupled.verdict == "holds"                           # it says that it reads them


@pytest.mark.parametrize("biases, verdict, words", [
    ((0, 2e-13, 0.5, 1e-13, 0.25), "holds", "bias 2.0e-13 within quadratic costs, up to 0.5 outside"),
    ((0, 0, 2e-6, 0, 0), "holds", "bias 0.0e+00 within quadratic costs, up to 2e-06 outside"),
    ((0, 0, 1e-6, 0, 0), "BROKEN", "claims too little: bias 1.0e-06 outside quadratic costs"),
    ((0, 1e-3, 0.5, 0, 0.5), "BROKEN", "bias 1.0e-03 on a quadratic cost"),
    ((0, 0, 0.5, 1e-3, 0.5), "BROKEN", "bias 1.0e-03 on a table cost")])
def test_a_promise_is_kept_within_its_class_and_broken_visibly_outside(biases, verdict, words):
    found = {kind: finding(bias) for kind, bias in zip(costs.KINDS, biases)}
    with mock.patch.object(claims, "measure", lambda e, D, K, kind, seed: found[kind]):
        assert promise(ReinMax(), 2, 3, 0) == (verdict, words)


def test_where_quadrature_has_too_many_nodes_one_latent_of_three_categories_is_judged():
    calls = []

    def moments(estimator, logits, *arguments, **setting):
        calls.append(logits.shape)
        if len(calls) % 2:
            raise ValueError("too many nodes")
        zero = np.zeros(logits.shape)
        n = zero[0].size
        return Quadrature(zero, np.zeros((2, n, n)), zero + 1, 0.0, 1)

    with mock.patch.object(claims, "noise_moments", moments):
        sizes = [measure(estimators.get("gumbel_softmax"), 3, K, "table", 0).size for K in (5, 2)]
    assert sizes == ["1x3", "1x2"] and calls == [(2, 3, 5), (2, 1, 3), (2, 3, 2), (2, 1, 2)]


def test_the_sharpest_method_that_applies_is_taken():
    p = random_problem(RLOO(samples=2), 1, 2, "table", 0)
    silent = RLOO(samples=2)
    silent.outcomes = lambda *arguments: None
    assert measure(RLOO(samples=2), 1, 2, "table", 0).method == "enumeration"
    assert measure(estimators.get("gumbel_softmax"), 1, 2, "table", 0).method == "quadrature"
    with mock.patch.object(claims, "check_unbiased", lambda *a, **k: report(p, 0.0, np.ones(SHAPE))):
        assert measure(silent, 1, 2, "table", 0).method == "sequential"
    zero = np.zeros(SHAPE)                                          # quadrature has no probabilities to sum
    assert exactly(p, Quadrature(p.true, np.zeros((2, 2, 2)), zero + 1, 0.0, 1), "quadrature").unbiased


def some_report(**changes):
    true = np.array([[[1.0, 2.0], [-2.0, 0.0]]])
    bias = np.array([[[-0.5, 0.1], [1.0, 0.0]]])
    sigma = np.array([[[1.0, 0.1], [4.0, 0.0]]])
    fields = dict(verdict="FAIL", reason="of this", method="by that", samples=1024, evidence=9.25, true=true,
                  mean=true + bias, low=bias - 0.25, high=bias + 0.5, sigma=sigma, shrink=0.75,
                  shrink_interval=(0.5, 0.875), detectable=0.125)
    return Report(**{**fields, **changes})


def test_a_report_derives_its_figures_from_the_mean():
    r = some_report()
    assert not r.passed and some_report(verdict="PASS").passed
    assert np.abs(r.bias - [[[-0.5, 0.1], [1.0, 0.0]]]).max() <= 1e-15
    assert abs(r.relative_bias - np.sqrt(1.26) / 3) <= 1e-15
    assert abs(r.direction - (-0.5 + 0.2 - 2.0) / (np.sqrt(1.26) * 3)) <= 1e-15
    assert r.largest() == (0, 0, 1)                                 # one standard error, the others less
    assert some_report(mean=2 * r.true - r.mean).largest() == (0, 0, 1)     # of either sign
    small = some_report(true=1e-3 * r.true, mean=1e-3 * r.mean)
    assert abs(small.direction - r.direction) <= 1e-15


def test_a_report_with_nothing_to_compare_has_no_direction():
    zero = np.zeros((1, 2, 2))
    with np.errstate(all="raise"):
        assert np.isnan(some_report(true=zero).relative_bias) and np.isnan(some_report(true=zero).direction)
        assert np.isnan(some_report(mean=some_report().true).direction)
    assert some_report(mean=zero).direction == -1


def test_the_largest_bias_of_entries_that_hardly_vary_is_measured_against_rounding():
    """Entry (0, 1, 1) does not vary and is off by 1e-13, less than the 2e-12 that its neighbours' rounding allows."""
    mean = some_report().mean + np.array([[[0, 0], [0, 1e-13]]])
    assert some_report(mean=mean).largest() == (0, 0, 1)
    assert some_report(mean=mean + np.array([[[0, 0], [0, 1e-11]]])).largest() == (0, 1, 1)
    r = some_report(true=1e6 * some_report().true, sigma=1e6 * some_report().sigma)
    assert some_report(true=r.true, sigma=r.sigma, mean=1e6 * some_report().mean + [[[0, 0], [0, 1e-7]]]).largest() == (
        0, 0, 1)
    true, sigma = np.array([[[-1e6, -2e6], [-2e6, 0]]]), np.array([[[1e-3, 1], [1, 0]]])
    assert some_report(true=true, sigma=sigma, mean=true + [[[2e-3, 0], [0, 1e-7]]]).largest() == (0, 0, 0)
    zero = np.zeros((1, 2, 2))
    with np.errstate(all="raise"):
        assert some_report(true=zero, mean=zero, sigma=zero).largest() == (0, 0, 0)
    off = np.array([[[0, 0], [1e-320, 0]]])
    assert some_report(true=zero, mean=off, sigma=zero).largest() == (0, 1, 0)


def test_a_report_in_words():
    lines = str(some_report()).splitlines()
    assert lines == [
        "FAIL after 1024 samples: of this", "  method              by that", "  evidence of bias    E = 10^9.2",
        "  shrink factor       0.7500  [0.5000, 0.8750], 99 % interval; 1 when unbiased",
        "  estimated bias      0.374 of the gradient, cosine with it -0.68",
        "  largest at (0, 0, 1)  +0.1  [-0.15, +0.6]; gradient +2",
        "  would have seen     0.125 standard deviations, at most 0.5"]
    assert "by the normal law, no guarantee" in str(some_report(guaranteed=False))
    assert "would have seen" not in str(some_report(guaranteed=False))
    assert "would have seen" not in str(some_report(detectable=np.inf))
    assert len(str(some_report(samples=0)).splitlines()) == 4       # nothing estimated yet
    assert "shrink factor" in str(some_report(samples=1))
    assert some_report().guaranteed and dataclasses.is_dataclass(some_report())
