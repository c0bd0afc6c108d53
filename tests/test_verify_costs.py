"""The random costs of npdvae.verify: gradients by the complex step, classes by their defining property. 1 s."""
import dataclasses

import numpy as np
import pytest

from npdvae.verify import costs

B, D, K, S = 2, 3, 3, 4


def noise():
    return np.random.default_rng(7)


def relaxed():
    return noise().dirichlet(np.ones(K), size=(S, B, D))            # [S, B, D, K]


@pytest.mark.parametrize("kind", costs.KINDS)
def test_cost_gradient_is_its_complex_step(kind):
    cost, x = costs.make(kind, 1, B, D, K), relaxed()
    gradient = cost.gradient(x)
    for d in range(D):
        for k in range(K):
            step = x.astype(complex)
            step[:, :, d, k] += 1e-20j
            expected = cost(step).imag / 1e-20
            assert np.abs(gradient[:, :, d, k] - expected).max() <= 1e-12 * np.abs(gradient).max()


@pytest.mark.parametrize("kind", costs.KINDS)
def test_cost_of_a_single_latent_has_its_gradient_too(kind):
    cost, x = costs.make(kind, 1, B, 1, K), relaxed()[:, :, :1]
    for k in range(K):
        step = x.astype(complex)
        step[:, :, 0, k] += 1e-20j
        expected = cost(step).imag / 1e-20
        assert np.abs(cost.gradient(x)[:, :, 0, k] - expected).max() <= 1e-12 * np.abs(cost.gradient(x)).max()
    codes = noise().integers(0, K, (S, B, 1))
    hard = cost.gradient(np.eye(K)[codes])
    assert np.abs(cost.gradient(codes) - hard).max() <= 1e-12 * np.abs(hard).max()


def test_costs_are_about_three_so_that_a_baseline_has_something_to_take_off():
    polynomial = costs.make("cubic", 1, B, D, K)
    assert (dataclasses.replace(polynomial, v=0 * polynomial.v)(relaxed()) == 3).all()
    assert abs(costs.make("table", 1, 5, 5, 4).table.mean() - 3) <= 0.07       # 5 standard errors


def test_decoder_is_a_hidden_layer_and_the_cross_entropy_of_zeros_and_ones():
    cost, codes = costs.make("decoder", 1, B, D, K), np.array([[[2, 0, 1], [1, 1, 0]]])
    assert set(cost.x.ravel()) == {0, 1}
    for b in range(B):
        hidden = np.tanh(sum(cost.weight[d * K + k] for d, k in enumerate(codes[0, b])) + cost.bias)
        p = 1 / (1 + np.exp(-hidden @ cost.out))
        expected = -np.log(np.where(cost.x[b] == 1, p, 1 - p)).sum()
        assert abs(cost(codes)[0, b] - expected) <= 1e-13 * expected


@pytest.mark.parametrize("kind", costs.KINDS)
def test_cost_of_hard_codes_is_that_of_their_rows(kind):
    cost = costs.make(kind, 2, B, D, K)
    codes = noise().integers(0, K, (S, B, D))
    hard = np.eye(K)[codes]
    assert np.abs(cost(codes) - cost(hard)).max() <= 1e-12 * np.abs(cost(hard)).max()
    assert np.abs(cost.gradient(codes) - cost.gradient(hard)).max() <= 1e-12 * np.abs(cost.gradient(hard)).max()
    shared = codes[:, :1]
    assert cost(shared).shape == (S, B) and cost.gradient(shared).shape == (S, B, D, K)
    assert not np.allclose(cost(shared)[:, 0], cost(shared)[:, 1])  # another cost for each example


@pytest.mark.parametrize("kind, order", [("multilinear", 2), ("table", 2), ("quadratic", 3), ("cubic", 4)])
def test_cost_has_the_degree_of_its_class(kind, order):
    """Differences of that order along one row vanish, those of one order less do not."""
    cost, x = costs.make(kind, 3, B, D, K), relaxed()
    move = np.zeros_like(x)
    move[:, :, 1] = noise().normal(size=(S, B, K))
    values = np.stack([cost(x + n * move) for n in range(order + 1)])
    scale = np.abs(values).max()
    assert np.abs(np.diff(values, order, axis=0)).max() <= 1e-11 * scale
    assert np.abs(np.diff(values, order - 1, axis=0)).max() > 1e-3 * scale


@pytest.mark.parametrize("kind", costs.KINDS)
def test_cost_keeps_float32(kind):
    cost = costs.make(kind, 4, B, D, K, np.float32)
    rows = relaxed().astype(np.float32)
    assert cost(rows).dtype == np.float32 and cost.gradient(rows).dtype == np.float32
    assert cost(np.zeros((1, 1, D), int)).dtype == np.float32


def test_cost_kind_must_be_known():
    with pytest.raises(ValueError, match="unknown cost 'sine'.*multilinear"):
        costs.make("sine", 0, B, D, K)
