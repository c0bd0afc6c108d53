"""Normal noise. Share: 1 s."""
import math
import statistics

import mpmath
import numpy as np
import pytest

from npdvae.ops.normal import normal
from npdvae.rng import to_uniform
from tests.checks import DTYPES, check_dtypes, close, exactly, ulps


@pytest.mark.parametrize("dtype", DTYPES[:2])
def test_normal_is_accurate_and_finite_at_both_ends(dtype):
    words = np.array([0, 2 ** 9, 2 ** 20, 2 ** 31, 3 * 2 ** 30, 2 ** 32 - 2 ** 20, 2 ** 32 - 1], np.uint32)
    u = np.stack(np.meshgrid(to_uniform(words, dtype), to_uniform(words, dtype)), -1)      # [7, 7, 2]
    radius = np.array([mpmath.sqrt(-2 * mpmath.log(v)) for v in exactly(u[..., 0]).flat], object).reshape(7, 7)
    turn = np.array([mpmath.cos(2 * mpmath.pi * v) for v in exactly(u[..., 1]).flat], object).reshape(7, 7)
    with np.errstate(all="raise"):
        e = normal(u)
    assert ulps(e, radius * turn, radius) <= 8  # 2 pi and its product round the angle: 5 units of the radius, at most
    assert abs(e).max() <= 5.8                  # sqrt(-2 log 2^-24) = 5.77


def test_normal_has_its_law():
    """Uniforms on a grid of midpoints, so no chance is left."""
    n = 1000
    u = (np.arange(n) + 0.5) / n
    e = normal(np.stack(np.meshgrid(u, u), -1)).ravel()             # [n * n]
    moments = np.array([(e ** k).mean() for k in range(1, 5)])
    close(moments, np.array([0, 1, 0, 3]), 4e-3)    # the rule misses 3e-3 of the tail of the fourth
    for t in (-2.0, -0.3, 0.0, 1.1):
        assert abs((e < t).mean() - statistics.NormalDist().cdf(t)) <= 1e-3
    assert math.isclose(normal(np.array([math.exp(-0.5), 0.5])), -1, rel_tol=1e-15)


def test_normal_keeps_types():
    check_dtypes(lambda dtype: [normal(np.array([[0.25, 0.75]], dtype))])
