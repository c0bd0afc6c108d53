"""Bernoulli likelihood on logits. Share: 4 s."""
import itertools

import mpmath
import numpy as np
import pytest

from npdvae.ops.bernoulli import bce, bce_backward, bce_shared, bce_shared_backward, sigmoid, softplus
from npdvae.verify import check_adjoint
from tests.checks import DTYPES, EXTREMES, HUGE, check_dtypes, close, exactly, ulps

RNG = np.random.default_rng(5)
LOGITS, TARGETS = 3 * RNG.normal(size=(2, 3, 4)), (RNG.random((3, 4)) < 0.4).astype(float)
GREY = RNG.random((3, 4))


def extremes(dtype):
    """Edge cases, their neighbours and a fine grid between them."""
    return np.array([*EXTREMES, HUGE, -HUGE, *np.linspace(-110, 110, 441)]).astype(dtype)


@pytest.mark.parametrize("dtype", DTYPES[:2])
def test_sigmoid_and_softplus_keep_their_relative_accuracy_at_the_extremes(dtype):
    x = extremes(dtype)
    with np.errstate(all="raise", under="ignore"):
        s, p = sigmoid(x), softplus(x)
    mpmath.mp.dps = 30
    e = exactly(x)
    exact_s = np.array([1 / (1 + mpmath.exp(-v)) if v > -1e30 else mpmath.mpf(0) for v in e])
    exact_p = np.array([mpmath.log1p(mpmath.exp(v)) if v < 1e30 else v for v in e])
    assert ulps(s, exact_s, exact_s) <= 4
    assert ulps(p, exact_p, exact_p) <= 4


@pytest.mark.parametrize("dtype", DTYPES[:2])
def test_bce_and_its_gradient_at_the_extremes(dtype):
    x = extremes(dtype)
    for target in (0.0, 1.0, 0.3):
        t = np.full((len(x), 1), target, dtype)
        with np.errstate(all="raise", under="ignore"):
            cost = bce(x[:, None], t)
            grad = bce_backward(np.full(len(x), -1.5, dtype), x[:, None], t)[:, 0]
        e, tt = exactly(x), mpmath.mpf(float(t[0, 0]))
        exact_p = np.array([mpmath.log1p(mpmath.exp(v)) if v < 1e30 else v for v in e])
        exact_s = np.array([1 / (1 + mpmath.exp(-v)) if v > -1e30 else mpmath.mpf(0) for v in e])
        assert ulps(cost, exact_p - tt * e, exact_p + abs(tt * e)) <= 4
        assert ulps(grad, -1.5 * (exact_s - tt), 1.5 * (exact_s + tt)) <= 4


def test_sigmoid_and_softplus_derivatives_by_complex_step():
    x = np.array([0.0, 1e-8, -1e-8, 0.3, -0.7, 17, -17, 88.8, -88.8, 104, -104, 1e4, -1e4])
    s = sigmoid(x)
    for h in (1e-20, -1e-20):                   # at 0 the branches meet
        close(softplus(x + 1j * h).imag / h, s, 1e-14, s)
        close(sigmoid(x + 1j * h).imag / h, s * sigmoid(-x), 1e-14, s * sigmoid(-x))
    assert sigmoid(np.array(0.0)) == 0.5
    assert np.isnan(sigmoid(np.array(np.nan))) and np.isnan(softplus(np.array(np.nan)))


def test_bce_is_the_negative_log_likelihood():
    for targets in (TARGETS, GREY):
        p = 1 / (1 + np.exp(-LOGITS))
        close(bce(LOGITS, targets), -(targets * np.log(p) + (1 - targets) * np.log1p(-p)).sum(-1), 1e-13)


@pytest.mark.parametrize("targets", [TARGETS, GREY])
def test_bce_backward_is_the_adjoint(targets):
    check_adjoint(lambda x: bce(x, targets), lambda dy: bce_backward(dy, LOGITS, targets), LOGITS)


def test_bce_shared_is_bce_of_every_pair():
    logits = LOGITS[:, 0]                       # [S, P]
    shared = bce_shared(logits, GREY)           # [S, B]
    for s, b in itertools.product(range(2), range(3)):
        close(shared[s, b], bce(logits[s], GREY[b]), 1e-14, 10)
    check_adjoint(lambda x: bce_shared(x, GREY), lambda dy: bce_shared_backward(dy, logits, GREY), logits)
    dcost = RNG.normal(size=(2, 3))
    pairs = bce_backward(dcost, np.repeat(logits[:, None], 3, 1), GREY).sum(1)
    close(bce_shared_backward(dcost, logits, GREY), pairs, 1e-14)


def test_bernoulli_keeps_types_and_leaves_its_inputs():
    def call(dtype):
        x, t, v = LOGITS.astype(dtype), TARGETS.astype(dtype), RNG.normal(size=(2, 3)).astype(dtype)
        kept = x.copy(), t.copy(), v.copy()
        out = [sigmoid(x), softplus(x), bce(x, t), bce_backward(v, x, t), bce_shared(x[:, 0], t),
               bce_shared_backward(v, x[:, 0], t)]
        assert all((a == b).all() for a, b in zip(kept, (x, t, v)))
        return out

    check_dtypes(call)


@pytest.mark.parametrize("dtype, tolerance", [("float64", 1e-12), ("float32", 1e-5)])
def test_bce_agrees_with_torch(torch, dtype, tolerance):
    x, t, v = LOGITS.astype(dtype), GREY.astype(dtype), RNG.normal(size=(2, 3)).astype(dtype)
    tx = torch.tensor(x, requires_grad=True)
    cost = torch.nn.functional.binary_cross_entropy_with_logits(tx, torch.tensor(t).expand(2, 3, 4),
                                                                reduction="none").sum(-1)
    cost.backward(torch.tensor(v))
    close(bce(x, t), cost.detach().numpy(), tolerance)
    close(bce_backward(v, x, t), tx.grad.numpy(), tolerance)
