"""Affine layers on rows and on codes. Share: 3 s."""
import numpy as np
import pytest

from npdvae.ops.categorical import one_hot
from npdvae.ops.linear import code_linear, code_linear_backward, linear, linear_backward
from npdvae.verify import check_adjoint
from tests.checks import check_dtypes, close

RNG = np.random.default_rng(1)
X, W, B = RNG.normal(size=(2, 3, 4)), RNG.normal(size=(4, 5)), RNG.normal(size=5)
CODES, CW, CB = RNG.integers(0, 4, (4, 2, 3)), RNG.normal(size=(12, 5)), RNG.normal(size=5)   # D = 3, K = 4


def test_linear_is_the_sum_it_says():
    y = linear(X, W, B)
    for s, b, o in np.ndindex(y.shape):
        close(y[s, b, o], sum(X[s, b, i] * W[i, o] for i in range(4)) + B[o], 1e-14, 10)


def test_linear_backward_is_the_adjoint_for_each_argument():
    check_adjoint(lambda x: linear(x, W, B), lambda dy: linear_backward(dy, X, W)[0], X)
    check_adjoint(lambda w: linear(X, w, B), lambda dy: linear_backward(dy, X, W)[1], W)
    check_adjoint(lambda b: linear(X, W, b), lambda dy: linear_backward(dy, X, W)[2], B)


@pytest.mark.parametrize("shape", [(2, 3), (2, 1), (1, 3)])
def test_linear_weights_reach_the_parameters_only(shape):
    weights, dy = RNG.random(shape), RNG.normal(size=(2, 3, 5))
    dx, dw, db = linear_backward(dy, X, W, weights)
    close(dx, linear_backward(dy, X, W)[0], 0, 1)
    check_adjoint(lambda w: linear(X, w, B) * weights[..., None], lambda v: linear_backward(v, X, W, weights)[1], W)
    _, expected_dw, expected_db = linear_backward(weights[..., None] * dy, X, W)
    close(dw, expected_dw, 1e-15)
    close(db, expected_db, 1e-15)


def test_linear_backward_leaves_out_what_is_not_needed():
    dx, dw, db = linear_backward(RNG.normal(size=(2, 3, 5)), X, W, need_dx=False)
    assert dx is None and dw.shape == W.shape and db.shape == B.shape


def test_code_linear_is_linear_on_one_hot_rows():
    rows = one_hot(CODES, 4, np.float64)                            # [4, 2, D, K]
    close(code_linear(CODES, CW, CB), linear(rows.reshape(4, 2, 12), CW, CB), 1e-15)


def test_code_linear_backward_is_the_adjoint_for_each_argument():
    rows = one_hot(CODES, 4, np.float64).reshape(4, 2, 12)
    check_adjoint(lambda x: linear(x, CW, CB),
                  lambda dy: code_linear_backward(dy, CODES, CW, need_dx=True)[0].reshape(rows.shape), rows)
    check_adjoint(lambda w: code_linear(CODES, w, CB), lambda dy: code_linear_backward(dy, CODES, CW)[1], CW)
    check_adjoint(lambda b: code_linear(CODES, CW, b), lambda dy: code_linear_backward(dy, CODES, CW)[2], CB)


@pytest.mark.parametrize("shape", [(4, 2), (4, 1)])
def test_code_linear_weights_reach_the_parameters_only(shape):
    weights, dy = RNG.random(shape), RNG.normal(size=(4, 2, 5))
    got = code_linear_backward(dy, CODES, CW, weights, need_dx=True)
    unweighted = code_linear_backward(dy, CODES, CW, need_dx=True)
    weighted = code_linear_backward(weights[..., None] * dy, CODES, CW)
    close(got[0], unweighted[0], 0, 1)
    close(got[1], weighted[1], 1e-15)
    close(got[2], weighted[2], 1e-15)
    assert weighted[0] is None


@pytest.mark.parametrize("D, K", [(1, 1), (1, 3), (3, 1)])
def test_code_linear_of_one_latent_or_one_category(D, K):
    codes, weight = RNG.integers(0, K, (2, 3, D)), RNG.normal(size=(D * K, 2))
    rows = one_hot(codes, K, np.float64).reshape(2, 3, D * K)
    close(code_linear(codes, weight, CB[:2]), linear(rows, weight, CB[:2]), 1e-15)
    dy = RNG.normal(size=(2, 3, 2))
    close(code_linear_backward(dy, codes, weight)[1], linear_backward(dy, rows, weight)[1], 1e-15)


def test_linear_keeps_types_and_leaves_its_inputs():
    def call(dtype):
        x, w, b, dy = (a.astype(dtype) for a in (X, W, B, RNG.normal(size=(2, 3, 5))))
        before = [a.copy() for a in (x, w, b, dy)]
        out = [linear(x, w, b), *linear_backward(dy, x, w), *linear_backward(dy, x, w, np.ones((2, 3), dtype))]
        assert all((a == old).all() for a, old in zip((x, w, b, dy), before))
        return out

    def call_codes(dtype):
        w, b, dy = CW.astype(dtype), CB.astype(dtype), RNG.normal(size=(4, 2, 5)).astype(dtype)
        out = [code_linear(CODES, w, b), *code_linear_backward(dy, CODES, w, need_dx=True)]
        assert (b == CB.astype(dtype)).all() and (w == CW.astype(dtype)).all()
        return out

    check_dtypes(call)
    check_dtypes(call_codes)


def test_linear_in_float32_stays_within_its_rounding_bound():
    x, w, b = (RNG.normal(size=shape).astype(np.float32) for shape in ((50, 300), (300, 20), (20,)))
    exact = linear(x.astype(float), w.astype(float), b.astype(float))
    close(linear(x, w, b), exact, 302 * 2.0 ** -24, linear(abs(x).astype(float), abs(w).astype(float), abs(b)))


@pytest.mark.parametrize("dtype, tolerance", [("float64", 1e-12), ("float32", 1e-5)])
def test_linear_agrees_with_torch(torch, dtype, tolerance):
    x, w, b, dy = (a.astype(dtype) for a in (X, W, B, RNG.normal(size=(2, 3, 5))))
    tx, tw, tb = (torch.tensor(a, requires_grad=True) for a in (x, w, b))
    ty = torch.nn.functional.linear(tx, tw.T, tb)
    ty.backward(torch.tensor(dy))
    close(linear(x, w, b), ty.detach().numpy(), tolerance)
    for got, t in zip(linear_backward(dy, x, w), (tx, tw, tb)):
        close(got, t.grad.numpy(), tolerance)
