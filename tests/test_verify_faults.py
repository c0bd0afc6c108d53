"""Faults that published code has shipped, planted in test doubles: npdvae.verify catches each one. 5 s."""
import numpy as np
import pytest

from npdvae import estimators
from npdvae.estimators import carms as carms_module
from npdvae.estimators import rebar as rebar_module
from npdvae.estimators import relax as relax_module
from npdvae.estimators.carms import CARMS
from npdvae.estimators.disarm import DisARM
from npdvae.estimators.gr_mc import GRMC
from npdvae.estimators.parts.gumbel_noise import conditional_gumbels
from npdvae.estimators.reinforce import Reinforce
from npdvae.estimators.reinmax import ReinMax
from npdvae.estimators.rloo import RLOO
from npdvae.verify import check_unbiased, costs, exact_gradient, moments
from npdvae.verify.claims import judge, promise
from npdvae.verify.quadrature import gumbel_moments
from npdvae.verify.sampling import leaks


def problem(B=1, D=2, K=3, kind="decoder"):
    logits = np.random.default_rng(11).normal(size=(B, D, K))
    cost = costs.make(kind, 12, B, D, K)
    return logits, cost, exact_gradient(logits, cost)



class EagerMean(Reinforce):
    """storchastic: the running mean takes in the current cost before it is used."""

    def backward(self, draw, cost, dcodes=None, state=None):
        return super().backward(draw, cost, dcodes, self.advance(draw, cost, state))


def test_a_running_mean_that_includes_the_current_cost_is_caught():
    logits, cost, true = problem()
    eager, honest = EagerMean(baseline="running_mean"), Reinforce(baseline="running_mean")
    state = {"cost_sum": np.array([0.4]), "weight_sum": np.array([0.1])}
    assert np.abs(moments(honest, logits, cost, state=state)[0] - true).max() <= 1e-12
    mean, _ = moments(eager, logits, cost, state=state)
    expected = 1 - 0.05 / (0.95 * 0.1 + 0.05)                       # the current cost's own share of the mean
    assert np.abs(mean - expected * true).max() <= 1e-12


class SelfMean(Reinforce):
    """A batch mean that includes its own cost."""

    def backward(self, draw, cost, dcodes=None, state=None):
        z = self.ops.one_hot(draw.codes, draw.logits.shape[-1], cost.dtype)
        return ((cost - cost.mean())[..., None, None] * (z - draw.kept["p"])).mean(0)


@pytest.mark.parametrize("B, S", [(1, 2), (2, 1), (2, 2)])
def test_a_batch_mean_that_includes_its_own_cost_is_caught(B, S):
    """Enumerated for the batch as a whole, so that a fault of 1/B shows as well as one of 1/S."""
    logits, cost, true = problem(B, 1)
    wrong, right = (cls(baseline="batch_leave_one_out", samples=S) for cls in (SelfMean, Reinforce))
    assert np.abs(moments(right, logits, cost)[0] - true).max() <= 1e-12
    mean, _ = moments(wrong, logits, cost)
    assert np.abs(mean - (1 - 1 / (S * B)) * true).max() <= 1e-12


class LogitsTwice(GRMC):
    """SynJax: Gumbel-Rao that adds the logits to noise which holds them already."""

    def backward(self, draw, cost, dcodes=None, state=None):
        log_p, tau = self.ops.log_softmax(draw.logits), draw.kept["tau"]
        noisy = conditional_gumbels(self.ops, log_p, draw.codes, draw.kept["v"])
        y = self.ops.softmax((noisy + log_p[..., None, :]) / tau)
        return (self.ops.softmax_backward(dcodes[..., None, :], y).mean(-2) / tau).mean(0)


def test_gumbel_rao_with_the_logits_twice_is_caught():
    logits, cost, _ = problem(1, 1, 2)
    plain, right, wrong = (gumbel_moments(e, logits, cost, cost.gradient) for e in (
        estimators.get("straight_through_gumbel"), GRMC(conditional_draws=2), LogitsTwice(conditional_draws=2)))
    assert np.abs(right.mean - plain.mean).max() <= 1e-10 * plain.scale.max()
    assert np.abs(wrong.mean - plain.mean).max() > 1e-2 * plain.scale.max()


@pytest.mark.parametrize("module, name", [(rebar_module, "rebar"), (relax_module, "relax")])
def test_conditional_gumbels_without_their_gradient_are_caught(module, name, monkeypatch):
    assert judge(name, {}, 1, 2, "decoder", 2).verdict == "holds"
    backward = module.conditional_gumbels_backward
    monkeypatch.setattr(module, "conditional_gumbels_backward", lambda *arguments: 0 * backward(*arguments))
    row = judge(name, {}, 1, 2, "decoder", 2)
    assert row.verdict == "BROKEN" and row.method == "quadrature" and row.bias > 1e-4


