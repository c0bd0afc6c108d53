"""exp, log, sigmoid, softplus, tanh of the CPU kernels against mpmath: below 2 ulp, edges included. Share: 5 s."""
import os

import mpmath
import numpy as np
import pytest

from npdvae.kernels.cpu import elementary, gamma
from npdvae.kernels.cpu.compiler import CONTRACT, kernel
from npdvae.ops import special

f4 = np.float32
LIMIT = 2                                       # ulp of the exact result; of exp and log, which the others need, 1
rng = np.random.default_rng(0)


FEWER = 25 if os.environ.get("NUMBA_DISABLE_JIT") == "1" else 1     # points: plain Python is slow


def grid(low, high, extra=()):
    points = np.linspace(low, high, 1500 // FEWER), rng.uniform(low, high, 500 // FEWER)
    return np.concatenate([*points, extra]).astype(f4)


CASES = {
    "exp": (mpmath.exp, grid(-104, 88.7, [0, -0.0, 1e-8, -1e-8, 88.72, -87.4, -103.9])),
    "log": (mpmath.log, np.concatenate([np.exp(grid(-103, 88)), grid(0.5, 2), f4([1e-45, 1.2e-38, 3e38])])),
    "log1p_unit": (mpmath.log1p, np.concatenate([grid(0, 1), np.exp(grid(-80, 0))])),
    "log1p_short": (mpmath.log1p, np.concatenate([grid(0, 1), np.exp(grid(-80, 0))])),
    "exp_minus": (lambda x: mpmath.exp(-x), grid(0, 87, [0, 1e-8, 86.99])),
    "sigmoid": (lambda x: 1 / (1 + mpmath.exp(-x)), grid(-100, 30, [0, 17, -17, 1e-8, -87])),
    "softplus": (lambda x: mpmath.log1p(mpmath.exp(x)), grid(-100, 100, [0, 17, -17, 1e-8])),
    "tanh": (mpmath.tanh, np.concatenate([grid(-10, 10), grid(-0.7, 0.7), f4([1e-30, -1e-8])])),
}


def apply(name, x):
    function = getattr(elementary, name)

    @kernel(CONTRACT)
    def loop(x, y):
        for i in range(x.size):
            y[i] = function(x[i])

    y = np.empty_like(x)
    loop(x, y)
    return y


@pytest.mark.parametrize("name", CASES)
def test_elementary_is_below_two_ulp(name):
    reference, x = CASES[name]
    with np.errstate(all="ignore"):
        y = apply(name, x)
    worst = 0
    for a, b in zip(x, y):
        exact = reference(mpmath.mpf(float(a)))
        ulp = np.spacing(abs(f4(float(exact)))) if exact else np.spacing(f4(0))
        worst = max(worst, abs(mpmath.mpf(float(b)) - exact) / mpmath.mpf(float(ulp)))
        if not worst <= (1 if name in ("exp", "log") else LIMIT):
            raise AssertionError(f"{name}({a!r}) = {b!r}, exact {mpmath.nstr(exact, 12)}: {float(worst):.2f} ulp")


@pytest.mark.parametrize("name, x, expected", [
    ("exp", [np.nan, np.inf, -np.inf, 89, -110, 1e4, -1e4, 0], [np.nan, np.inf, 0, np.inf, 0, np.inf, 0, 1]),
    ("exp_minus", [np.nan, 0, 87.5, 88, np.inf], [np.nan, 1, *[np.exp(f4(-87))] * 3]),
    ("log", [np.nan, np.inf, 0, -0.5, -1, -np.inf, 1], [np.nan, np.inf, -np.inf, np.nan, np.nan, np.nan, 0]),
    ("sigmoid", [np.nan, np.inf, -np.inf, 1e4, -1e4, 0], [np.nan, 1, 0, 1, 0, 0.5]),
    ("softplus", [np.nan, np.inf, -np.inf, 1e4, -1e4], [np.nan, np.inf, 0, 1e4, 0]),
    ("tanh", [np.nan, np.inf, -np.inf, 1e4, -1e4, 0], [np.nan, 1, -1, 1, -1, 0]),
])
def test_elementary_edges_are_exact(name, x, expected):
    with np.errstate(all="ignore"):
        assert np.array_equal(apply(name, f4(x)), f4(expected), equal_nan=True)


def test_log_gamma_and_its_derivative_are_those_of_the_reference():
    """float64, the same formula: some roundings of the largest of its terms, which cancel near 1 and 2."""
    @kernel(CONTRACT)
    def loop(x, y, dy):
        for i in range(x.size):
            y[i], dy[i] = gamma.lgamma_digamma(x[i])

    x = np.concatenate([np.linspace(1, 14, 27), [1.0001, 11.99, 12.01, 300.0, 1e8]])
    y, dy = np.empty_like(x), np.empty_like(x)
    loop(x, y, dy)
    assert (np.abs(y - special.lgamma(np, x)) <= 1e-14 * np.maximum(20, x * np.log(x))).all()
    assert (np.abs(dy - special.digamma(np, x)) <= 1e-14).all()
