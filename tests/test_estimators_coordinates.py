"""Estimators that change one latent at a time, and ReinMax's family of Runge-Kutta methods. Share of the suite: 3 s."""
import types

import numpy as np
import pytest

from npdvae import estimators
from npdvae.fused.support import fused_gradient
from npdvae.gpu.support import captured_gradient
from npdvae.rng import Generator
from npdvae.verify import costs
from npdvae.verify.moments import enumerate_moments
from tests.twins import go as go_twin

EXACT = 1e-12                                                       # roundings of sums of a few dozen terms


def problem(D=3, K=3, scale=1.0, seed=0, kind="cubic"):
    return scale * np.random.default_rng(seed).normal(size=(2, D, K)), costs.make(kind, seed + 1, 2, D, K)


def close(found, expected, scale=1.0):
    assert np.abs(found - expected).max() <= EXACT * max(scale, np.abs(expected).max())


def test_random_coordinates_of_one_code_average_to_its_local_expectation():
    logits, cost = problem()
    random, local = estimators.get("random_coordinate"), estimators.get("local_expectation")
    found = {}
    for _, draw in random.outcomes(logits):
        others = tuple(np.where(np.ptp(draw.codes[:, 0], axis=0) > 0, -1, draw.codes[0, 0]))
        found[others] = random.backward(draw, cost(draw.codes))
    assert len(found) == 3 * 9                                      # a latent, and the codes of the two others
    for _, draw in local.outcomes(logits):
        z, total = draw.codes[0, 0], 0
        for d in range(3):
            total = total + found[tuple(np.where(np.arange(3) == d, -1, z))] / 3
        close(total, local.backward(draw, cost(draw.codes)))


def test_every_latent_is_drawn_as_often():
    logits = np.zeros((30_000, 3, 2))
    drawn = estimators.get("random_coordinate").sample(logits, Generator(0)).kept["here"][..., 0].mean(0)
    assert np.abs(drawn - 1 / 3).max() <= 5 * np.sqrt(2 / 9 / 30_000)       # five standard deviations
    draw = estimators.get("random_coordinate").sample(np.zeros((20_000, 2, 2)), Generator(0))
    for chosen in (0, 1):                                           # the other latent does not know which was drawn
        others = draw.codes[0, draw.kept["here"][:, chosen, 0] == 1, 1 - chosen]
        assert abs(others.mean() - 0.5) <= 5 * 0.5 / np.sqrt(9_000)


def mean_square(name, scale):
    """E |dlogits|^2."""
    logits, cost = problem(scale=scale, kind="table")
    moments = enumerate_moments(estimators.get(name), logits, cost, cost.gradient)
    return np.trace(moments.covariance, axis1=1, axis2=2).sum() + (moments.mean ** 2).sum()


@pytest.mark.parametrize("scale", [0.5, 1.5, 4])
def test_random_coordinates_have_d_times_the_mean_square_of_local_expectations(scale):
    """Bounded, however sharp the posterior is."""
    expected = 3 * mean_square("local_expectation", scale)
    close(mean_square("random_coordinate", scale), expected)


def test_go_explodes_where_posteriors_are_sharp():
    flat, sharp = (mean_square("go", scale) / mean_square("local_expectation", scale) for scale in (0.5, 4))
    assert sharp > 10 * flat


def test_go_is_finite_where_the_code_is_impossible():
    """As its twin, which divides by 1 there."""
    logits, cost = np.array([[[0.0, -1e4, 0.3]], [[0.0, 0.1, 0.2]]]), problem(D=1)[1]
    go = estimators.get("go")
    for probability, draw in go.outcomes(logits):
        found = go.backward(draw, cost(draw.codes))
        assert np.isfinite(found).all()
        close(found, go_twin.backward(go, draw, cost(draw.codes)))
        assert draw.codes[0, 0, 0] != 1 or probability[0] == 0