def test_a_clipped_importance_ratio_is_caught(monkeypatch):
    logits, cost, true = problem()
    ratio = carms_module.copula.pair_ratio
    assert np.abs(moments(CARMS(samples=2), logits, cost)[0] - true).max() <= 1e-12
    monkeypatch.setattr(carms_module.copula, "pair_ratio", lambda *arguments: np.maximum(ratio(*arguments), 0.8))
    mean, _ = moments(CARMS(samples=2), logits, cost)
    assert np.abs(mean - true).max() > 1e-2 * np.abs(true).max()
    assert judge("carms", {"samples": 2}, 2, 3, "decoder", 0).verdict == "BROKEN"


class WrongDivisor(RLOO):
    """The mean of the others divided by S, not S - 1: no bias, more variance."""

    def backward(self, draw, cost, dcodes=None, state=None):
        S, p = len(cost), draw.kept["p"]
        z = self.ops.one_hot(draw.codes, p.shape[-1], p.dtype)
        return ((cost - (cost.sum(0) - cost) / S)[..., None, None] * (z - p)).mean(0)


def test_a_wrong_divisor_that_leaves_no_bias_is_caught_by_the_covariance():
    logits, cost, true = problem()
    (right, expected), (wrong, covariance) = (moments(cls(samples=2), logits, cost) for cls in (RLOO, WrongDivisor))
    assert np.abs(right - true).max() <= 1e-12 and np.abs(wrong - true).max() <= 1e-12
    assert np.trace(covariance[0]) > 1.1 * np.trace(expected[0])


class Leaking(RLOO):
    """The baseline is taken over the whole batch, where its examples are said to be independent."""

    name = "leaking"

    def backward(self, draw, cost, dcodes=None, state=None):
        return super().backward(draw, cost) + 1e-6 * cost.mean()


def test_an_example_that_reads_another_ones_cost_is_caught():
    logits, cost, true = problem(2, 1)
    wrong, right = Leaking(samples=2), RLOO(samples=2)
    assert leaks(wrong, logits, cost) and not leaks(right, logits, cost)
    assert leaks(ReinMax(), logits, cost, cost.gradient) is False
    row = judge(f"{__name__}:Leaking", {"samples": 2}, 1, 2, "table", 0)
    assert row.verdict == "BROKEN" and "other examples" in row.note


class SumForMean(RLOO):
    def backward(self, draw, cost, dcodes=None, state=None):
        return super().backward(draw, cost) * self.samples


class WithoutScore(Reinforce):
    """z where z - p is right, the normaliser of the log-softmax forgotten."""

    def backward(self, draw, cost, dcodes=None, state=None):
        z = self.ops.one_hot(draw.codes, draw.logits.shape[-1], cost.dtype)
        return (cost[..., None, None] * z).mean(0)


class WithoutAbs(DisARM):
    """sigma(a) for sigma(|a|): right for positive logits only."""

    def backward(self, draw, cost, dcodes=None, state=None):
        a = draw.logits[..., 1:] - draw.logits[..., :1]             # [B, D, 1]
        return super().backward(draw, cost) * self.ops.sigmoid(a) / self.ops.sigmoid(abs(a))


@pytest.mark.parametrize("estimator, K", [(SumForMean(samples=2), 3), (WithoutScore(baseline="none"), 3),
                                          (WithoutAbs(), 2)])
def test_slips_of_the_pen_are_caught(estimator, K):
    logits, cost, true = problem(K=K)
    mean, _ = moments(estimator, logits, cost)
    assert np.abs(mean - true).max() > 1e-2 * np.abs(true).max()
    assert check_unbiased(estimator, logits, cost).verdict == "FAIL"


class HalfHeun(ReinMax):
    """ReinMax without its straight-through term."""

    def backward(self, draw, cost, dcodes=None, state=None):
        straight = self.ops.softmax_backward(dcodes.mean(0), self.ops.softmax(draw.logits))
        return (super().backward(draw, cost, dcodes, state) + straight / 2) / 2


def test_a_biased_estimator_that_breaks_its_promise_is_caught():
    assert promise(ReinMax(), 2, 3, 0)[0] == "holds"
    assert promise(HalfHeun(), 2, 3, 0)[0] == "BROKEN"
