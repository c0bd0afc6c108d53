"""Quadrature over Gumbel noise: a closed form, a shared mean, Monte Carlo, and what it refuses. 6 s."""
import itertools

import numpy as np
import pytest

from npdvae import estimators
from npdvae.rng import Generator
from npdvae.verify import check_unbiased, costs, quadrature
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


def test_moments_given_each_code_are_mixed_by_its_probability():
    draw, cost = np.random.default_rng(0), problem(1, 1, 2)[1]
    means, coarse = draw.normal(size=(2, 2, 1, 2))                  # of code 0 and 1
    scales, inner = draw.random((2, 1, 2)) / 8, draw.normal(size=(2, 1, 2, 2))
    nodes = []

    def given(noise, code, t, dims, invariant):
        nodes.append(t)
        return means[code[0]], coarse[code[0]], scales[code[0]], inner[code[0]]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(quadrature, "conditional_moments", given)
        found = gumbel_moments(estimators.get("straight_through_gumbel"), [[[0.3, -0.4]]], cost, cost.gradient)
        patch.setattr(quadrature, "conditional_moments", lambda *_: 3 * (np.zeros((1, 2)),) + (np.zeros((1, 2, 2)),))
        nothing = gumbel_moments(estimators.get("straight_through_gumbel"), [[[0.3, -0.4]]], cost, cost.gradient)
    assert nothing.error == 0
    q = 1 / (1 + np.exp([-0.7, 0.7]))
    mean, scale = q[0] * means[0] + q[1] * means[1], q[0] * scales[0] + q[1] * scales[1]
    covariance = sum(q[c] * (inner[c] + (means[c] - mean).T @ (means[c] - mean)) for c in range(2))
    change = np.abs(mean - q[0] * coarse[0] - q[1] * coarse[1]).max()
    assert np.allclose(found.mean, mean.reshape(1, 1, 2), rtol=1e-13)
    assert np.allclose(found.scale, scale.reshape(1, 1, 2), rtol=1e-13)
    assert np.allclose(found.covariance, covariance, rtol=1e-12)
    assert np.isclose(found.error, (change / scale.max()) ** 2, rtol=1e-12)
    for t in nodes:                                                 # both ends, in whole steps
        assert t[0] == -27 and t[-1] == pytest.approx(27) and np.allclose(np.diff(t), 54 / (len(t) - 1))


@pytest.mark.parametrize("name, options", [("straight_through_gumbel", {}), ("gr_mc", {"conditional_draws": 2})])
@pytest.mark.parametrize("dims", [2, 1])
def test_moments_given_a_code_are_sums_over_the_nodes(name, options, dims):
    """Node by node, for one latent of two categories: all exponentials, or their ratio where only that matters."""
    logits, cost = problem(2, 1, 2)
    estimator, t = estimators.get(name, **options), np.linspace(-2, 3, 5)
    noise = quadrature.noise_of(estimator, logits, cost, cost.gradient, None, None)
    weight = 1 / np.cosh(t / 2) ** 2
    weight /= weight.sum()
    ones, ones_v = np.ones((1, 1, 2)), np.ones((1, noise.blocks, 1, 2))
    for code in ([0], [1]):
        code = np.array(code)
        base = quadrature.at(noise, code, ones, ones_v).reshape(2, 2)
        mean, coarse, scale, squares, drift = np.zeros((2, 2)), np.zeros((2, 2)), np.zeros((2, 2)), {}, {}
        kept = 0.0
        for index in itertools.product(range(5), repeat=dims):
            w, e = np.prod(weight[list(index)]), np.logaddexp(0, t[list(index)])
            if dims == 1:
                e = np.array([-np.expm1(-e[0]), np.exp(-e[0])])     # shares of a broken stick
                e *= 30 / e.max()
            e = e.reshape(1, 1, 2)
            sides = [quadrature.at(noise, code, e, ones_v).reshape(2, 2) - base]
            if noise.blocks:
                ev = ones_v.copy()
                ev[:, 0] = e
                sides.append(quadrature.at(noise, code, ones, ev).reshape(2, 2) - base)
            x = base + sides[0] + noise.blocks * sum(sides[1:])
            for i, side in enumerate(sides):
                drift[i] = drift.get(i, 0) + w * side
                squares[i] = squares.get(i, 0) + w * side[:, :, None] * side[:, None, :]
            mean, scale = mean + w * x, scale + w * np.abs(x)
            if not any(i % 2 for i in index):
                coarse, kept = coarse + w * x, kept + w
        inner = [squares[i] - drift[i][:, :, None] * drift[i][:, None, :] for i in squares]
        expected = mean, coarse / kept, scale, inner[0] + noise.blocks * sum(inner[1:])
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(quadrature, "CHUNK", 3)                   # several chunks, the last one short
            found = quadrature.conditional_moments(noise, code, t, dims, dims == 1)
        for a, b in zip(found, expected):
            assert np.abs(a - b).max() <= 1e-12 * np.abs(b).max()


