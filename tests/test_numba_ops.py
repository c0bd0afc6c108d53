"""Every op of the Numba table against NumPy: float64 to 1e-13, float32 to a rounding bound. Share: 25 s to compile.

Shapes are small, so that the same file passes as plain Python (NUMBA_DISABLE_JIT=1), which the last test does.
"""
import os
import subprocess
import sys

import numpy as np
import pytest

from npdvae import backends, rng
from npdvae.data import binarize
from npdvae.kernels.cpu import bernoulli, categorical, entropy, philox
from npdvae.kernels.cpu import binarize as binarize_kernel
from npdvae.kernels.cpu import uniform as uniform_kernels
from tests.kernels import from_python

f4, f8 = np.float32, np.float64
REFERENCE, NUMBA = backends.load("numpy"), backends.load("numba")
EPS = float(np.finfo(f4).eps)
draw = np.random.default_rng(7)


def normal(*shape):
    return draw.normal(0, 2, shape)


def log_p(*shape):
    return REFERENCE.log_softmax(normal(*shape))


def uniform(*shape):
    return draw.uniform(0.001, 0.999, shape)


def codes(*shape, K=3):
    return draw.integers(0, K, shape)


# name -> arguments; the constant is the number of roundings that may add up, see `agree`
CASES = {
    "linear": [(normal(5, 7), normal(7, 4), normal(4))],
    "linear_backward": [(normal(5, 4), normal(5, 7), normal(7, 4)),
                        (normal(2, 5, 4), normal(2, 5, 7), normal(7, 4), uniform(2, 5))],
    "code_linear": [(codes(5, 2), normal(6, 4), normal(4)), (codes(3, 1, 2), normal(6, 130), normal(130))],
    "code_linear_backward": [(normal(5, 4), codes(5, 2), normal(6, 4)),
                             (normal(3, 5, 131), codes(3, 5, 2), normal(6, 131), uniform(3, 5), True)],
    "relu": [(normal(5, 7),)], "leaky_relu": [(normal(5, 7),)], "tanh": [(normal(5, 7) / 4,)],
    "relu_backward": [(normal(5, 7), normal(5, 7)), (normal(5, 7), np.zeros((5, 7)))],
    "leaky_relu_backward": [(normal(5, 7), normal(5, 7)), (normal(5, 7), np.zeros((5, 7)))],
    "tanh_backward": [(normal(5, 7), np.tanh(normal(5, 7)))],
    "softmax": [(normal(5, 2, 3),), (normal(5, 1),)], "log_softmax": [(normal(5, 2, 3),), (normal(4, 1),)],
    "softmax_backward": [(normal(5, 2, 3), REFERENCE.softmax(normal(5, 2, 3))),
                         (normal(4, 5, 2, 3), REFERENCE.softmax(normal(5, 2, 3)))],
    "log_softmax_backward": [(normal(5, 2, 3), log_p(5, 2, 3))],
    "inverse_cdf": [(REFERENCE.softmax(normal(5, 2, 3)), uniform(4, 5, 2))],
    "gumbel_max": [(normal(5, 2, 3), normal(4, 5, 2, 3))],
    "one_hot": [(codes(4, 5, 2), 3, f4), (codes(4, 5, 2) - 1, 3, f4), (codes(4, 5, 2) + 1, 3, f4)],
    "log_prob": [(log_p(5, 2, 3), codes(4, 5, 2)), (log_p(2, 3), codes(4, 1, 2))],
    "log_prob_backward": [(normal(4, 5), codes(4, 5, 2), 3)],
    "sigmoid": [(normal(5, 7) * 9,)], "softplus": [(normal(5, 7) * 9,)],
    "bce": [(normal(4, 5, 19), uniform(5, 19)), (normal(5, 19), uniform(5, 19))],
    "bce_backward": [(normal(4, 5), normal(4, 5, 19), uniform(5, 19))],
    "bce_shared": [(normal(6, 19), uniform(5, 19))],
    "bce_shared_backward": [(normal(6, 5), normal(6, 19), uniform(5, 19))],
    "entropy": [(log_p(5, 2, 3),), (log_p(5, 1),)], "entropy_backward": [(normal(5, 2), log_p(5, 2, 3))],
    "kl_uniform": [(log_p(5, 2, 3),)], "kl_uniform_backward": [(normal(5, 2), log_p(5, 2, 3))],
    "kl_categorical": [(log_p(5, 2, 3), log_p(2, 3)), (log_p(5, 2, 3), log_p(5, 2, 3))],
    "kl_categorical_backward": [(normal(5, 2), log_p(5, 2, 3), log_p(2, 3))],
    "gumbel": [(uniform(5, 7),)], "normal": [(uniform(5, 7, 2),)],
    "nearest": [(normal(9, 1, 3), normal(1, 5, 3)), (normal(2, 4, 3, 2), normal(3, 7, 2)),
                (normal(4, 1, 1), normal(1, 1, 1)), (normal(150, 2, 3), normal(2, 5, 3))],
    "sgd": [(normal(5, 7), normal(5, 7), normal(5, 7), 0.1, 0.8)],
    "adam": [(normal(5, 7), normal(5, 7), normal(5, 7), uniform(5, 7), t, 0.1) for t in (1, 10)],
    "radam": [(normal(5, 7), normal(5, 7), normal(5, 7), uniform(5, 7), t, 0.1) for t in (1, 10)],
}
LAYOUT = ("name", "xp", "to_host", "uniform", "targets", "kernel")
PAIRS = [(name, i) for name, cases in CASES.items() for i in range(len(cases))]


