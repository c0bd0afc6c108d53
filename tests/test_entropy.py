"""Entropy and KL divergence of categorical rows. Share: 2 s."""
import itertools
import math

import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from npdvae.ops.entropy import (
    entropy,
    entropy_backward,
    kl_categorical,
    kl_categorical_backward,
    kl_uniform,
    kl_uniform_backward,
)
from npdvae.ops.softmax import log_softmax
from npdvae.verify import check_adjoint
from tests.checks import DTYPES, HUGE, check_dtypes, close, exactly, ulps
from tests.test_softmax import exact_log_softmax, extreme_rows

RNG = np.random.default_rng(6)
Q, P = RNG.normal(size=(2, 3, 4)), RNG.normal(size=(3, 4))
LOG_Q, LOG_P = log_softmax(Q), log_softmax(P)
logits_of = st.sampled_from([0, 1e-8, 0.5, -3, 17, -88.8, 104, 1e4, -1e4])


def test_entropy_and_kl_are_the_sums_they_say():
    q, p = np.exp(LOG_Q), np.exp(LOG_P)
    close(entropy(LOG_Q), [[-sum(x * math.log(x) for x in row) for row in rows] for rows in q], 1e-14)
    close(kl_uniform(LOG_Q), [[sum(x * math.log(4 * x) for x in row) for row in rows] for rows in q], 1e-13)
    expected = [[sum(x * math.log(x / y) for x, y in zip(q[b, d], p[d])) for d in range(3)] for b in range(2)]
    close(kl_categorical(LOG_Q, LOG_P), expected, 1e-14)


def test_entropy_and_kl_backward_are_adjoints():
    check_adjoint(lambda x: entropy(log_softmax(x)), lambda v: entropy_backward(v, LOG_Q), Q)
    check_adjoint(lambda x: kl_uniform(log_softmax(x)), lambda v: kl_uniform_backward(v, LOG_Q), Q)
    check_adjoint(lambda x: kl_categorical(log_softmax(x), LOG_P),
                  lambda v: kl_categorical_backward(v, LOG_Q, LOG_P)[0], Q)
    check_adjoint(lambda x: kl_categorical(LOG_Q, log_softmax(x)),
                  lambda v: kl_categorical_backward(v, LOG_Q, LOG_P)[1].sum(0), P)
    assert kl_categorical_backward(np.ones((2, 3)), LOG_Q, LOG_P)[1].shape == LOG_Q.shape


@pytest.mark.parametrize("dtype", DTYPES[:2])
def test_entropy_and_its_gradient_at_the_extremes(dtype):
    x = extreme_rows(dtype)
    log_p = exact_log_softmax(exactly(x))
    p = np.vectorize(mpmath.exp, otypes=[object])(log_p)
    h = -(p * log_p).sum(-1)
    with np.errstate(all="raise", under="ignore"):
        got = entropy(log_softmax(x))
        back = entropy_backward(np.full(len(x), -1.5, dtype), log_softmax(x))
    rounded = np.maximum(p, np.finfo(dtype).tiny) * (1 + abs(log_p))   # p carries the rounding of its exponent
    assert ulps(got, h, (rounded * np.maximum(abs(log_p), 1)).sum(-1)) <= 4
    assert ulps(back, 1.5 * p * (log_p + h[:, None]), 1.5 * rounded * (abs(log_p) + h[:, None] + 1)) <= 4


