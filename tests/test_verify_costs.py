"""The random costs of npdvae.verify: gradients by the complex step, classes by their defining property. 1 s."""
import numpy as np
import pytest

from npdvae.verify import costs

B, D, K, S = 2, 3, 3, 4


@pytest.fixture
def relaxed(rng):
    return rng.dirichlet(np.ones(K), size=(S, B, D))                # [S, B, D, K]


@pytest.fixture
def rng():
    return np.random.default_rng(7)


@pytest.mark.parametrize("kind", costs.KINDS)
def test_cost_gradient_is_its_complex_step(kind, relaxed):
    cost = costs.make(kind, 1, B, D, K)
    gradient = cost.gradient(relaxed)
    for d in range(D):
        for k in range(K):
            step = relaxed.astype(complex)
            step[:, :, d, k] += 1e-20j
            expected = cost(step).imag / 1e-20
            assert np.abs(gradient[:, :, d, k] - expected).max() <= 1e-12 * np.abs(gradient).max()


@pytest.mark.parametrize("kind", costs.KINDS)
def test_cost_of_hard_codes_is_that_of_their_rows(kind, rng):
    cost = costs.make(kind, 2, B, D, K)
    codes = rng.integers(0, K, (S, B, D))
    hard = np.eye(K)[codes]
    assert np.abs(cost(codes) - cost(hard)).max() <= 1e-12 * np.abs(cost(hard)).max()
    assert np.abs(cost.gradient(codes) - cost.gradient(hard)).max() <= 1e-12 * np.abs(cost.gradient(hard)).max()
    shared = codes[:, :1]
    assert cost(shared).shape == (S, B) and cost.gradient(shared).shape == (S, B, D, K)
    assert not np.allclose(cost(shared)[:, 0], cost(shared)[:, 1])  # another cost for each example


@pytest.mark.parametrize("kind, order", [("multilinear", 2), ("table", 2), ("quadratic", 3), ("cubic", 4)])
def test_cost_has_the_degree_of_its_class(kind, order, relaxed, rng):
    """Differences of that order along one row vanish, those of one order less do not."""
    cost = costs.make(kind, 3, B, D, K)
    move = np.zeros_like(relaxed)
    move[:, :, 1] = rng.normal(size=(S, B, K))
    values = np.stack([cost(relaxed + n * move) for n in range(order + 1)])
    scale = np.abs(values).max()
    assert np.abs(np.diff(values, order, axis=0)).max() <= 1e-11 * scale
    assert np.abs(np.diff(values, order - 1, axis=0)).max() > 1e-3 * scale


@pytest.mark.parametrize("kind", costs.KINDS)
def test_cost_keeps_float32(kind, relaxed):
    cost = costs.make(kind, 4, B, D, K, np.float32)
    rows = relaxed.astype(np.float32)
    assert cost(rows).dtype == np.float32 and cost.gradient(rows).dtype == np.float32
    assert cost(np.zeros((1, 1, D), int)).dtype == np.float32


def test_cost_kind_must_be_known():
    with pytest.raises(ValueError, match="unknown cost 'sine'.*multilinear"):
        costs.make("sine", 0, B, D, K)