def test_only_the_code_itself_trains_the_decoder_of_go_and_direct_argmax():
    cost = np.ones((5, 2), np.float32)
    for name in ("go", "direct_argmax"):
        weights = estimators.get(name).weigh(None, cost)
        assert weights.dtype == np.float32 and weights[:, 0].tolist() == [1, 0, 0, 0, 0]


def test_fresh_latents_are_drawn_for_each_category_but_the_drawn_one():
    logits, cost = problem(D=2, K=2)
    fresh, kept = (estimators.get("local_expectation", fresh=f) for f in (True, False))
    rows = {tuple(draw.codes[:, 0].ravel()) for _, draw in fresh.outcomes(logits)}
    assert rows == {(a, b, 1 - a, c, d, 1 - b) for a in (0, 1) for b in (0, 1) for c in (0, 1) for d in (0, 1)}
    for seed in range(5):
        one, other = (e.sample(logits, Generator(seed)) for e in (fresh, kept))
        assert (one.codes[0] == other.codes[0]).all()
    codes = fresh.sample(np.zeros((20_000, 2, 3)), Generator(0)).codes       # [5, N, 2]
    others = np.stack([codes[0, :, 1], codes[1, :, 1], codes[2, :, 1], codes[3, :, 0], codes[4, :, 0]])
    assert np.abs(np.corrcoef(others) - np.eye(5)).max() <= 5 / np.sqrt(20_000)
    alone, cost = problem(D=1)
    for seed in range(5):
        one, other = (e.sample(alone, Generator(seed)) for e in (fresh, kept))
        assert (fresh.backward(one, cost(one.codes)) == kept.backward(other, cost(other.codes))).all()


def test_reinmax_at_alpha_one_is_heuns_method_to_the_bit():
    for dtype in (np.float32, np.float64):
        logits, g = (np.random.default_rng(s).normal(size=(3, 4, 2, 5)).astype(dtype) for s in (0, 1))
        estimator = estimators.get("reinmax", samples=3, temperature=1.3)
        draw = estimator.sample(logits[0], Generator(0))
        ops, p = estimator.ops, estimator.ops.softmax(logits[0])
        pb = (ops.softmax(logits[0] / 1.3) + estimator.rows(draw)) / 2
        expected = (2 * ops.softmax_backward(g, pb)).mean(0) - ops.softmax_backward(g.mean(0), p) / 2
        assert (estimator.backward(draw, None, g) == expected).all()


@pytest.mark.parametrize("alpha", [0.6, 0.75, 1.0, 3.0])
def test_reinmax_of_any_alpha_mixes_straight_through_and_darn(alpha):
    logits, cost = problem()
    parts = estimators.get("straight_through"), estimators.get("darn", centre="probabilities")
    estimator, w = estimators.get("reinmax", alpha=alpha), 1 / (2 * alpha)
    draw = estimator.sample(logits, Generator(0))
    f, g = cost(draw.codes), cost.gradient(draw.codes)
    through, darn = (part.backward(parts[0].sample(logits, Generator(0)), f, g) for part in parts)
    close(estimator.backward(draw, f, g), (1 - w) * through + w * darn, np.abs(g).max())
    assert estimator.exact_for == ("quadratic" if alpha == 1 else "multilinear")


def test_alpha_out_of_range_is_refused_and_others_are_left_to_the_readable_engine():
    for alpha in (0.5, -1.0):
        with pytest.raises(ValueError, match=f"alpha > 0.5, got {alpha}"):
            estimators.get("reinmax", alpha=alpha)
    assert estimators.get("reinmax", alpha=2.0, temperature=1.5).exact_for is None
    for known in (fused_gradient, captured_gradient):
        for alpha in (1.0, 2.0):
            estimator = estimators.get("reinmax", alpha=alpha)
            spec = types.SimpleNamespace(estimator="reinmax", settings=estimator.settings())
            assert (known(spec) is None) == (alpha != 1)