@pytest.mark.parametrize("dtype", DTYPES[:2])
def test_kl_and_its_gradients_at_the_extremes(dtype):
    x = extreme_rows(dtype)[::3]
    x, y = x[:, :2].repeat(len(x) // 13, 0)[:1500], np.resize(x[::-1, :2], (1500, 2))
    log_q, log_p = exact_log_softmax(exactly(x)), exact_log_softmax(exactly(y))
    q, p = (np.vectorize(mpmath.exp, otypes=[object])(a) for a in (log_q, log_p))
    with np.errstate(all="raise", under="ignore"):
        got = kl_categorical(log_softmax(x), log_softmax(y))
        dq, dp = kl_categorical_backward(np.full(len(x), -1.5, dtype), log_softmax(x), log_softmax(y))
    spread = np.maximum(abs(log_q), 1) + np.maximum(abs(log_p), 1)
    rounded = np.maximum(q, np.finfo(dtype).tiny) * (1 + abs(log_q))   # q carries the rounding of its exponent
    mean = (rounded * spread).sum(-1)
    assert ulps(got, (q * (log_q - log_p)).sum(-1), mean) <= 4
    kl = (q * (log_q - log_p)).sum(-1, keepdims=True)
    assert ulps(dq, -1.5 * q * (log_q - log_p - kl), 1.5 * rounded * (spread + mean[:, None])) <= 4
    assert ulps(dp, -1.5 * (p - q), 1.5 * (p * (1 + abs(log_p)) + rounded)) <= 4


@given(st.data(), st.sampled_from(DTYPES[:2]))
def test_entropy_and_kl_stay_in_their_bounds(data, dtype):
    K = data.draw(st.integers(1, 9))
    q, p = (log_softmax(data.draw(arrays(dtype, (3, K), elements=logits_of))) for _ in range(2))
    log_k = dtype(math.log(K))
    assert (entropy(q) >= 0).all() and (entropy(q) <= log_k).all()
    assert (kl_uniform(q) >= 0).all() and (kl_uniform(q) <= log_k).all()
    assert (kl_categorical(q, p) >= 0).all() and not kl_categorical(q, q).any()


@pytest.mark.parametrize("dtype", DTYPES[:2])
def test_kl_of_almost_equal_rows_is_not_negative(dtype):
    x, spread = RNG.normal(size=(500, 5)), np.sqrt(np.finfo(dtype).eps) / 10
    q, p = log_softmax(x.astype(dtype)), log_softmax((x + spread * RNG.normal(size=x.shape)).astype(dtype))
    rounded = (np.exp(q) * (q - p)).sum(-1)
    assert (rounded < 0).any()                  # the trap is there
    close(kl_categorical(q, p), np.where(rounded > 0, rounded, 0), 0)


@pytest.mark.parametrize("dtype", DTYPES[:2])
@pytest.mark.parametrize("K", [1, 2, 3, 8, 10, 64])
def test_uniform_rows_have_the_largest_entropy_and_no_kl(dtype, K):
    log_p = log_softmax(np.full((1, K), 3.5, dtype))
    close(entropy(log_p), [math.log(K)], 4 * np.finfo(dtype).eps, math.log(K) + 1e-300)
    assert 0 <= kl_uniform(log_p)[0] <= 4 * np.finfo(dtype).eps * math.log(K) + 1e-300
    assert not kl_categorical(log_p, log_p).any()


@pytest.mark.parametrize("dtype", DTYPES[:2])
def test_certain_rows_have_no_entropy_and_no_gradient(dtype):
    log_p = log_softmax(np.array([[1e4, 0, -1e4], [HUGE, -HUGE, 0], [-HUGE, -HUGE, 0]], dtype))
    ones = np.ones(3, dtype)
    assert not entropy(log_p).any() and not entropy_backward(ones, log_p).any()
    assert (kl_uniform(log_p) == dtype(math.log(3))).all() and not kl_uniform_backward(ones, log_p).any()
    dq, dp = kl_categorical_backward(ones, log_p, log_p)
    assert not dq.any() and not dp.any()


def test_entropy_and_kl_keep_types_and_leave_their_inputs():
    def call(dtype):
        q, p, v = LOG_Q.astype(dtype), LOG_P.astype(dtype), RNG.normal(size=(2, 3)).astype(dtype)
        kept = q.copy(), p.copy(), v.copy()
        out = [entropy(q), entropy_backward(v, q), kl_uniform(q), kl_uniform_backward(v, q), kl_categorical(q, p),
               *kl_categorical_backward(v, q, p)]
        assert all((a == b).all() for a, b in zip(kept, (q, p, v)))
        return out

    check_dtypes(call)


def test_kl_of_posterior_and_prior_in_the_same_layout():
    """A prior laid out as [K, D] under a posterior of [D, K] passes shapes when D = K; its value gives it away."""
    q = log_softmax(RNG.normal(size=(1, 3, 3)))
    assert not kl_categorical(q, q[0]).any()
    assert kl_categorical(q, log_softmax(q[0].T)).sum() > 0.1
    for d, k in itertools.product(range(3), range(3)):              # moving one prior entry moves one row
        moved = q[0].copy()
        moved[d, k] += 0.5
        assert (kl_categorical(q, moved)[0] != kl_categorical(q, q[0])[0]).nonzero()[0].tolist() in ([d], [])


@pytest.mark.parametrize("dtype, tolerance", [("float64", 1e-12), ("float32", 1e-5)])
def test_entropy_and_kl_agree_with_torch(torch, dtype, tolerance):
    q, p, v = Q.astype(dtype), P.astype(dtype), RNG.normal(size=(2, 3)).astype(dtype)
    tq, tp = (torch.tensor(a, requires_grad=True) for a in (q, p))
    one, other = (torch.distributions.Categorical(logits=t) for t in (tq, tp))
    h, kl = one.entropy(), torch.distributions.kl_divergence(one, other)
    close(entropy(log_softmax(q)), h.detach().numpy(), tolerance)
    close(kl_categorical(log_softmax(q), log_softmax(p)), kl.detach().numpy(), tolerance)
    (dh,) = torch.autograd.grad(h, tq, torch.tensor(v), retain_graph=True)
    dq, dp = torch.autograd.grad(kl, (tq, tp), torch.tensor(v))
    close(entropy_backward(v, log_softmax(q)), dh.numpy(), tolerance)
    got = kl_categorical_backward(v, log_softmax(q), log_softmax(p))
    close(got[0], dq.numpy(), tolerance)
    close(got[1].sum(0), dp.numpy(), tolerance)