def test_uniforms_stay_inside_their_interval():
    u = quadrature.inside(np.array([0.0, 1e-320, 0.5, 1.0]))
    assert (0 < u).all() and (u < 1).all() and u[2] == 0.5 and u[0] <= 1e-299
    assert u[3] == np.nextafter(1, 0)


def test_uniforms_of_conditional_draws_lie_block_beside_block_in_every_example():
    e = np.random.default_rng(0).exponential(size=(5, 3, 2, 4))     # [n, blocks, D, K]
    v = quadrature.blocks_from(e, 3, 2)
    assert v.shape == (5, 2, 2, 12)
    for n, b, d, block, k in itertools.product(range(5), range(2), range(2), range(3), range(4)):
        assert v[n, b, d, 4 * block + k] == np.exp(-e[n, block, d, k])
    assert quadrature.blocks_from(e[:, :0], 0, 2) is None


class Scripted:
    """Values that come as told, one call after another; what they were asked at is kept."""

    def __init__(self, *answers):
        self.answers, self.asked = list(answers), []

    def __call__(self, u, v):
        self.asked.append((u, v))
        return np.broadcast_to(np.array(self.answers.pop(0), float), u.shape)


def structure(*answers, blocks=0):
    """The check on one latent with as many categories as the answers have, whose value answers as told."""
    value = Scripted(*answers)
    K = np.size(answers[0])
    found = quadrature.check_structure(quadrature.Noise(value, blocks, np.full((1, 1, K), 1 / K)), "scripted")
    assert not value.answers
    return found, value.asked


def test_additivity_is_judged_by_the_size_of_both_values():
    """base, both, base with u changed, all scaled, for each of two codes: sizes 3 and 1."""
    base, both = [-3, 0], [-1, 0]
    rest = [[0, 0]] * 4
    assert structure(base, both, [-1, 3.9e-9], base, *rest)[0] is True
    assert structure(base, both, [-1, -3.9e-9], base, *rest)[0] is True
    for far in (4.1e-9, -4.1e-9):
        with pytest.raises(ValueError, match="not additive"):
            structure(base, both, [-1, far], base)


def test_one_code_whose_value_changes_with_the_scale_settles_it():
    base, both = [-3, 0], [-1, 0]
    rest = [[0, 0]] * 4
    assert structure(base, both, both, [-3, 3.9e-9], *rest)[0] is True
    assert structure(base, both, both, [-3, 4.1e-9], *rest)[0] is False
    assert structure(base, both, both, [-3 - 4.1e-9, 0], *rest)[0] is False
    assert structure(*rest, base, both, both, [-3, 4.1e-9])[0] is False


def test_the_scale_of_both_kinds_of_noise_is_changed():
    _, asked = structure(*[[0, 0]] * 12, blocks=2)
    assert [len(asked), asked[0][1].shape] == [12, (16, 1, 1, 4)]
    for first, last in ((asked[0], asked[5]), (asked[6], asked[11])):
        assert np.allclose(np.log(last[0]), 3 * np.log(first[0])) and np.allclose(np.log(last[1]), np.log(first[1]) / 2)


@pytest.mark.parametrize("name", ["straight_through_gumbel", "gr_mc"])
def test_only_ratios_of_the_noise_matter_to_relaxed_rows(name):
    logits, cost = problem(2, 1, 3)
    noise = quadrature.noise_of(estimators.get(name), logits, cost, cost.gradient, None, None)
    assert quadrature.check_structure(noise, name) is True
    shifted = noise._replace(value=lambda u, v: noise.value(u, v) + np.log(u).sum(-1, keepdims=True))
    assert quadrature.check_structure(shifted, name) is False


def test_shares_of_the_noise_are_scaled_to_30():
    parts = list(quadrature.exponentials(np.linspace(-2, 3, 5), 2, (1, 3)))
    e, weight = np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts])
    pairs = np.concatenate([part[0] for part in quadrature.exponentials(np.linspace(-2, 3, 5), 2, (2, 2))])
    assert pairs.shape == (25, 2, 2) and np.allclose(pairs.max(-1), 30)
    assert e.shape == (25, 1, 3) and np.allclose(e.max(-1), 30) and (e > 0).all() and np.isclose(weight.sum(), 1)
