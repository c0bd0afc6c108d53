"""Elementwise activations; each backward reads the output, which determines the derivative."""
import numpy as np

from npdvae.types import Array

LEAK = 0.01                                     # PyTorch's default negative slope


def relu(x: Array) -> Array:
    """max(x, 0), any shape. The branch tests the real part, so complex steps pass through."""
    return x * (x.real > 0)


def relu_backward(dy: Array, y: Array) -> Array:
    """Adjoint of `relu`; y is its output. The derivative at 0 is 0."""
    return dy * (y.real > 0)


def leaky_relu(x: Array) -> Array:
    """x where x > 0, else LEAK * x; any shape."""
    return x * slope(x)


def leaky_relu_backward(dy: Array, y: Array) -> Array:
    """Adjoint of `leaky_relu`; y is its output. The derivative at 0 is LEAK."""
    return dy * slope(y)


def slope(x: Array) -> Array:
    """Derivative of `leaky_relu`: 1 where x > 0, else LEAK; any shape."""
    return np.maximum(x.real > 0, x.dtype.type(LEAK))


def tanh(x: Array) -> Array:
    """Hyperbolic tangent, any shape."""
    return np.tanh(x)


def tanh_backward(dy: Array, y: Array) -> Array:
    """Adjoint of `tanh`; y is its output."""
    return dy * (1 - y * y)
