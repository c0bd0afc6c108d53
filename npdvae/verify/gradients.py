"""Two independent witnesses of a gradient, and the adjoint test; all in float64."""
import numpy as np


def complex_step(f, x, h=1e-20):
    """Jacobian of an analytic f by complex steps, exact to rounding: x any shape -> [*f(x).shape, *x.shape].

    f must let complex numbers through; its branches test real parts. Source: Squire & Trapp 1998.
    """
    x, columns = np.asarray(x, np.float64), []
    for i in np.ndindex(x.shape):
        step = x.astype(np.complex128)
        step[i] += 1j * h
        columns.append(np.imag(f(step)) / h)                        # f(x).shape
    return np.stack(columns, -1).reshape(np.shape(columns[0]) + x.shape)


def finite_differences(f, x, h=1e-3):
    """Jacobian by central differences of fourth order (5 points): x any shape -> [*f(x).shape, *x.shape].

    The step is h * max(1, |x|); keep kinks two steps away.
    """
    x, columns = np.asarray(x, np.float64), []
    for i in np.ndindex(x.shape):
        size = h * max(1.0, abs(x[i]))
        total = 0.0
        for k, weight in ((-2, 1 / 12), (-1, -8 / 12), (1, 8 / 12), (2, -1 / 12)):
            moved = x.copy()
            moved[i] += k * size
            total = total + weight * np.asarray(f(moved))           # f(x).shape
        columns.append(total / size)
    return np.stack(columns, -1).reshape(np.shape(columns[0]) + x.shape)


def dot_test(f, backward, x, u, v, h=1e-20):
    """Relative gap between <v, J u> and <J^T v, u>, zero for an exact adjoint: x, u alike, v like f(x) -> float.

    backward(v) is J^T v. The scale is the sum of the absolute products.
    """
    forward = np.imag(f(x + 1j * h * u)) / h                        # J u, like f(x)
    back = backward(v)                                              # J^T v, like x
    scale = max(np.abs(v * forward).sum(), np.abs(back * u).sum(), np.finfo(float).tiny)
    return float(abs((v * forward).sum() - (back * u).sum()) / scale)