def cast(arguments, dtype):
    return [a.astype(dtype) if isinstance(a, np.ndarray) and a.dtype.kind == "f" else a for a in arguments]


def results(y):
    return [a for a in (y if isinstance(y, tuple) else (y,)) if a is not None]


def agree(name, arguments, dtype, bound):
    """Largest difference over the largest entry of the float64 result, each output on its own."""
    expected = results(getattr(REFERENCE, name)(*arguments))
    found = results(getattr(NUMBA, name)(*cast(arguments, dtype)))
    assert len(found) == len(expected)
    for y, x in zip(found, expected):
        assert y.shape == x.shape and (y.dtype == dtype or y.dtype.kind in "iu"), (name, y.shape, y.dtype)
        difference = np.abs(y.astype(f8) - x).max()
        assert difference <= bound * max(1.0, np.abs(x).max()), f"{name}: {difference:.2e}"


def test_every_op_of_the_table_is_compared():
    assert set(CASES) == set(REFERENCE._fields) - set(LAYOUT)


@pytest.mark.parametrize("name, i", PAIRS)
def test_numba_op_agrees_with_numpy_in_float32(name, i):
    agree(name, CASES[name][i], f4, 40 * EPS)   # sums of at most 19 products, two roundings each


@pytest.mark.parametrize("name, i", [p for p in PAIRS if p[0] != "one_hot"])
def test_numba_op_agrees_with_numpy_in_float64(name, i):
    agree(name, CASES[name][i], f8, 1e-13)


@pytest.mark.parametrize("name", ["relu", "tanh", "sigmoid", "softplus", "softmax", "log_softmax", "bce"])
def test_numba_op_passes_nan_on(name):
    x = f4([[1, np.nan, 2]])
    assert np.isnan(getattr(NUMBA, name)(*(x, np.ones_like(x))[:2 if name == "bce" else 1])).any()


@pytest.mark.parametrize("dtype", [f4, f8])
def test_numba_adam_of_doubles_is_that_of_numpy_to_the_bit(dtype):
    """Learned entries of a state are float64, their gradients of either type."""
    p, m, g = normal(30, 7), normal(30, 7), normal(30, 7).astype(dtype)
    v = uniform(30, 7) * 10.0 ** draw.integers(-20, 3, (30, 7))
    for t in (1, 9):
        found, expected = (ops.adam(p, g, m, v, t, 1e-3) for ops in (NUMBA, REFERENCE))
        assert all(np.array_equal(y, x) and y.dtype == f8 for y, x in zip(found, expected, strict=True))
    assert np.array_equal(NUMBA.adam(p.T, g.T, m.T, v.T, 9, 1e-3)[0], found[0].T)
    assert NUMBA.adam(p[:, :1], g, m, v, 9, 1e-3)[0].shape == g.shape           # what repeats takes the formula


def test_numba_op_takes_views_and_empty_arrays():
    x = normal(6, 8).astype(f4)
    assert np.array_equal(NUMBA.sigmoid(x[::2, ::3]), NUMBA.sigmoid(x)[::2, ::3])
    assert NUMBA.softmax(np.empty((0, 3), f4)).shape == (0, 3)
    assert np.array_equal(NUMBA.relu(x.T), NUMBA.relu(x).T)


def test_numba_extreme_logits_stay_finite():
    for scale in (88.8, 104, 1e4):
        x = f4([[scale, -scale, 0], [-scale, -scale, scale]])
        for name in ("softmax", "log_softmax", "sigmoid", "softplus"):
            y, expected = getattr(NUMBA, name)(x), getattr(REFERENCE, name)(x.astype(f8))
            assert np.abs(y - expected).max() <= 4 * EPS * max(1, scale), name


def test_numba_codes_out_of_range_are_refused():
    weight, bias = np.zeros((6, 4), f4), np.zeros(4, f4)
    for bad in (3, -1):
        with pytest.raises(ValueError, match="code_linear: codes must be in"):
            NUMBA.code_linear(np.array([[0, bad]]), weight, bias)
        with pytest.raises(ValueError, match="log_prob: codes must be in"):
            NUMBA.log_prob(np.zeros((2, 3), f4), np.array([[0, bad]]))


