"""Softmax and log-softmax. Share: 4 s."""
import itertools

import mpmath
import numpy as np
import pytest

from npdvae.ops.softmax import log_softmax, log_softmax_backward, softmax, softmax_backward
from npdvae.verify import check_adjoint
from tests.checks import DTYPES, EXTREMES, HUGE, check_dtypes, close, exactly, ulps

PAIRS = [(softmax, softmax_backward), (log_softmax, log_softmax_backward)]
RNG = np.random.default_rng(3)
X = 2 * RNG.normal(size=(2, 3, 4))


def extreme_rows(dtype):
    """Every pair of the edge cases, alone and beside a third category: [N, 3]."""
    values = EXTREMES + [HUGE, -HUGE]
    rows = [(a, b, c) for a, b in itertools.product(values, values) for c in (a, 0.0, -30.0)]
    return np.array(rows).astype(dtype)


def exact_log_softmax(logits):
    """Log-softmax of rows of mpf."""
    out = np.empty(logits.shape, object)
    for i, row in enumerate(logits):
        top = max(row)
        total = mpmath.log(mpmath.fsum(mpmath.exp(x - top) for x in row))
        out[i] = [x - top - total for x in row]
    return out


@pytest.mark.parametrize("forward, backward", PAIRS)
def test_softmax_backward_is_the_adjoint(forward, backward):
    check_adjoint(forward, lambda dy: backward(dy, forward(X)), X)
    apart = np.array([[1e4, -1e4, 3.0], [-1e4, -1e4, -1e4 - 1]])    # rows of very different scale
    check_adjoint(forward, lambda dy: backward(dy, forward(apart)), apart, finite=False)


@pytest.mark.parametrize("dtype", DTYPES[:2])
def test_softmax_at_the_extremes(dtype):
    x = extreme_rows(dtype)
    exact = exact_log_softmax(exactly(x))
    p = np.vectorize(mpmath.exp, otypes=[object])(exact)
    with np.errstate(all="raise", under="ignore"):
        log_p, got = log_softmax(x), softmax(x)
    scale = np.maximum(abs(exact), 1)           # a log-probability near 0 is a difference of numbers near 1
    assert ulps(log_p, exact, scale) <= 4
    assert ulps(got, p, p * scale) <= 4         # the exponential turns the rounding of x - max into a relative one
    dy = np.tile(np.array([1.5, -0.75, 2.0], dtype), (len(x), 1))
    d = exactly(dy)
    inner = (p * d).sum(1, keepdims=True)
    with np.errstate(all="raise", under="ignore"):
        back, log_back = softmax_backward(dy, got), log_softmax_backward(dy, log_p)
    assert ulps(back, p * (d - inner), p * scale * 2 * (abs(d) + abs(p * d).sum(1, keepdims=True))) <= 4
    total = d.sum(1, keepdims=True)
    assert ulps(log_back, d - p * total, abs(d) + p * scale * abs(d).sum(1, keepdims=True)) <= 4


@pytest.mark.parametrize("dtype", DTYPES[:2])
@pytest.mark.parametrize("forward", [softmax, log_softmax])
def test_softmax_does_not_notice_a_shift(forward, dtype):
    x = (RNG.integers(-64, 64, (50, 5)) / 8).astype(dtype)          # eighths: adding 1e4 is exact
    assert (forward(x + dtype(1e4)) == forward(x)).all() and (forward(x - dtype(1e4)) == forward(x)).all()


@pytest.mark.parametrize("dtype", DTYPES[:2])
def test_softmax_rows_do_not_touch_each_other(dtype):
    x = np.stack([X[0, 0], X[0, 0] + 1e4, X[0, 0] - 1e4, [1e4, -1e4, 0, 0], [HUGE, -HUGE, 0, 0]]).astype(dtype)
    for forward, backward in PAIRS:
        y = forward(x)
        alone = np.concatenate([forward(x[i:i + 1]) for i in range(5)])
        assert (y == alone).all()
        dy = RNG.normal(size=x.shape).astype(dtype)
        assert (backward(dy, y) == np.concatenate([backward(dy[i:i + 1], y[i:i + 1]) for i in range(5)])).all()


def test_softmax_of_one_category():
    one = np.array([[3.0], [-1e4]])
    close(softmax(one), np.ones((2, 1)), 0)
    close(log_softmax(one), np.zeros((2, 1)), 0)
    assert not softmax_backward(one, softmax(one)).any() and not log_softmax_backward(one, log_softmax(one)).any()


@pytest.mark.parametrize("forward, backward", PAIRS)
def test_softmax_keeps_types_and_leaves_its_inputs(forward, backward):
    def call(dtype):
        x, dy = X.astype(dtype), RNG.normal(size=X.shape).astype(dtype)
        y = forward(x)
        kept = y.copy()
        out = [y, backward(dy, y)]
        assert (x == X.astype(dtype)).all() and (y == kept).all()
        return out

    check_dtypes(call)


@pytest.mark.parametrize("dtype, tolerance", [("float64", 1e-12), ("float32", 1e-5)])
@pytest.mark.parametrize("forward, backward", PAIRS)
def test_softmax_agrees_with_torch(torch, forward, backward, dtype, tolerance):
    x, dy = X.astype(dtype), RNG.normal(size=X.shape).astype(dtype)
    t = torch.tensor(x, requires_grad=True)
    y = getattr(torch, forward.__name__)(t, -1)
    y.backward(torch.tensor(dy))
    close(forward(x), y.detach().numpy(), tolerance)
    close(backward(dy, forward(x)), t.grad.numpy(), tolerance)
