"""Elementwise activations in one pass, forward and backward; flat float32 arrays."""
import numpy as np

from npdvae.kernels.cpu import elementary
from npdvae.kernels.cpu.compiler import CONTRACT, kernel

f4 = np.float32
LEAK = f4(0.01)


@kernel(CONTRACT)
def relu(x, y):
    for i in range(x.size):
        y[i] = x[i] if x[i] > f4(0) else x[i] * f4(0)       # NaN stays NaN


@kernel(CONTRACT)
def relu_backward(dy, y, dx):
    for i in range(dy.size):
        dx[i] = dy[i] if y[i] > f4(0) else f4(0)


@kernel(CONTRACT)
def leaky_relu(x, y):
    for i in range(x.size):
        y[i] = x[i] if x[i] > f4(0) else x[i] * LEAK


@kernel(CONTRACT)
def leaky_relu_backward(dy, y, dx):
    for i in range(dy.size):
        dx[i] = dy[i] if y[i] > f4(0) else dy[i] * LEAK


@kernel(CONTRACT)
def tanh(x, y):
    for i in range(x.size):
        y[i] = elementary.tanh(x[i])


@kernel(CONTRACT)
def tanh_backward(dy, y, dx):
    for i in range(dy.size):
        dx[i] = dy[i] * (f4(1) - y[i] * y[i])