@pytest.mark.parametrize("dtype", [f4, f8])
@pytest.mark.parametrize("shape", [(1, 3, 2, 1), (3, 2, 2, 1), (5, 2, 3, 1), (2, 2, 3, 2), (2, 2, 1, 3), (3, 1, 2, 7),
                                   (2, 2, 3, 50)])
def test_numba_uniforms_equal_numpy_bit_for_bit(shape, dtype):
    arguments = (2 ** 32 - 1, 3, 2 ** 32 - 1, 77, 5)
    expected, out = rng.uniform(*arguments, shape, dtype), np.full(shape, -7, dtype)
    uniform_kernels.uniform(*arguments, out)
    assert np.array_equal(out, expected) and np.array_equal(NUMBA.uniform(*arguments, shape, dtype), expected)


def test_numba_codes_are_written_whatever_lay_there():
    p, codes = np.array([[0.2, 0.3, 0.5]], np.float32), np.full(4, -7)
    categorical.inverse_cdf(p, np.array([0.1, 0.3, 0.6, 0.999], np.float32), codes)
    assert codes.tolist() == [0, 1, 2, 2]


def test_numba_row_of_costs_and_its_gradient():
    draw = np.random.default_rng(5)
    logits, x = draw.normal(0, 4, 37).astype(np.float32), draw.random(37).astype(np.float32)
    l = logits.astype(np.float64)
    total = from_python(bernoulli.cost_and_gradient_row)(logits, x, np.float32(0.25))
    assert abs(total - (np.logaddexp(0, l) - l * x).sum()) <= 1e-5 * np.logaddexp(0, l).sum()   # 37 roundings
    assert np.abs(logits - 0.25 * (1 / (1 + np.exp(-l)) - x)).max() <= 1e-7                      # of numbers below 1/4


@pytest.mark.parametrize("counter, key, words", [          # Random123's known answers
    ((0,) * 4, (0,) * 2, (0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8)),
    ((0xffffffff,) * 4, (0xffffffff,) * 2, (0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd)),
    ((0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344), (0xa4093822, 0x299f31d0),
     (0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1)),
])
def test_numba_philox_known_answers(counter, key, words):
    assert tuple(int(w) for w in from_python(philox.philox)(*map(np.uint64, counter + key))) == words


@pytest.mark.parametrize("pixels", [8, 9, 15, 21])
def test_numba_binarization_equals_numpy_bit_for_bit(pixels):
    p = draw.choice(f4([0, 0, 0, 0.3, 0.999, 1]), (4, pixels))
    u = rng.to_uniform(np.array(rng.philox(9, 100, 0, 1, 5, 2)), f4)
    p[0, :2] = u[0], np.nextafter(u[1], f4(1))                      # its own uniform: no one; a little more
    expected = binarize.draw_ones(p, 5, 2, 9, 100, 1)
    ones = ~expected                                                # every pixel must be written
    binarize_kernel.draw_ones(p, 5, 2, 9, 100, 1, ones)
    assert np.array_equal(ones, expected) and not ones[0, 0] and ones[0, 1]


def test_numba_edges_of_the_distribution_function():
    """An edge belongs to the category above it, but none of probability zero is ever drawn, whatever p sums to."""
    for p, u, code in (([0.5, 0.5, 0], 0.5, 1), ([0.2, 0.5, 0], 0.9, 1), ([0, 1, 0], 0, 1), ([0.5, 0.2, 0.2], 0.9, 2)):
        codes = np.full(1, -7)
        categorical.inverse_cdf(f4([p]), f4([u]), codes)
        assert codes[0] == code == REFERENCE.inverse_cdf(f4([p]), f4([u]))[0], p


def test_numba_first_of_equal_perturbed_logits_wins():
    codes = np.full(2, -7)
    categorical.gumbel_max(f4([[1, 0, 2]]), f4([[0, 1, -1], [0, 2, 0]]), codes)
    assert codes.tolist() == [0, 1]


def test_numba_entropy_and_divergence_stay_in_their_range():
    """Where rounding of log-probabilities would leave it."""
    for K in (2, 3, 7, 48):
        h, log_p = np.full(1, -7, f4), np.log(1 / K) + (1e-4 if K > np.e else -1e-4)   # sums to more than log K
        entropy.entropy(np.full((1, K), log_p, f4), h)
        assert h[0] == f4(np.log(K))
    for kernel, arguments in ((entropy.entropy, ()), (entropy.kl_categorical, (f4([[1e-7, -20]]),))):
        found = np.full(1, -7, f4)
        kernel(f4([[1e-7 if not arguments else 0, -40]]), *arguments, found)
        assert found[0] == 0


if os.environ.get("NUMBA_DISABLE_JIT") != "1":             # the inner run
    def test_numba_kernels_run_as_plain_python():
        run = subprocess.run([sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__],
                             env={**os.environ, "NUMBA_DISABLE_JIT": "1"}, capture_output=True, text=True)
        assert run.returncode == 0, run.stdout[-2000:]
