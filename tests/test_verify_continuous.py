"""Rules for noise that is not finite: which one serves, their nodes and sums, what is too much. Share: 2 s."""
import itertools

import numpy as np
import pytest

from npdvae import estimators
from npdvae.estimators.base import Draw, Estimator
from npdvae.rng import Generator
from npdvae.verify import check_unbiased, continuous, costs, normal_noise, second_argmax, two_pieces
from npdvae.verify.continuous import noise_moments
from npdvae.verify.sampling import blocks_of


def problem(D=1, K=2, kind="decoder"):
    return np.random.default_rng(1).normal(size=(2, D, K)), costs.make(kind, 1, 2, D, K)


@pytest.mark.parametrize("name, options, shape", [
    ("smoothing", dict(samples=1), (1, 2)), ("smoothing", dict(samples=1, function="overlapping_power"), (2, 2)),
    ("redge", {}, (1, 2)), ("redge", dict(cov=True), (1, 2)), ("imle", {}, (2, 3)), ("aimle", {}, (1, 3)),
    ("direct_argmax", {}, (2, 3)), ("straight_through_gumbel", {}, (1, 3))])
def test_rules_agree_with_sampling_in_mean_and_variance(name, options, shape):
    logits, cost = problem(*shape)
    estimator = estimators.get(name, **options)
    found = noise_moments(estimator, logits, cost, cost.gradient)
    blocks = blocks_of(estimator, logits, Generator(3), cost, cost.gradient, tile=4096)
    x = np.concatenate([next(blocks) for _ in range(4)]) - found.mean.ravel()   # [n, N]
    variance = np.diagonal(found.covariance, axis1=1, axis2=2).ravel()
    for values, expected in ((x, 0), (x ** 2, variance)):
        error = np.abs(values.mean(0) - expected) / (values.std(0) / np.sqrt(len(x)) + 1e-12)
        assert error.max() <= 5                                     # 12 entries: 1e-5 by chance, and the seed is fixed
    scale = np.abs(x + found.mean.ravel()).mean(0)
    assert np.abs(scale - found.scale.ravel()).max() <= 0.1 * found.scale.max()


def test_without_a_rule_there_are_no_moments():
    logits, cost = problem()
    with pytest.raises(ValueError, match="estimator rloo names no rule for its noise: None is not one of gumbel, "):
        noise_moments(estimators.get("rloo"), logits, cost)
    for name in estimators.names():
        noise = estimators.find(name).noise
        assert noise is None or noise in continuous.RULES


def test_the_sequential_test_takes_its_variance_from_the_rule():
    logits, cost = problem(2, 3)
    report = check_unbiased("imle", logits, cost, cost.gradient)
    assert report.method == "variance by quadrature" and report.verdict == "FAIL"


def test_nodes_of_bits_and_of_normals_are_counted_and_bounded():
    logits, cost = problem(1)
    assert noise_moments(estimators.get("smoothing", samples=1), logits, cost, cost.gradient).nodes == 2 * 271
    assert noise_moments(estimators.get("redge"), logits, cost, cost.gradient).nodes == 2 * 85 ** 2
    logits, cost = problem(4)
    with pytest.raises(ValueError, match=f"smoothing would take {136 ** 4} nodes at 4 latents, more than 4194304"):
        noise_moments(estimators.get("smoothing", samples=1), logits, cost, cost.gradient)
    logits, cost = problem(2)
    with pytest.raises(ValueError, match=f"redge would take {4 * 29 ** 4} nodes at 2 latents of 2 .*more than 262144"):
        noise_moments(estimators.get("redge"), logits, cost, cost.gradient)


def test_nodes_of_two_latents_lie_on_a_grid_of_their_own():
    logits, cost = problem(2)
    assert noise_moments(estimators.get("smoothing", samples=1), logits, cost, cost.gradient).nodes == 272 ** 2


@pytest.mark.parametrize("dims", [1, 2])
def test_nodes_of_the_unit_cube_integrate_polynomials(dims):
    t = np.arange(-27, 27.2, 0.4)
    parts = list(two_pieces.unit_nodes(t, dims))
    s, weight, kept = (np.concatenate([part[i] for part in parts]) for i in range(3))
    assert s.shape == (136 ** dims, dims) and abs(weight.sum() - 1) <= 1e-12 and kept.sum() == 68 ** dims
    for power in (1, 2, 3):
        assert abs((weight * s.prod(-1) ** power).sum() - 1 / (power + 1) ** dims) <= 1e-10
    assert kept[0] and not kept[1]


@pytest.mark.parametrize("dims", [1, 2])
def test_nodes_of_normals_have_their_moments(dims):
    parts = list(normal_noise.normal_nodes(normal_noise.axis(0.6), dims))
    x, weight, kept = (np.concatenate([part[i] for part in parts]) for i in range(3))
    assert x.shape == (29 ** dims, dims) and kept.sum() == 15 ** dims and kept[0] and not kept[1]
    for power, moment in ((0, 1), (1, 0), (2, 1), (4, 3)):
        assert abs((weight * x.prod(-1) ** power).sum() - moment ** dims) <= 1e-10
    assert normal_noise.axis(0.6)[[0, -1]] == pytest.approx([-8.4, 8.4]) and 0 in normal_noise.axis(0.4)


