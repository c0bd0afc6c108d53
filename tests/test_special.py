"""log Gamma, digamma, trigamma. Share: 1 s."""
import mpmath
import numpy as np
import pytest

from npdvae.ops import special
from npdvae.verify.gradients import complex_step
from tests.checks import check_dtypes, close, exactly, ulps

X = np.concatenate([np.geomspace(1e-6, 1e6, 61), [1, 2, 11.999, 12, 12.001]])
CASES = [(special.lgamma, mpmath.loggamma), (special.digamma, mpmath.digamma),
         (special.trigamma, lambda x: mpmath.psi(1, x))]


@pytest.mark.parametrize("f, exact", CASES)
def test_special_functions_are_accurate(f, exact):
    """The natural scale: what the recurrence adds and the series takes away again, some 12 log 12 for log Gamma."""
    true = np.array([exact(x) for x in exactly(X)])
    scale = abs(true) + (30 if f is special.lgamma else 3 if f is special.digamma else 0)
    assert ulps(f(np, X), true, scale) <= 8     # up to 12 sums


@pytest.mark.parametrize("f, derivative", [(special.lgamma, special.digamma), (special.digamma, special.trigamma)])
def test_special_functions_are_each_others_derivatives(f, derivative):
    for x in (0.03, 1.0, 5.5, 40.0):
        close(complex_step(lambda x: f(np, x), np.array([x]))[0, 0], derivative(np, np.array([x]))[0], 1e-13)


def test_special_functions_keep_types():
    check_dtypes(lambda dtype: [f(np, np.array([0.5, 20], dtype)) for f, _ in CASES])
