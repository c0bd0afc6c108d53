"""Quadrature over Gumbel noise: a closed form, a shared mean, Monte Carlo, and what it refuses. 6 s."""
import numpy as np
import pytest

from npdvae import estimators
from npdvae.rng import Generator
from npdvae.verify import check_unbiased, costs
from npdvae.verify.quadrature import gumbel_moments
from npdvae.verify.sampling import blocks_of


def problem(B, D, K, kind="decoder"):
    return np.random.default_rng(K).normal(size=(B, D, K)), costs.make(kind, 1, B, D, K)


class FirstRow:
    """The cost y_01: the weight of category 1 in the first latent."""

    def __call__(self, codes):
        return codes[:, :, 0, 1]

    def gradient(self, codes):
        gradient = np.zeros_like(codes)
        gradient[:, :, 0, 1] = 1
        return gradient


@pytest.mark.parametrize("a", [-1.5, 0.3, 2.0])
def test_quadrature_gives_the_density_of_two_logistics(a):
    """E sigma'(a + L), L logistic, is the density at a of the difference of two logistics."""
    expected = np.exp(a) * ((a - 2) * np.exp(a) + a + 2) / np.expm1(a) ** 3
    cost = FirstRow()
    estimator = estimators.get("gumbel_softmax", temperature=1.0)
    found = gumbel_moments(estimator, np.array([[[0.0, a]]]), cost, cost.gradient)
    assert np.abs(found.mean[0, 0] - [-expected, expected]).max() <= 1e-10      # about twelve digits lost at a = 0.3
    assert found.error <= 1e-10


@pytest.mark.parametrize("shape", [(2, 1, 2), (1, 1, 3), (1, 2, 2)])
def test_rao_blackwellisation_keeps_the_mean_and_lowers_the_variance(shape):
    logits, cost = problem(*shape)
    few, many, plain = (gumbel_moments(estimator, logits, cost, cost.gradient) for estimator in
                        (estimators.get("gr_mc", conditional_draws=1), estimators.get("gr_mc", conditional_draws=3),
                         estimators.get("straight_through_gumbel")))
    assert np.abs(many.mean - plain.mean).max() <= 1e-10 * plain.scale.max()
    assert np.abs(few.mean - plain.mean).max() <= 1e-10 * plain.scale.max()
    diagonal = [np.diagonal(m.covariance, axis1=1, axis2=2) for m in (many, few, plain)]
    assert np.abs(diagonal[1] - diagonal[2]).max() <= 1e-9 * diagonal[2].max()  # one draw is the same distribution
    assert (diagonal[0] < diagonal[1]).all()
    assert many.error <= 1e-9


@pytest.mark.parametrize("name", ["gumbel_softmax", "gr_mc"])
def test_quadrature_agrees_with_sampling(name):
    logits, cost = problem(2, 1, 3)
    estimator = estimators.get(name, **({"conditional_draws": 3} if name == "gr_mc" else {}))
    found = gumbel_moments(estimator, logits, cost, cost.gradient)
    blocks = blocks_of(estimator, logits, Generator(3), cost, cost.gradient, tile=4096)
    x = np.concatenate([next(blocks) for _ in range(4)]) - found.mean.ravel()   # [n, N]
    variance = np.diagonal(found.covariance, axis1=1, axis2=2).ravel()
    for values, expected in ((x, 0), (x ** 2, variance)):
        error = np.abs(values.mean(0) - expected) / (values.std(0) / np.sqrt(len(x)))
        assert error.max() <= 4.5                                   # 6 entries: 4e-5 by chance, and the seed is fixed


def test_the_sequential_test_takes_its_variance_from_quadrature():
    logits, cost = problem(1, 1, 3)
    report = check_unbiased("gumbel_softmax", logits, cost, cost.gradient)
    assert report.method == "variance by quadrature" and report.verdict == "FAIL"


def test_quadrature_refuses_what_it_cannot_do():
    logits, cost = problem(1, 2, 3)
    with pytest.raises(ValueError, match="no from_noise"):
        gumbel_moments(estimators.get("rloo"), logits, cost)
    with pytest.raises(ValueError, match="one sample"):
        gumbel_moments(estimators.get("gumbel_softmax", samples=2), logits, cost, cost.gradient)
    with pytest.raises(ValueError, match="nodes at 2 latents of 3"):
        gumbel_moments(estimators.get("gumbel_softmax"), logits, cost, cost.gradient)


def test_nodes_reach_27_to_either_side_in_steps_that_widen_with_the_dimensions():
    """Weights end at exp(-27): 271 nodes in one dimension, 136 in each of two, 68 in each of more, for every code."""
    logits, cost = problem(1, 1, 2)
    assert gumbel_moments(estimators.get("gumbel_softmax"), logits, cost, cost.gradient).nodes == 2 * 271
    logits, cost = problem(1, 2, 2)
    assert gumbel_moments(estimators.get("gumbel_softmax"), logits, cost, cost.gradient).nodes == 4 * 136 ** 2
    logits, cost = problem(1, 2, 3)
    with pytest.raises(ValueError, match=f"{9 * 68 ** 4} nodes .*more than 4194304"):
        gumbel_moments(estimators.get("gumbel_softmax"), logits, cost, cost.gradient)


def test_quadrature_refuses_noise_that_interacts():
    class Interacting(type(estimators.get("gr_mc"))):
        def backward(self, draw, cost, dcodes=None, state=None):
            return super().backward(draw, cost, dcodes) * draw.kept["gumbels"].max(-1, keepdims=True)[0]

    logits, cost = problem(1, 1, 2)
    with pytest.raises(ValueError, match="not additive"):
        gumbel_moments(Interacting(conditional_draws=2), logits, cost, cost.gradient)


def test_values_that_depend_on_the_common_shift_are_integrated_too():
    """E max(phi + G) = log sum exp(phi) + Euler's constant: not invariant under a shift of the Gumbels."""
    class Largest(type(estimators.get("straight_through_gumbel"))):
        def backward(self, draw, cost, dcodes=None, state=None):
            noisy = draw.logits + draw.kept["gumbels"][0]           # [B, D, K]
            return noisy.max(-1, keepdims=True) * np.ones_like(noisy)

    logits, cost = problem(1, 1, 2)
    found = gumbel_moments(Largest(), logits, cost, cost.gradient)
    expected = np.log(np.exp(logits).sum()) + np.euler_gamma
    assert np.abs(found.mean - expected).max() <= 1e-9
    assert np.abs(found.covariance - np.pi ** 2 / 6).max() <= 1e-8