def test_sums_over_nodes_are_means_covariances_and_a_coarser_mean():
    rng = np.random.default_rng(0)
    weight, x, kept = rng.random((6, 2)), rng.normal(size=(6, 2, 3)), np.array([True, False] * 3)
    weight /= weight.sum(0)
    sums = two_pieces.Weighted(2, 3)
    for part in (slice(0, 2), slice(2, 6)):
        sums.add(weight[part], kept[part], x[part])
    found = sums.finish((2, 1, 3), 6)
    mean, coarse, scale, covariance = np.zeros((2, 3)), np.zeros((2, 3)), np.zeros((2, 3)), np.zeros((2, 3, 3))
    for n, b in itertools.product(range(6), range(2)):
        mean[b] += weight[n, b] * x[n, b]
        scale[b] += weight[n, b] * np.abs(x[n, b])
        coarse[b] += kept[n] * weight[n, b] * x[n, b] / weight[::2, b].sum()
    for n, b in itertools.product(range(6), range(2)):
        covariance[b] += weight[n, b] * np.outer(x[n, b] - mean[b], x[n, b] - mean[b])
    for a, b in ((found.mean[:, 0], mean), (found.scale[:, 0], scale), (found.covariance, covariance)):
        assert np.abs(a - b).max() <= 1e-13
    assert found.error == pytest.approx((np.abs(mean - coarse).max() / scale.max()) ** 2, rel=1e-12)
    assert found.nodes == 6 and found.mean.shape == found.scale.shape == (2, 1, 3)
    for factor in (-1.0, 1e-3):                 # relative, whichever way the coarse mean is off
        other = two_pieces.Weighted(2, 3)
        other.add(weight, kept, factor * x)
        assert other.finish((2, 1, 3), 6).error == pytest.approx(found.error, rel=1e-12)
    nothing = two_pieces.Weighted(2, 3)
    nothing.add(weight, kept, 0 * x)
    assert nothing.finish((2, 1, 3), 6).error == 0


def test_states_reach_the_rules():
    logits, cost = problem()
    estimator, given = (estimators.get("smoothing", samples=1, temperature=t) for t in (0.5, 0.2))
    state = {"temperature": np.asarray(0.2), "step": np.asarray(0)}
    moved = noise_moments(estimator, logits, cost, cost.gradient, state=state)
    assert (moved.mean == noise_moments(given, logits, cost, cost.gradient).mean).all()


class Ended(Estimator):
    """Codes of softmax(logits + n), n normal; an estimate that reads code, cost and noise: a toy for the quadrature."""

    name = "ended"
    noise = "normal"

    def end(self, logits, normals):
        return self.ops.softmax(logits + 0.3 * normals[0])          # [n, D, K]

    def draw(self, codes, logits, normals):
        return Draw(codes, logits, {"normals": normals})

    def backward(self, draw, cost, dcodes=None, state=None):
        z = self.ops.one_hot(draw.codes[0], draw.logits.shape[-1], draw.logits.dtype)
        return cost[0][:, None, None] * (z + 0.5 * draw.kept["normals"][0])


@pytest.mark.parametrize("D, K", [(1, 2), (2, 1), (1, 3)])
def test_moments_over_normals_are_those_of_gauss_and_hermite(D, K):
    """Mean and covariance by another quadrature, 12 nodes a dimension, and a loop over codes: 1e-8, of both rules."""
    logits, table = np.random.default_rng(2).normal(size=(2, D, K)), np.random.default_rng(3).normal(size=(K ** D, 2))

    def cost(codes):                            # int [S, B, D] -> [S, B]
        index = sum(codes[..., d] * K ** (D - 1 - d) for d in range(D))
        return np.stack([table[index[:, b], b % 2] for b in range(index.shape[1])], 1)

    nodes, weights = np.polynomial.hermite_e.hermegauss(12)
    weights = weights / weights.sum()
    toy, mean, second = Ended(), np.zeros((2, D * K)), np.zeros((2, D * K, D * K))
    for index in itertools.product(range(12), repeat=D * K):
        n = np.repeat(nodes[list(index)].reshape(1, 1, D, K), 2, 1)             # [1, 2, D, K]
        p = toy.end(logits, n)
        for code in itertools.product(range(K), repeat=D):
            codes = np.broadcast_to(np.array(code), (1, 2, D))
            g = toy.backward(toy.draw(codes, logits, n), cost(codes)).reshape(2, -1)
            q = weights[list(index)].prod() * p[:, range(D), code].prod(-1)     # [2]
            mean += q[:, None] * g
            second += q[:, None, None] * g[:, :, None] * g[:, None]
    found = normal_noise.normal_moments(toy, logits, cost)
    assert np.abs(found.mean.reshape(2, -1) - mean).max() <= 1e-8
    assert np.abs(found.covariance - (second - mean[:, :, None] * mean[:, None])).max() <= 1e-8
    assert found.nodes == K ** D * {2: 85, 3: 43}[D * K] ** (D * K)


@pytest.mark.parametrize("rule, estimator", [
    (two_pieces.piece_moments, estimators.get("smoothing", samples=1)), (normal_noise.normal_moments, Ended()),
    (second_argmax.argmax_moments, estimators.get("imle"))], ids=["two_pieces", "normal", "second_argmax"])
def test_rules_take_lists_and_refuse_other_shapes(rule, estimator):
    logits, cost = problem()
    listed, found = (rule(estimator, given, cost, cost.gradient) for given in (logits.tolist(), logits))
    assert (listed.mean == found.mean).all()
    with pytest.raises(ValueError, match="logits"):
        rule(estimator, logits[0], cost, cost.gradient)
