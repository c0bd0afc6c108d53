"""Activations. Share: 2 s."""
import numpy as np
import pytest

from npdvae.ops.activations import LEAK, leaky_relu, leaky_relu_backward, relu, relu_backward, tanh, tanh_backward
from npdvae.verify import check_adjoint
from tests.checks import DTYPES, check_dtypes, close

PAIRS = [(relu, relu_backward), (leaky_relu, leaky_relu_backward), (tanh, tanh_backward)]
RNG = np.random.default_rng(2)
X = RNG.normal(size=(3, 7))
X = X + np.sign(X) * 0.05                       # off the kink by more than the difference quotient reaches


@pytest.mark.parametrize("forward, backward", PAIRS)
def test_activation_backward_is_the_adjoint(forward, backward):
    check_adjoint(forward, lambda dy: backward(dy, forward(X)), X)


def test_activation_values_and_derivatives_at_the_kink():
    x = np.array([-2.0, -0.0, 0.0, 0.25, 3.0])
    close(relu(x), np.array([0, 0, 0, 0.25, 3.0]), 0)
    close(leaky_relu(x), np.array([-2 * LEAK, 0, 0, 0.25, 3.0]), 1e-16)
    dy = np.array([1.5, -2.0, 2.5, 0.5, -3.0])
    close(relu_backward(dy, relu(x)), np.array([0, 0, 0, 0.5, -3.0]), 0)
    close(leaky_relu_backward(dy, leaky_relu(x)), np.array([1.5, -2.0, 2.5, 50.0, -300.0]) * 0.01, 1e-16)
    close(tanh(x), (np.exp(x) - np.exp(-x)) / (np.exp(x) + np.exp(-x)), 1e-15)
    assert LEAK == 0.01


@pytest.mark.parametrize("forward, backward", PAIRS)
def test_activation_keeps_types_and_leaves_its_inputs(forward, backward):
    def call(dtype):
        x, dy = X.astype(dtype), RNG.normal(size=X.shape).astype(dtype)
        y = forward(x)
        kept = x.copy(), y.copy(), dy.copy()
        out = [y, backward(dy, y)]
        assert all((a == b).all() for a, b in zip(kept, (x, y, dy)))
        return out

    check_dtypes(call)


@pytest.mark.parametrize("forward, backward", PAIRS)
@pytest.mark.parametrize("dtype", DTYPES[:2])
def test_activation_passes_nan_on_and_takes_large_values(forward, backward, dtype):
    assert np.isnan(forward(np.array([np.nan], dtype))).all()
    y = forward(np.array([1e4, -1e4, np.finfo(dtype).max], dtype))
    assert np.isfinite(y).all() and np.isfinite(backward(np.ones(3, dtype), y)).all()


def test_activation_branches_test_the_real_part():
    step = np.array([2 + 1e-20j, -2 + 1e-20j, 2 - 1e-20j, -2 - 1e-20j, 1e-20j, -1e-20j])
    close(relu(step).imag * 1e20, np.array([1.0, 0, -1, 0, 0, 0]), 1e-15)
    close(leaky_relu(step).imag * 1e20, np.array([1, LEAK, -1, -LEAK, LEAK, -LEAK]), 1e-15)
    close(relu_backward(np.ones(6), step), np.array([1.0, 0, 1, 0, 0, 0]), 0)


@pytest.mark.parametrize("dtype, tolerance", [("float64", 1e-12), ("float32", 1e-5)])
@pytest.mark.parametrize("forward, backward", PAIRS)
def test_activation_agrees_with_torch(torch, forward, backward, dtype, tolerance):
    x, dy = np.append(X, 0.0).astype(dtype), RNG.normal(size=X.size + 1).astype(dtype)
    t = torch.tensor(x, requires_grad=True)
    y = getattr(torch.nn.functional, forward.__name__)(t)
    y.backward(torch.tensor(dy))
    close(forward(x), y.detach().numpy(), tolerance)
    close(backward(dy, forward(x)), t.grad.numpy(), tolerance)
