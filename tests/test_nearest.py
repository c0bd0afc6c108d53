"""The nearest code of a vector, on the NumPy and Numba tables. Share: 2 s."""
import numpy as np
import pytest

from npdvae import backends

NUMPY, NUMBA = backends.load("numpy"), backends.load("numba")


@pytest.mark.parametrize("ops, dtype", [(NUMPY, np.float64), (NUMPY, np.float32), (NUMBA, np.float32)])
@pytest.mark.parametrize("G, K, C", [(1, 5, 3), (3, 7, 1), (2, 1, 2)])
def test_nearest_is_the_smallest_distance(ops, dtype, G, K, C):
    draw = np.random.default_rng(G)
    h, e = draw.normal(size=(4, 6, G, C)).astype(dtype), 2 * draw.normal(size=(G, K, C)).astype(dtype)
    distance = np.sort(((h[..., None, :] - e) ** 2).sum(-1), -1)    # [4, 6, G, K]
    clear = distance[..., 1] - distance[..., 0] > 1e-5 if K > 1 else np.ones(h.shape[:-1], bool)    # no near tie
    codes = ops.nearest(h, e)
    assert codes.shape == (4, 6, G) and codes.dtype.kind == "i" and clear.mean() > 0.9
    expected = ((h[..., None, :] - e) ** 2).sum(-1).argmin(-1)
    assert (codes == expected)[clear].all()


@pytest.mark.parametrize("ops, dtype", [(NUMPY, np.float64), (NUMBA, np.float32)])
def test_nearest_of_equals_is_the_first(ops, dtype):
    e = np.array([[[3, 3], [1, 0], [-1, 0], [1, 0], [0, 1]]], dtype)
    assert ops.nearest(np.array([[[9, 0]], [[0, 0]]], dtype), e)[:, 0].tolist() == [0, 1]
    assert ops.nearest(np.array([[[1, 0]], [[0, 0.2]]], dtype), e)[:, 0].tolist() == [1, 4]


@pytest.mark.parametrize("ops", [NUMPY, NUMBA])
def test_nearest_stays_in_range_on_nan(ops):
    codes = ops.nearest(np.full((3, 1, 2), np.nan, np.float32), np.ones((1, 4, 2), np.float32))
    assert ((codes >= 0) & (codes < 4)).all()
