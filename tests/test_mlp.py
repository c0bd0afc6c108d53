"""First parameters of a perceptron, by number; the layers themselves are tested with whole steps. Share: 1 s."""
import math

import numpy as np
import pytest

from npdvae import backends
from npdvae.mlp import MLP


class Counted:
    """Uniform numbers that say which they are: sample, example and place among them."""

    def __init__(self):
        self.calls = 0

    def uniform(self, shape):
        self.calls += 1
        n = np.arange(math.prod(shape)) % 97
        return ((n + 10 * self.calls) / 200).reshape(shape)


@pytest.mark.parametrize("kind, scale", [("pytorch", lambda n, m: n ** -0.5), ("he", lambda n, m: math.sqrt(6 / n)),
                                         ("glorot", lambda n, m: math.sqrt(6 / (n + m)))])
def test_parameters_are_drawn_within_their_scale(kind, scale):
    """Weight [in, out] from -scale to scale, the bias likewise for pytorch and 0 for others; two calls a layer."""
    sizes = (3, 5, 2)
    found = MLP("some", sizes, "relu", backends.load("numpy"), kind).init(Counted(), np.float64)
    assert sorted(found) == ["some.0.bias", "some.0.weight", "some.1.bias", "some.1.weight"]
    for i, (n, m) in enumerate(zip(sizes[:-1], sizes[1:])):
        u = ((np.arange(n * m) + 10 * (2 * i + 1)) / 200).reshape(n, m)
        v = (np.arange(m) + 10 * (2 * i + 2)) / 200
        bias = scale(n, m) * (2 * v - 1) if kind == "pytorch" else np.zeros(m)
        assert np.abs(found[f"some.{i}.weight"] - scale(n, m) * (2 * u - 1)).max() <= 1e-15
        assert np.abs(found[f"some.{i}.bias"] - bias).max() <= 1e-15


def test_a_gradient_at_the_input_is_formed_where_it_is_asked_for():
    draw, net = np.random.default_rng(0), MLP("some", (3, 5, 2), "relu", backends.load("numpy"))
    params = net.init(Counted(), np.float64)
    y, kept = net.forward(params, draw.normal(size=(4, 3)))
    dy = draw.normal(size=y.shape)
    (none, grads), (dx, same) = net.backward(params, kept, dy), net.backward(params, kept, dy, need_dx=True)
    assert none is None and dx.shape == (4, 3) and all(np.array_equal(grads[k], v) for k, v in same.items())


def test_parameters_have_the_type_that_is_asked_for():
    for kind in ("pytorch", "glorot"):
        found = MLP("some", (3, 2), "tanh", backends.load("numpy"), kind).init(Counted(), np.float32)
        assert {v.dtype for v in found.values()} == {np.dtype("f4")}
