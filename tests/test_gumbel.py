"""Gumbel noise. Share: 1 s."""
import mpmath
import numpy as np
import pytest

from npdvae.ops.gumbel import gumbel
from npdvae.rng import to_uniform
from tests.checks import DTYPES, check_dtypes, close, exactly, ulps


@pytest.mark.parametrize("dtype", DTYPES[:2])
def test_gumbel_is_accurate_and_finite_at_both_ends(dtype):
    words = np.array([0, 2 ** 9, 2 ** 20, 2 ** 31, 2 ** 32 - 2 ** 20, 2 ** 32 - 1], np.uint32)
    u = to_uniform(words, dtype)
    exact = np.array([-mpmath.log(-mpmath.log(v)) for v in exactly(u)])
    with np.errstate(all="raise"):
        assert ulps(gumbel(u), exact, abs(exact) + 1) <= 4


def test_gumbel_has_the_moments_of_its_law():
    u = (np.arange(100_000) + 0.5) / 100_000
    g = gumbel(u)
    assert (np.diff(g) > 0).all()
    close(g.mean(), np.euler_gamma, 1e-4)       # the midpoint rule's own error is 7e-6
    close(g.var(), np.pi ** 2 / 6, 1e-3)        # 1.4e-4


def test_gumbel_keeps_types():
    check_dtypes(lambda dtype: [gumbel(np.array([0.25, 0.75], dtype))])
